package api

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
)

// Settings control access over TCP. The unix socket needs none: the kernel reports the caller.
type Settings struct {
	TokenFile    string // file with the bearer token; empty: no token is accepted
	AuthOptional bool   // callers on this host's loopback need no token
	// TrustProxyAuth is for a reverse proxy on this host that authenticates its callers itself.
	// Without it a request with a proxy's headers (Forwarded, X-Forwarded-For, X-Real-IP) is not
	// treated as local, since it may come from any host. It grants nothing by itself: it only
	// applies AuthOptional to such requests.
	TrustProxyAuth bool
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

// tokenLimit bounds a token file, in bytes.
const tokenLimit = 4096

// gate is Settings with the token loaded. It is replaced as a whole.
type gate struct {
	settings Settings
	hasToken bool
	token    [sha256.Size]byte // SHA-256 of the token: comparing hashes of one length leaks nothing
	group    groupLookup
	readers  []groupLookup // of the journal
}

// newGate returns the gate without a token.
func newGate(settings Settings) *gate {
	g := &gate{settings: settings, group: lookupGroup(Group)}
	for _, name := range journalGroups() {
		g.readers = append(g.readers, lookupGroup(name))
	}
	return g
}

// Apply applies settings and reads the token file again. On an error the former settings stay. It
// returns a *BindError if a listener is reachable from other hosts and there would be no token.
func (s *Server) Apply(settings Settings) error {
	g := newGate(settings)
	if settings.TokenFile != "" {
		token, err := readToken(settings.TokenFile)
		if err != nil {
			return err
		}
		if info, err := os.Stat(settings.TokenFile); err == nil && info.Mode().Perm()&0o004 != 0 {
			s.log.Warn("the token file is readable by all users; remove that with chmod o-rwx", "file",
				settings.TokenFile)
		}
		g.hasToken, g.token = true, sha256.Sum256(token)
	} else if s.exposed.Load() {
		return &BindError{}
	}
	s.auth.Store(g)
	return nil
}

// readToken returns the only line of the file, without spaces around it.
func readToken(path string) ([]byte, error) {
	bad := func(why string) error {
		return registry.Fail(registry.CodeConfigInvalid, fmt.Sprintf("auth_token_file %s %s", path, why),
			"Write one line of random characters, as openssl rand -hex 32 prints, owned by root with mode 0600.")
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, bad("cannot be read: " + plainCause(err))
	}
	if !info.Mode().IsRegular() || info.Size() > tokenLimit {
		return nil, bad(fmt.Sprintf("is not a regular file of at most %d bytes", tokenLimit))
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, bad("cannot be read: " + plainCause(err))
	}
	token := bytes.TrimSpace(body)
	switch {
	case len(token) == 0:
		return nil, bad("is empty")
	case bytes.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, bad("contains more than one word, or characters that a header does not allow")
	}
	return token, nil
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

// proxyHeaders are the headers of requests that came through a proxy.
var proxyHeaders = [...]string{"Forwarded", "X-Forwarded-For", "X-Real-Ip"}

// fromThisHost reports whether a program on this host sent the request on its own behalf. A name in
// Host that is not a loopback name means that a web page made a local browser send it (DNS
// rebinding).
func (g *gate) fromThisHost(r *http.Request) bool {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !addr.Addr().Unmap().IsLoopback() {
		return false
	}
	if proxied(r) {
		return g.settings.TrustProxyAuth
	}
	return loopbackName(r.Host)
}

func loopbackName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761 6.3
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
