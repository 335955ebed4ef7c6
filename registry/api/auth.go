package api

import (
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"strings"
)

// Settings control access over TCP. The unix socket needs none: the kernel reports the caller.
type Settings struct {
	TokenFile    string // file with the bearer tokens; empty: no token is accepted
	AuthOptional bool   // callers on this host's loopback need no token
	// TrustProxyAuth is for a reverse proxy on this host that authenticates its callers itself.
	// Without it a request with a proxy's headers (Forwarded, X-Forwarded-For, X-Real-IP) is not
	// treated as local, since it may come from any host. It grants nothing by itself: it only
	// applies AuthOptional to such requests.
	TrustProxyAuth bool
	// Certificate and key in PEM, for listeners that other hosts reach; empty: none.
	CertFile, KeyFile string
	InsecurePublic    bool // such a listener needs no TLS
	// HostNames are names, in small letters, that callers over TCP may send in Host beside those of
	// the loopback, of this machine and of the certificate.
	HostNames []string
}

// access is what a route requires and what a caller has.
type access int

const (
	accessRefused access = iota - 1 // not even what needs nothing
	accessNone                      // nothing but a connection
	accessRead                      // status
	accessDetails                   // also log lines, and engines' command lines and environment
	accessWrite                     // anything that changes what runs
)

// journalGroups are the groups whose members may read the system's journal (journalctl(1), ACCESS
// CONTROL): the details of a failure are in it.
func journalGroups() []string { return []string{"systemd-journal", "adm", "wheel"} }

// Group is the system group whose members may do everything over the unix socket.
const Group = "pool-managerd"

// gate is Settings with the tokens loaded. It is replaced as a whole.
type gate struct {
	settings Settings
	tokens   tokens
	cert     *tls.Certificate // nil: none
	machine  string           // the name of this host, in small letters; empty: unknown
	group    groupLookup
	readers  []groupLookup // of the journal
}

// newGate returns the gate without tokens.
func newGate(settings Settings) *gate {
	g := &gate{settings: settings, group: lookupGroup(Group)}
	if name, err := os.Hostname(); err == nil { // without it, one name fewer is known
		g.machine = strings.ToLower(name)
	}
	for _, name := range journalGroups() {
		g.readers = append(g.readers, lookupGroup(name))
	}
	return g
}

// Apply applies settings and reads the files of tokens and of the certificate again. On an error
// the former settings stay. It returns a *BindError if a listener is reachable from other hosts and
// would be without what that needs.
func (s *Server) Apply(settings Settings) error {
	g := newGate(settings)
	if settings.TokenFile != "" {
		list, err := readTokens(settings.TokenFile)
		if err != nil {
			return err
		}
		if info, err := os.Stat(settings.TokenFile); err == nil && info.Mode().Perm()&0o004 != 0 {
			s.log.Warn("the token file is readable by all users; remove that with chmod o-rwx", "file",
				settings.TokenFile)
		}
		g.tokens = list
	}
	if settings.CertFile != "" {
		cert, err := readCertificate(settings.CertFile, settings.KeyFile)
		if err != nil {
			return err
		}
		g.cert = cert
		s.warnOfExpiry(settings.CertFile, cert)
	}
	if missing := g.missing(); missing != "" && s.exposed.Load() {
		return &BindError{missing: missing}
	}
	s.auth.Store(g)
	return nil
}

// plainCause is the error without the path, which the message already has.
func plainCause(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// bearer returns the token of the Authorization header (RFC 6750 2.1; the scheme's case does not
// matter).
func bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	token = strings.TrimSpace(token)
	return token, token != ""
}
