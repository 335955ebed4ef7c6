package hostconfig

import (
	"log/slog"
	"time"

	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
)

// Auth configures who may call over TCP.
type Auth struct {
	TokenFile  string // empty: no token
	Optional   bool   // loopback callers need none
	TrustProxy bool   // a proxy in front has checked the caller
}

// Formats of the log.
const (
	FormatAuto    = "auto"    // journal under systemd, else json
	FormatJSON    = "json"    // one object a line to standard error
	FormatJournal = "journal" // native journal fields
)

// Log is the table [log].
type Log struct {
	Level  string // debug, info, warn, error
	Format string // one of the formats above; nothing reads it yet
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
	Enabled bool // GET /metrics is served; nothing reads it yet
}

// Etcd is the table [etcd], the fleet view. Nothing is published in this version.
type Etcd struct {
	Endpoints    []string
	Prefix       string
	TTL          time.Duration
	Username     string
	PasswordFile string
	CAFile       string
	CertFile     string
	KeyFile      string
}

const (
	defaultTTL = 10 * time.Second
	later      = "accepted, without effect in this version"
)

func schema() strict.Schema[Settings] {
	keys := strict.Lift("", config.HostKeys(), func(s *Settings) *config.Host { return &s.Host })
	keys = append(keys, authKeys()...)
	keys = append(keys, strict.Lift("log", logKeys(), func(s *Settings) *Log { return &s.Log })...)
	keys = append(keys, strict.Lift("metrics", metricsKeys(), func(s *Settings) *Metrics { return &s.Metrics })...)
	keys = append(keys, strict.Lift("etcd", etcdKeys(), func(s *Settings) *Etcd { return &s.Etcd })...)
	return strict.Schema[Settings]{Keys: keys, Page: "pool-managerd.toml(5)", Misplaced: config.HostMisplaced()}
}

// rules lifts the rules of the pools' part.
func rules() []func(*Settings, *strict.Report) {
	var lifted []func(*Settings, *strict.Report)
	for _, rule := range config.HostRules() {
		lifted = append(lifted, func(s *Settings, r *strict.Report) { rule(&s.Host, r) })
	}
	return lifted
}

func authKeys() []strict.Key[Settings] {
	return []strict.Key[Settings]{
		{Path: "auth_token_file", Default: "none", Type: strict.ToString("path", "an absolute path", strict.Absolute, func(s *Settings) *string { return &s.Auth.TokenFile }),
			Doc: "File that holds the bearer token of callers over TCP. It must be readable by root and should not be readable by other users."},
		{Path: "auth_optional", Default: "false", Type: strict.ToBool(func(s *Settings) *bool { return &s.Auth.Optional }),
			Doc: "Callers on the loopback need no token: every user of this host may then do everything."},
		{Path: "trust_proxy_auth", Default: "false", Type: strict.ToBool(func(s *Settings) *bool { return &s.Auth.TrustProxy }),
			Doc: "A proxy in front of the API has checked who calls."},
	}
}

func logKeys() []strict.Key[Log] {
	return []strict.Key[Log]{
		{Path: "level", Default: `"info"`, Type: strict.ToWord([]string{"debug", "info", "warn", "error"}, func(l *Log) *string { return &l.Level }),
			Doc: "The least important lines that are written. `debug` shows each decision with its rule. A reload changes it."},
		{Path: "format", Default: `"auto"`, Type: strict.ToWord([]string{FormatAuto, FormatJSON, FormatJournal}, func(l *Log) *string { return &l.Format }), Later: later,
			Doc: "`json` is one object a line on standard error, `journal` is native fields of the journal, `auto` is `journal` where standard error is the journal."},
	}
}

func metricsKeys() []strict.Key[Metrics] {
	return []strict.Key[Metrics]{
		{Path: "enabled", Default: "true", Type: strict.ToBool(func(m *Metrics) *bool {
			return &m.Enabled
		}), Doc: "Serve `GET /metrics`. A change takes effect at the manager's next start."},
	}
}

func etcdKeys() []strict.Key[Etcd] {
	file := func(get func(*Etcd) *string) strict.Type[Etcd] {
		return strict.ToString("path", "an absolute path", strict.Absolute, get)
	}
	return []strict.Key[Etcd]{
		{Path: "endpoints", Default: "[]", Later: later, Type: strict.ToURLs(func(e *Etcd) *[]string { return &e.Endpoints }),
			Doc: "The members of the cluster to which the state of this host's pools is published."},
		{Path: "prefix", Default: `"/pool-managerd/"`, Later: later, Type: strict.ToString("string", `a prefix of keys as "/pool-managerd/"`, prefix, func(e *Etcd) *string { return &e.Prefix }),
			Doc: "Prefix of each key."},
		{Path: "ttl", Default: `"10s"`, Later: later, Type: strict.ToDuration(time.Second, time.Hour, func(e *Etcd) *time.Duration { return &e.TTL }),
			Doc: "How long after this host's last update its keys expire."},
		{Path: "username", Later: later, Type: strict.ToString("string", "a name", strict.OneLine, func(e *Etcd) *string { return &e.Username }), Doc: "User of the cluster."},
		{Path: "password_file", Later: later, Type: file(func(e *Etcd) *string { return &e.PasswordFile }), Doc: "File that holds the user's password."},
		{Path: "ca_file", Later: later, Type: file(func(e *Etcd) *string { return &e.CAFile }), Doc: "Certificates of the authorities that sign the members' certificates."},
		{Path: "cert_file", Later: later, Type: file(func(e *Etcd) *string { return &e.CertFile }), Doc: "Certificate of this host."},
		{Path: "key_file", Later: later, Type: file(func(e *Etcd) *string { return &e.KeyFile }), Doc: "Private key of that certificate."},
	}
}

func prefix(s string) string {
	if len(s) < 2 || s[0] != '/' || s[len(s)-1] != '/' {
		return "does not begin and end with /"
	}
	return strict.OneLine(s)
}
