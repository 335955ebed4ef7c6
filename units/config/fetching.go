package config

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/egress"
)

// Values of peers.
const (
	PeersNone  = "none"  // a model comes from its source
	PeersFleet = "fleet" // from a host of etcd that has it, where one has
)

// egressWords are the values of egress.
var egressWords = []string{egress.Deny, egress.Fetch, egress.Allow}

// egressType reads egress. It was a boolean, which many files still have.
func egressType() strict.Type[Policy] {
	allowed := strict.OneOf(egressWords)
	words := strict.ToWord(egressWords, func(p *Policy) *string { return &p.Egress })
	return strict.Type[Policy]{Name: "string", Allowed: allowed, Set: func(p *Policy, v *strict.Value, at strict.At) {
		switch {
		case v.Kind == strict.Bool && v.Bool:
			p.Egress = egress.Fetch
		case v.Kind == strict.Bool:
			p.Egress = egress.Deny
		default:
			words.Set(p, v, at)
		}
	}}
}

// hostPattern is the check of an entry of allowed_hosts.
func hostPattern(s string) string {
	name := strings.TrimPrefix(s, "*.")
	if _, err := netip.ParseAddr(name); err == nil && name == s {
		return ""
	}
	switch {
	case strings.Contains(s, "://") || strings.ContainsAny(s, "/:@"):
		return "is not a host name: it has no scheme, port or path"
	case name == "" || len(name) > 253 || strings.Contains(name, ".."):
		return "is not a host name"
	}
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	if slices.ContainsFunc(labels, func(l string) bool { return !label(l) }) {
		return `is not a host name, or "*." and one`
	}
	return ""
}

// label reports whether a text may be between the dots of a host name.
func label(s string) bool {
	return s != "" && len(s) <= 63 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// region is the check of s3_region.
func region(s string) string {
	if !label(s) {
		return "is no name of a region"
	}
	return ""
}

// Fetching returns the settings of downloads.
func (h Host) Fetching() egress.Settings {
	return egress.Settings{CacheDir: h.Provisioning.CacheDir, Endpoint: h.Provisioning.HFEndpoint,
		TokenFile: h.Provisioning.HFTokenFile, MaxBytes: h.Provisioning.SizeBudgetBytes, Egress: h.Policy.Egress,
		Programs: h.Provisioning.Programs, AllowedHosts: h.Policy.AllowedHosts,
		RegistryAuth: h.Provisioning.RegistryAuth,
		Peers:        h.Provisioning.Peers == PeersFleet, PeersToken: h.Provisioning.PeersToken,
		PeersCA: h.Provisioning.PeersCA,
		Store: egress.Store{Endpoint: h.Provisioning.S3Endpoint, Region: h.Provisioning.S3Region,
			Credentials: h.Provisioning.S3Credentials}}
}
