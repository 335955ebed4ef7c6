package hostconfig

import (
	"log/slog"
	"regexp"

	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
)

// Auth configures who may call over TCP.
type Auth struct {
	TokenFile  string // empty: no token
	Optional   bool   // loopback callers need none
	TrustProxy bool   // a proxy in front has checked the caller
	CertFile   string // of listeners that other hosts reach; empty: none
	KeyFile    string
	Insecure   bool     // such a listener needs no TLS
	HostNames  []string // by which callers over TCP may name this server, in small letters
}

// Formats of the log.
const (
	FormatAuto    = "auto"    // journal where standard error is the journal, else json
	FormatJSON    = "json"    // one object a line to standard error
	FormatJournal = "journal" // native journal fields
)

// Log is the table [log].
type Log struct {
	Level  string // debug, info, warn, error
	Format string // one of the formats above
}

// Slog returns the level as log/slog has it.
func (l Log) Slog() slog.Level {
	switch l.Level {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// Metrics is the table [metrics].
type Metrics struct {
	Enabled   bool // GET /metrics is served
	OTelNames bool // what engines count has OpenTelemetry's names too
}

func schema() strict.Schema[Settings] {
	keys := strict.Lift("", config.HostKeys(), func(s *Settings) *config.Host { return &s.Host })
	keys = append(keys, authKeys()...)
	keys = append(keys, strict.Lift("log", logKeys(), func(s *Settings) *Log { return &s.Log })...)
	keys = append(keys, strict.Lift("metrics", metricsKeys(), func(s *Settings) *Metrics { return &s.Metrics })...)
	keys = append(keys, fleetKeys()...)
	return strict.Schema[Settings]{Keys: keys, Page: "pool-managerd.toml(5)", Misplaced: config.HostMisplaced()}
}

// rules lifts the rules of the pools' part.
func rules() []func(*Settings, *strict.Report) {
	var lifted []func(*Settings, *strict.Report)
	for _, rule := range config.HostRules() {
		lifted = append(lifted, func(s *Settings, r *strict.Report) { rule(&s.Host, r) })
	}
	return append(lifted, certificateHasKey, orchestratorReachesBack, etcdIsComplete, peersAreKnown)
}

// certificateHasKey: neither is of use without the other.
func certificateHasKey(s *Settings, r *strict.Report) {
	if r.Failed("tls_cert_file", "tls_key_file") {
		return
	}
	switch {
	case s.Auth.CertFile != "" && s.Auth.KeyFile == "":
		r.Rule("there is no tls_key_file beside it", "", "Name the file of its private key.", "tls_cert_file")
	case s.Auth.KeyFile != "" && s.Auth.CertFile == "":
		r.Rule("there is no tls_cert_file beside it", "", "Name the file of its certificate.", "tls_key_file")
	}
}

func authKeys() []strict.Key[Settings] {
	return []strict.Key[Settings]{
		{Path: "auth_token_file", Default: "none", Type: strict.ToString("path", "an absolute path", strict.Absolute, func(s *Settings) *string { return &s.Auth.TokenFile }),
			Doc: "File that holds the bearer tokens of callers over TCP, one a line: `TOKEN [name=NAME] [scope=read|write] [pools=ID,ID]`. It must be readable by root and should not be readable by other users. A reload reads it again."},
		{Path: "auth_optional", Default: "false", Type: strict.ToBool(func(s *Settings) *bool { return &s.Auth.Optional }),
			Doc: "Callers on the loopback need no token: every user of this host may then do everything."},
		{Path: "trust_proxy_auth", Default: "false", Type: strict.ToBool(func(s *Settings) *bool { return &s.Auth.TrustProxy }),
			Doc: "A proxy in front of the API has checked who calls. It must pass the name of a loopback address, an address, or one of `host_names` in Host."},
		{Path: "host_names", Default: "none", Type: strict.ToList(hostNamesAllowed, hostNameWrong, func(s *Settings) *[]string { return &s.Auth.HostNames }),
			Doc: "Names that callers over TCP without a token may send in `Host`, beside localhost, addresses, the host's own name and those of the certificate. Any other name is refused, since a web page could have made it resolve to this host. A reload changes it."},
		{Path: "tls_cert_file", Default: "none", Type: strict.ToString("path", "an absolute path", strict.Absolute, func(s *Settings) *string { return &s.Auth.CertFile }),
			Doc: "Certificate, with its chain, of listeners that other hosts reach, in PEM. A reload reads it again. The unix sockets and listeners on the loopback have no TLS."},
		{Path: "tls_key_file", Default: "none", Type: strict.ToString("path", "an absolute path", strict.Absolute, func(s *Settings) *string { return &s.Auth.KeyFile }),
			Doc: "Private key of `tls_cert_file`, unencrypted, in PEM. Only root should be able to read it."},
		{Path: "insecure_public", Default: "false", Type: strict.ToBool(func(s *Settings) *bool { return &s.Auth.Insecure }),
			Doc: "A listener that other hosts reach may be without TLS: tokens can be read on the network, unless another program encrypts. A token is needed all the same."},
	}
}

const hostNamesAllowed = "host names in small letters, without port, as \"pools.example.org\""

var hostNamePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

// hostNameWrong is what is wrong with a host name; empty: nothing.
func hostNameWrong(name string) string {
	if len(name) > 253 || !hostNamePattern.MatchString(name) {
		return "is not a host name in small letters"
	}
	return ""
}

func logKeys() []strict.Key[Log] {
	return []strict.Key[Log]{
		{Path: "level", Default: `"info"`, Type: strict.ToWord([]string{"debug", "info", "warn", "error"}, func(l *Log) *string { return &l.Level }),
			Doc: "The least important lines that are written. `debug` shows each decision with its rule. A reload changes it."},
		{Path: "format", Default: `"auto"`, Type: strict.ToWord([]string{FormatAuto, FormatJSON, FormatJournal}, func(l *Log) *string { return &l.Format }),
			Doc: "`json` is one object a line on standard error, `journal` is native fields of the journal, `auto` is `journal` where standard error is the journal. A reload changes it."},
	}
}

func metricsKeys() []strict.Key[Metrics] {
	return []strict.Key[Metrics]{
		{Path: "enabled", Default: "true", Type: strict.ToBool(func(m *Metrics) *bool {
			return &m.Enabled
		}), Doc: "Serve `GET /metrics`. A change takes effect at the manager's next start."},
		{Path: "otel_names", Default: "false", Type: strict.ToBool(func(m *Metrics) *bool {
			return &m.OTelNames
		}), Doc: "Serve what engines count under the names of OpenTelemetry's conventions for generative AI, too. A " +
			"change takes effect at the manager's next start."},
	}
}
