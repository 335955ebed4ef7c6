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
	"time"

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
	Store     Store
	// RegistryAuth has the credentials of registries in the form of auth.json; empty: none.
	RegistryAuth string
	MaxBytes     uint64 // of one model; 0: no bound
	Egress       string
	// AllowedHosts are names, or "*.name" for every name below; nil: those of the endpoints, and
	// those that the Hugging Face hub hands its files out from.
	AllowedHosts []string
	// Programs are those of the host's own, by the schemes of their references.
	Programs map[string]Program
	// Peers has other hosts of the fleet asked for files before their source is.
	Peers      bool
	PeersToken string // file; empty: none
	PeersCA    string // file; empty: the authorities that the host trusts
	Uses       string // directory with a note of when each model was last used; empty: none
}

// Program is a provisioner of the host's own: it fetches the models of one scheme.
type Program struct {
	Path        string
	Hosts       []string      // that it connects to, as allowed_hosts permits
	Files       []string      // paths that it reads beside what every service does
	Credentials string        // file; empty: none
	Silence     time.Duration // how long it may print no event
}

// Store is where s3: models come from.
type Store struct {
	Endpoint    string // URL; empty: there is none
	Region      string // empty: that of the endpoint
	Credentials string // file in the form of ~/.aws/credentials; empty: none
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
	var all []string
	for _, endpoint := range []string{s.Endpoint, s.Store.Endpoint} {
		u, err := url.Parse(endpoint)
		switch {
		case err != nil || u.Hostname() == "":
		case strings.EqualFold(u.Hostname(), hub):
			all = append(all, hubHosts...)
		default:
			all = append(all, strings.ToLower(u.Hostname()))
		}
	}
	return all
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

// EndpointOf returns the URL that a reference is asked for at; empty for one that has its host.
func (s *Settings) EndpointOf(ref modelref.Ref) string {
	switch ref.Scheme {
	case modelref.HF:
		return s.Endpoint
	case modelref.S3:
		return s.Store.Endpoint
	}
	return ""
}

// HostsOf returns the names of the hosts that a download of a reference connects to first.
func (s *Settings) HostsOf(ref modelref.Ref) ([]string, error) {
	if ref.Own() {
		return slices.Clone(s.Programs[ref.Scheme].Hosts), nil
	}
	return ref.Hosts(s.EndpointOf(ref))
}

// Credential is a file that only PID 1 reads, for the unit of a download.
type Credential struct {
	Name string // that the unit knows it by
	File string // empty: there is none
	Key  string // of config.toml
	Hint string // what to write into the file
}

// CredentialOf returns the credential of a reference. Its secret is for the source of that alone.
func (s *Settings) CredentialOf(ref modelref.Ref) Credential {
	switch ref.Scheme {
	case modelref.HF:
		return Credential{"token", s.TokenFile, "hf_token_file", "Write the token into it"}
	case modelref.S3:
		return Credential{"s3-credentials", s.Store.Credentials, "s3_credentials_file",
			"Write aws_access_key_id and aws_secret_access_key into it, as in ~/.aws/credentials"}
	case modelref.OCI, modelref.Image:
		return Credential{"registry-auth", s.RegistryAuth, "registry_auth_file",
			"Write it with podman login --authfile"}
	}
	if p := s.Programs[ref.Scheme]; ref.Own() {
		return Credential{"credentials", p.Credentials, "programs." + ref.Scheme + ".credentials_file",
			"Write into it what " + p.Path + " reads"}
	}
	return Credential{}
}

// Refuse returns why the host's policy forbids a download; nil if it does not.
func (s *Settings) Refuse(ref modelref.Ref) *registry.Failure {
	if s.Egress != Fetch && s.Egress != Allow {
		return registry.Fail(registry.CodePolicyDenied,
			fmt.Sprintf("the %s is not in the cache %s, and this host downloads nothing", What(ref), s.CacheDir),
			fmt.Sprintf(`Set egress = "fetch" under [policy] in %s, and reload.`, PolicyFile))
	}
	if ref.Scheme == modelref.S3 && s.Store.Endpoint == "" {
		return registry.Fail(registry.CodeConfigInvalid,
			fmt.Sprintf("the model %s has no store: s3_endpoint is not set", ref),
			`Set s3_endpoint = "https://s3.REGION.amazonaws.com", or that of another store, under [provisioning] in `+
				PolicyFile+", and reload.")
	}
	if _, there := s.Programs[ref.Scheme]; ref.Own() && !there {
		return registry.Fail(registry.CodeConfigInvalid,
			fmt.Sprintf("the model %s has an unknown scheme: no program is set for it", ref),
			fmt.Sprintf("Correct the scheme, or set programs.%s = \"/path/of/the/program\" under [provisioning] "+
				"in %s, and reload.", ref.Scheme, PolicyFile))
	}
	hosts, err := s.HostsOf(ref)
	if err != nil {
		return registry.Fail(registry.CodeConfigInvalid, err.Error(),
			"Correct hf_endpoint and s3_endpoint under [provisioning] in "+PolicyFile+".")
	}
	hosts = slices.DeleteFunc(hosts, s.Allows)
	if len(hosts) > 0 {
		return s.Denied(ref, hosts...)
	}
	return nil
}

// What is what a reference refers to, for messages: "model hf:…", or "image …" as a pool file names
// it.
func What(ref modelref.Ref) string {
	if ref.Scheme == modelref.Image {
		return "image " + strings.TrimPrefix(ref.String(), modelref.Image+":")
	}
	return "model " + ref.String()
}

// Denied is the refusal of hosts.
func (s *Settings) Denied(ref modelref.Ref, hosts ...string) *registry.Failure {
	line := fmt.Sprintf("%q", append(slices.Clone(s.allowed()), hosts...))
	line = strings.ReplaceAll(line, `" "`, `", "`)
	return registry.Fail(registry.CodePolicyDenied,
		fmt.Sprintf("the %s needs a connection to %s, which this host does not allow", What(ref),
			strings.Join(hosts, " and ")),
		fmt.Sprintf("Set allowed_hosts = %s under [policy] in %s, and reload.", line, PolicyFile))
}
