package hostconfig

import (
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/config/strict"
)

// Fleet is what of this host is published to others. The program pool-fleet does that; the manager
// itself opens no connection outside of the host.
type Fleet struct {
	AdvertiseURL string // of this host's API, for other hosts; empty: none
	Orchestrator Orchestrator
	Etcd         Etcd
}

// Wanted reports whether there is anyone to publish to.
func (f Fleet) Wanted() bool { return f.Orchestrator.URL != "" || len(f.Etcd.Endpoints) > 0 }

// Orchestrator is the table [orchestrator].
type Orchestrator struct {
	URL       string // empty: this host is registered nowhere
	TokenFile string // empty: no token
	CAFile    string // empty: the authorities that the host trusts
	NodeID    string // empty: the host's name
	Interval  time.Duration
}

// Etcd is the table [etcd].
type Etcd struct {
	Endpoints    []string // URLs of its members; none: this host is published nowhere
	Prefix       string   // of all keys
	TTL          time.Duration
	CAFile       string // empty: the authorities that the host trusts
	CertFile     string // of this host as a client; empty: none
	KeyFile      string
	Username     string // empty: none
	PasswordFile string
}

func fleetDefaults() Fleet {
	return Fleet{Orchestrator: Orchestrator{Interval: 10 * time.Second},
		Etcd: Etcd{Prefix: "/pool-managerd", TTL: 10 * time.Second}}
}

// fleetKeys are the keys of Fleet, with their tables.
func fleetKeys() []strict.Key[Settings] {
	keys := strict.Lift("orchestrator", orchestratorKeys(),
		func(s *Settings) *Orchestrator { return &s.Fleet.Orchestrator })
	keys = append(keys, strict.Lift("etcd", etcdKeys(), func(s *Settings) *Etcd { return &s.Fleet.Etcd })...)
	return append(keys, strict.Key[Settings]{Path: "advertise_url", Default: "none",
		Type: strict.ToURL(func(s *Settings) *string { return &s.Fleet.AdvertiseURL }),
		Doc: "Where other hosts reach this host's API, directly or through a proxy: " +
			"`https://gpu1.example.org:9200`. It is only published."})
}

func orchestratorKeys() []strict.Key[Orchestrator] {
	return []strict.Key[Orchestrator]{
		{Path: "url", Default: "none", Type: strict.ToURL(func(o *Orchestrator) *string { return &o.URL }),
			Doc: "Orchestrator that this host is registered at, with a heartbeat each `interval` and whenever a pool becomes ready or not. `pool-fleet` sends them."},
		{Path: "token_file", Default: "none", Type: strict.ToString("path", "an absolute path", strict.Absolute, func(o *Orchestrator) *string { return &o.TokenFile }),
			Doc: "File with the bearer token for the orchestrator, in one line. In `/etc/pool-managerd/fleet` it can be readable by root alone."},
		{Path: "ca_file", Default: "those of the host", Type: strict.ToString("path", "an absolute path", strict.Absolute, func(o *Orchestrator) *string { return &o.CAFile }),
			Doc: "Certificates, in PEM, one of which must have signed the orchestrator's."},
		{Path: "node_id", Default: "the host's name", Type: strict.ToString("string", "1 to 63 letters, digits, dots, dashes and underscores", nodeIDWrong, func(o *Orchestrator) *string { return &o.NodeID }),
			Doc: "Name of this host at the orchestrator. No two hosts may have the same."},
		{Path: "interval", Default: `"10s"`, Type: strict.ToDuration(time.Second, 5*time.Minute, func(o *Orchestrator) *time.Duration { return &o.Interval }),
			Doc: "Time between two heartbeats. An orchestrator takes a host without one for 30 seconds as gone."},
	}
}

// nodeIDWrong is what is wrong with a name of a node; empty: nothing.
func nodeIDWrong(id string) string {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	switch {
	case id == "" || len(id) > 63:
		return "has no or too many characters"
	case strings.ContainsFunc(id, func(r rune) bool { return !strings.ContainsRune(allowed, r) }):
		return "has another character"
	}
	return ""
}

// orchestratorReachesBack: an orchestrator places work over the address that is registered.
func orchestratorReachesBack(s *Settings, r *strict.Report) {
	if r.Failed("advertise_url", "orchestrator.url") || s.Fleet.Orchestrator.URL == "" || s.Fleet.AdvertiseURL != "" {
		return
	}
	r.Rule("there is no advertise_url beside it", "", "Write at the top of the file where the orchestrator reaches "+
		"this host's API: advertise_url = \"https://HOST:9200\"", "orchestrator.url")
}
