package hostconfig

import (
	"net/url"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
)

func etcdKeys() []strict.Key[Etcd] {
	path := func(field func(*Etcd) *string) strict.Type[Etcd] {
		return strict.ToString("path", "an absolute path", strict.Absolute, field)
	}
	return []strict.Key[Etcd]{
		{Path: "endpoints", Default: "none", Type: strict.ToURLs("URLs of members, as \"https://etcd1.example.org:2379\"", memberWrong, func(e *Etcd) *[]string { return &e.Endpoints }),
			Doc: "Members of an etcd in which this host and its pools are published, under a lease. `pool-fleet` does that; no engine, lease or request depends on it."},
		{Path: "prefix", Default: `"/pool-managerd"`, Type: strict.ToString("string", "a slash and letters, digits, dots, dashes, underscores and slashes, without one at the end", prefixWrong, func(e *Etcd) *string { return &e.Prefix }),
			Doc: "What all keys begin with. Hosts with the same one are one fleet."},
		{Path: "ttl", Default: `"10s"`, Type: strict.ToDuration(5*time.Second, 5*time.Minute, func(e *Etcd) *time.Duration { return &e.TTL }),
			Doc: "Time after which a host that died or is cut off is no longer there. Parts of a second are dropped."},
		{Path: "ca_file", Default: "those of the host", Type: path(func(e *Etcd) *string { return &e.CAFile }),
			Doc: "Certificates, in PEM, one of which must have signed those of the members."},
		{Path: "cert_file", Default: "none", Type: path(func(e *Etcd) *string { return &e.CertFile }),
			Doc: "Certificate of this host as a client, in PEM. Its common name is the user of etcd."},
		{Path: "key_file", Default: "none", Type: path(func(e *Etcd) *string { return &e.KeyFile }),
			Doc: "Private key of `cert_file`, unencrypted, in PEM. In `/etc/pool-managerd/fleet` it can be readable by root alone."},
		{Path: "username", Default: "none", Type: strict.ToString("string", "a name without control characters", userWrong, func(e *Etcd) *string { return &e.Username }),
			Doc: "User of etcd, where that has passwords."},
		{Path: "password_file", Default: "none", Type: path(func(e *Etcd) *string { return &e.PasswordFile }),
			Doc: "File with the password of `username`, in one line. In `/etc/pool-managerd/fleet` it can be readable by root alone."},
	}
}

// memberWrong is what is wrong with the URL of a member; empty: nothing.
func memberWrong(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "is not a URL"
	case u.Port() == "":
		return "has no port; etcd's is 2379"
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "has more than host and port"
	}
	return ""
}

// prefixWrong is what is wrong with the prefix of keys; empty: nothing.
func prefixWrong(s string) string {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/"
	switch {
	case len(s) < 2 || len(s) > 200 || s[0] != '/' || strings.HasSuffix(s, "/") || strings.Contains(s, "//"):
		return "is not such a prefix"
	case strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(allowed, r) }):
		return "has another character"
	}
	return ""
}

// userWrong is what is wrong with the name of a user of etcd; empty: nothing.
func userWrong(s string) string {
	if s == "" {
		return "is empty"
	}
	return strict.OneLine(s)
}

// etcdIsComplete: keys that have no effect without another one.
func etcdIsComplete(s *Settings, r *strict.Report) {
	e := &s.Fleet.Etcd
	for _, need := range []struct{ key, has, other, lacks, hint string }{
		{"etcd.cert_file", e.CertFile, "etcd.key_file", e.KeyFile, "Name the file of its private key."},
		{"etcd.key_file", e.KeyFile, "etcd.cert_file", e.CertFile, "Name the file of its certificate."},
		{"etcd.username", e.Username, "etcd.password_file", e.PasswordFile, "Name the file of its password."},
		{"etcd.password_file", e.PasswordFile, "etcd.username", e.Username, "Name the user of etcd."},
	} {
		if need.has != "" && need.lacks == "" && !r.Failed(need.key, need.other) {
			r.Rule("there is no "+strings.TrimPrefix(need.other, "etcd.")+" beside it", "", need.hint, need.key)
		}
	}
	if r.Failed("etcd.endpoints") {
		return
	}
	secure := 0
	for _, member := range e.Endpoints {
		if strings.HasPrefix(member, "https:") {
			secure++
		}
	}
	switch {
	case secure != 0 && secure != len(e.Endpoints):
		r.Rule("some members have https:// and some http://", "", "A client connects to all of them in one way.",
			"etcd.endpoints")
	case len(e.Endpoints) > 0 && secure == 0 && e.CertFile != "" && !r.Failed("etcd.cert_file"):
		r.Rule("has no effect: the endpoints have no TLS", "", "Let endpoints begin with https://.", "etcd.cert_file")
	}
}

// peersAreKnown: keys about other hosts' caches that have no effect without another one.
func peersAreKnown(s *Settings, r *strict.Report) {
	p := s.Host.Provisioning
	if r.Failed("provisioning.peers", "etcd.endpoints") {
		return
	}
	if p.Peers == config.PeersFleet {
		if len(s.Fleet.Etcd.Endpoints) == 0 {
			r.Rule("there is no [etcd] beside it", "", "Name the members of the etcd that has the hosts of the fleet: "+
				"[etcd] endpoints.", "provisioning.peers")
		}
		return
	}
	for _, need := range []struct{ key, has string }{{"provisioning.peers_token_file", p.PeersToken},
		{"provisioning.peers_ca_file", p.PeersCA}} {
		if need.has != "" && !r.Failed(need.key) {
			r.Rule("has no effect: no other host is asked", "", `Set peers = "fleet" beside it.`, need.key)
		}
	}
}
