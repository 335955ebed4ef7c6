// Package egress decides what downloads may connect to, by the host's policy.
//
// It is pure: it neither resolves a name nor connects. It owns the words of the policy and the
// hints that name the line to change.
package egress

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// Values of [policy] egress.
const (
	Deny  = "deny"  // nothing is downloaded
	Fetch = "fetch" // downloads connect to the hosts of allowed_hosts
	Allow = "allow" // downloads connect to any host
)

// Settings are the host's, of config.toml.
type Settings struct {
	CacheDir  string
	Endpoint  string // of hf:
	TokenFile string // for Endpoint; empty: none
	MaxBytes  uint64 // of one model; 0: no bound
	Egress    string
	// AllowedHosts are names, or "*.name" for every name below; nil: Endpoint's and those that the
	// Hugging Face hub hands its files out from.
	AllowedHosts []string
	Uses         string // directory with a note of when each model was last used; empty: none
}

// PolicyFile is where the policy is.
const PolicyFile = "/etc/pool-managerd/config.toml"

// hub is the host whose files come from others, hubHosts are allowed where it is and no list is
// set.
const hub = "huggingface.co"

var hubHosts = []string{hub, "*.huggingface.co", "*.hf.co"}

// allowed are the patterns of hosts that may be connected to.
func (s *Settings) allowed() []string {
	if s.AllowedHosts != nil {
		return s.AllowedHosts
	}
	u, err := url.Parse(s.Endpoint)
	switch {
	case err != nil:
		return nil
	case strings.EqualFold(u.Hostname(), hub):
		return hubHosts
	}
	return []string{strings.ToLower(u.Hostname())}
}

// Allows reports whether the policy lets downloads connect to a host.
func (s *Settings) Allows(host string) bool {
	switch s.Egress {
	case Allow:
		return true
	case Fetch:
		return slices.ContainsFunc(s.allowed(), func(pattern string) bool { return covers(pattern, host) })
	}
	return false
}

// covers reports whether a pattern of allowed_hosts is about a host.
func covers(pattern, host string) bool {
	pattern, host = strings.ToLower(pattern), strings.ToLower(host)
	if below, wild := strings.CutPrefix(pattern, "*"); wild {
		return strings.HasSuffix(host, below) && len(host) > len(below)
	}
	return pattern == host
}

// available are the sources that this version can download from.
var available = []string{modelref.HF, modelref.HTTPS}

// Refuse returns why the host's policy forbids a download; nil if it does not.
func (s *Settings) Refuse(ref modelref.Ref) *registry.Failure {
	if !slices.Contains(available, ref.Scheme) {
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("model %s: the source %q is not available in this version", ref, ref.Scheme),
			`Download the model by other means, and name the file: model = "file:/srv/models/…".`)
	}
	if s.Egress != Fetch && s.Egress != Allow {
		return registry.Fail(registry.CodePolicyDenied,
			fmt.Sprintf("the model %s is not in the cache %s, and this host downloads nothing", ref, s.CacheDir),
			fmt.Sprintf(`Set egress = "fetch" under [policy] in %s, and reload.`, PolicyFile))
	}
	hosts, err := ref.Hosts(s.Endpoint)
	if err != nil {
		return registry.Fail(registry.CodeConfigInvalid, err.Error(),
			"Correct hf_endpoint under [provisioning] in "+PolicyFile+".")
	}
	for _, host := range hosts {
		if !s.Allows(host) {
			return s.Denied(ref, host)
		}
	}
	return nil
}

// Denied is the refusal of a host.
func (s *Settings) Denied(ref modelref.Ref, host string) *registry.Failure {
	line := fmt.Sprintf("%q", append(slices.Clone(s.allowed()), host))
	line = strings.ReplaceAll(line, `" "`, `", "`)
	return registry.Fail(registry.CodePolicyDenied,
		fmt.Sprintf("the model %s needs a connection to %s, which this host does not allow", ref, host),
		fmt.Sprintf("Set allowed_hosts = %s under [policy] in %s, and reload.", line, PolicyFile))
}
