package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

// Host is the part of config.toml that pools depend on.
type Host struct {
	// RequireGPU refuses pools without devices.
	RequireGPU bool
	// PortLow and PortHigh bound the ports, both included, that replicas of pools without a port
	// get.
	PortLow, PortHigh int
	// Defaults is what each pool file starts from: the built-in defaults and [defaults].
	Defaults pool.Pool
	// SurviveSoftReboot lets engines keep running over a soft-reboot, where PID 1 can do that.
	SurviveSoftReboot bool
	Policy            Policy
	Provisioning      Provisioning
}

// Policy is the table [policy].
type Policy struct {
	Egress              string   // of downloads: one of egress.Deny and its like
	AllowedHosts        []string // that downloads connect to; nil: those of hf_endpoint
	AllowedModelSources []string // prefixes of model references; nil: any
	AllowedBinaries     []string // absolute paths, or folders ending in "/"; nil: any
	AllowedImages       []string // prefixes of image references; nil: none
	AllowedRelaxations  []string // names of relaxations of the sandbox that pool files may allow; nil: any
	AllowAgentTools     bool     // engines may be given tools that run programs
	AllowDocker         bool     // docker may run engines
	AllowedWritable     []string // absolute paths, or folders ending in "/", that engines may write to; nil: any
	VRAMOnly            bool     // engines that leave more of a model to the CPU than the pool asks for are refused
	AllowPreload        bool     // POST /pools/{id}/preload is served
}

// Provisioning is the table [provisioning] of config.toml.
type Provisioning struct {
	CacheDir        string
	ModelRoot       string
	HFEndpoint      string
	HFTokenFile     string
	S3Endpoint      string
	S3Region        string
	S3Credentials   string // file
	RegistryAuth    string // file
	SizeBudgetBytes uint64
	Share           bool                      // the cache is handed out by the API
	Peers           string                    // PeersNone or PeersFleet
	PeersToken      string                    // file
	PeersCA         string                    // file
	Programs        map[string]egress.Program // of the host's own, by the scheme that they fetch
}

// DefaultHost returns the settings of an empty config.toml.
func DefaultHost() Host {
	return Host{
		RequireGPU: true, PortLow: 21000, PortHigh: 21999, Defaults: builtin(),
		Policy: Policy{Egress: egress.Deny},
		Provisioning: Provisioning{CacheDir: "/var/cache/pool-managerd/models", HFEndpoint: "https://huggingface.co",
			Peers: PeersNone},
	}
}

// HostKeys are the rows of config.toml that fill a Host; cmd/hostconfig adds the manager's own.
func HostKeys() []strict.Key[Host] {
	keys := []strict.Key[Host]{
		{Path: "require_gpu", Default: "true", Type: strict.ToBool(func(h *Host) *bool { return &h.RequireGPU }),
			Doc: "Refuse pools whose `devices` is empty with `POLICY_DENIED`. Set it to `false` on a host that is meant to run engines on its CPUs."},
		{Path: "port_range", Default: `"21000-21999"`, Type: portRange(),
			Doc: "Ports on 127.0.0.1 for the replicas of pools that name no `port`, first and last included; each is chosen at random."},
		{Path: "survive_soft_reboot", Default: "false", Type: strict.ToBool(func(h *Host) *bool { return &h.SurviveSoftReboot }),
			Doc: "Engines keep running over `systemctl soft-reboot` (systemd 255 or later). An engine has it from its next start on. File systems that are unmounted by the soft-reboot take the engines with them whose model or binary they hold."},
	}
	keys = append(keys, strict.Lift("defaults", sharedKeys(), func(h *Host) *pool.Pool { return &h.Defaults })...)
	keys = append(keys, strict.Lift("policy", policyKeys(), func(h *Host) *Policy { return &h.Policy })...)
	return append(keys, strict.Lift("provisioning", provisioningKeys(), func(h *Host) *Provisioning {
		return &h.Provisioning
	})...)
}

func policyKeys() []strict.Key[Policy] {
	return []strict.Key[Policy]{
		{Path: "egress", Default: `"deny"`, Type: egressType(),
			Doc: "Whether models are downloaded: `deny` never; `fetch` from the hosts of `allowed_hosts`; `allow` from any host. A download is a unit of its own, which reaches those hosts and nothing else; engines reach none, whatever is set here. `false` and `true`, as in former versions, are `deny` and `fetch`."},
		{Path: "allowed_hosts", Default: "the hosts of `hf_endpoint` and `s3_endpoint`; of huggingface.co, also `*.huggingface.co` and `*.hf.co`",
			Type: strict.ToList(`host names, or "*.example.org" for all below`, hostPattern, func(p *Policy) *[]string { return &p.AllowedHosts }),
			Doc:  "The hosts that downloads may connect to, redirects included. A model that needs another is refused with `POLICY_DENIED`."},
		{Path: "allowed_model_sources", Default: "any",
			Type: strict.ToList(`beginnings of model references, as "file:/srv/models/"`, modelSource, func(p *Policy) *[]string { return &p.AllowedModelSources }),
			Doc:  "What a pool's `model` may begin with, and `file:` with the path of each other file of weights that its `args`, `env` and `files` name: projectors, adapters, control vectors, draft models, tokenizers. Other pools are refused with `POLICY_DENIED`."},
		{Path: "allowed_binaries", Default: "any",
			Type: strict.ToList(`absolute paths, folders with a "/" at the end`, strict.Absolute, func(p *Policy) *[]string { return &p.AllowedBinaries }),
			Doc:  "Which engine binaries may run: an absolute path, or a folder with a `/` at its end. What is executed decides, not a link that leads to it ([Policy](../policy.md#which-binaries)); other pools are refused with `POLICY_DENIED`."},
		{Path: "allowed_images", Default: "none",
			Type: strict.ToList("beginnings of image references", strict.OneLine, func(p *Policy) *[]string { return &p.AllowedImages }),
			Doc:  "Which container images may run: a repository as `ghcr.io/org/name`, of which each tag and digest may, or the beginning of several, as `ghcr.io/org/`. Other pools are refused with `POLICY_DENIED`."},
		{Path: "allowed_relaxations", Default: "any",
			Type: strict.ToList(strict.OneOf(relax.Names()), relaxation, func(p *Policy) *[]string { return &p.AllowedRelaxations }),
			Doc:  "What a pool file may relax of the sandbox by `[sandbox] allow`; other pools are refused with `POLICY_DENIED`. `[limits] memlock` counts as `mlock`. What an engine's kind needs by itself is not refused."},
		{Path: "allow_agent_tools", Default: "false", Type: strict.ToBool(func(p *Policy) *bool { return &p.AllowAgentTools }),
			Doc: "Pools may give their engines tools (`--tools`, `--agent`, `--mcp-servers-config`, `--mcp-servers-json`, `--ui-mcp-proxy`, `--tools-runtime`, and their variables; `--tool-server`), by which every caller of the engine runs programs in its unit. Other pools are refused with `POLICY_DENIED`."},
		{Path: "allow_docker", Default: "false", Type: strict.ToBool(func(p *Policy) *bool { return &p.AllowDocker }),
			Doc: "Docker may run engines (`[provisioning] runtime = \"docker\"`), whose units may then connect to docker's socket, which makes them root of this host. Other pools are refused with `POLICY_DENIED`."},
		{Path: "allowed_writable", Default: "any",
			Type: strict.ToList(`absolute paths, folders with a "/" at the end`, strict.Absolute, func(p *Policy) *[]string { return &p.AllowedWritable }),
			Doc:  "What a pool's `writable` may name: an absolute path, or a folder with a `/` at its end. Other pools are refused with `POLICY_DENIED`."},
		{Path: "vram_only", Default: "false", Type: strict.ToBool(func(p *Policy) *bool { return &p.VRAMOnly }),
			Doc: "An engine that logs that it left layers of a model to the CPU (`offloaded 10/33 layers to GPU`) does not become ready: `GPU_UNAVAILABLE`. A pool whose own arguments ask for that (`-ngl 10`, `-ngld 0`; `--cpu-moe`, `--n-cpu-moe` and `-ot` leave tensors, not layers) is not refused. An engine has it from its next start on. CUDA's unified memory needs the relaxation `unified-memory`, which `allowed_relaxations` may refuse."},
		{Path: "allow_preload", Default: "false", Type: strict.ToBool(func(p *Policy) *bool { return &p.AllowPreload }),
			Doc: "Other programs that may write to the API can start pools by `POST /v1/pools/{id}/preload`, of binaries that `allowed_binaries` names: without that key, none. When it is set to `false`, pools that were started so are drained and stopped. See [Preload](../preload.md)."},
	}
}

func provisioningKeys() []strict.Key[Provisioning] {
	const path = "an absolute path"
	return []strict.Key[Provisioning]{
		{Path: "cache_dir", Default: `"/var/cache/pool-managerd/models"`, Doc: "Directory of downloaded models, in the layout of Hugging Face's tools: a cache that they filled is used as it is.",
			Type: strict.ToString("path", path, strict.Absolute, func(p *Provisioning) *string { return &p.CacheDir })},
		{Path: "model_root", Doc: "Directory of models that an administrator installed: `model = \"file:llama/a.gguf\"` of a pool file is `llama/a.gguf` below it. Without it, paths must be absolute.",
			Type: strict.ToString("path", path, strict.Absolute, func(p *Provisioning) *string { return &p.ModelRoot })},
		{Path: "hf_endpoint", Default: `"https://huggingface.co"`, Doc: "Where `hf:` models come from.",
			Type: strict.ToURL(func(p *Provisioning) *string { return &p.HFEndpoint })},
		{Path: "hf_token_file", Doc: "File that holds the token for `hf_endpoint`. Only PID 1 reads it, for the unit of a download.",
			Type: strict.ToString("path", path, strict.Absolute, func(p *Provisioning) *string { return &p.HFTokenFile })},
		{Path: "s3_endpoint", Default: "none", Doc: "The store that `s3:` models come from: `https://s3.REGION.amazonaws.com`, or that of another store. The bucket is a part of the path.",
			Type: strict.ToURL(func(p *Provisioning) *string { return &p.S3Endpoint })},
		{Path: "s3_region", Default: "that of `s3_endpoint`, else us-east-1", Doc: "The region that requests to `s3_endpoint` are signed for.",
			Type: strict.ToString("string", "a name", region, func(p *Provisioning) *string { return &p.S3Region })},
		{Path: "s3_credentials_file", Doc: "File that holds the keys for `s3_endpoint`, in the form of `~/.aws/credentials`. Without it, requests are not signed. Only PID 1 reads it, for the unit of a download.",
			Type: strict.ToString("path", path, strict.Absolute, func(p *Provisioning) *string { return &p.S3Credentials })},
		{Path: "registry_auth_file", Doc: "File that holds the credentials for registries of `oci:` models and of images, as `podman login --authfile` writes it (containers-auth.json(5)). Only PID 1 reads it, for the unit of a download.",
			Type: strict.ToString("path", path, strict.Absolute, func(p *Provisioning) *string { return &p.RegistryAuth })},
		{Path: "programs.*", Default: "none", Type: programType(),
			Doc: "A program that fetches models of a scheme of this host's own: with `programs.nas = \"/usr/libexec/nas-provisioner\"`, pools may name `model = \"nas:NAME\"`. As a table `[provisioning.programs.nas]` it has the keys `path`, `hosts` and `files` (what it may reach and read), `credentials_file` and `silence` (the longest time without an event, 30 minutes). `egress`, `allowed_hosts`, `allowed_model_sources` and `allowed_binaries` hold for it. See [Provisioners](../provisioners.md#a-provisioner-of-your-own)."},
		{Path: "size_budget", Default: "none", Doc: "Size to which `poolctl models prune` reduces `cache_dir`. A model that is larger is not downloaded.",
			Type: strict.ToSize(1<<20, 1<<60, func(p *Provisioning) *uint64 { return &p.SizeBudgetBytes })},
		{Path: "share", Default: "false", Type: strict.ToBool(func(p *Provisioning) *bool { return &p.Share }),
			Doc: "The API hands out the files of `cache_dir` by their digests, `GET /v1/artifacts/sha256:…`, to callers with a token: other hosts take models from here. See [Models](../models.md#from-another-host-of-the-fleet)."},
		{Path: "peers", Default: `"none"`, Type: strict.ToWord([]string{PeersNone, PeersFleet}, func(p *Provisioning) *string { return &p.Peers }),
			Doc: "Whose cache a download asks before the source of a model: `fleet`, the hosts in the etcd of `[etcd]` that have the model and that `allowed_hosts` allows; `none`. What comes from them is compared with the digest that the source has of it."},
		{Path: "peers_token_file", Doc: "File that holds the token, of scope `read`, for the API of the hosts that `peers` means. It is sent with https alone. Only PID 1 reads it, for the unit of a download.",
			Type: strict.ToString("path", path, strict.Absolute, func(p *Provisioning) *string { return &p.PeersToken })},
		{Path: "peers_ca_file", Default: "the authorities that the host trusts", Doc: "Certificates, in PEM, by which the API of those hosts is recognised. Only PID 1 reads it, for the unit of a download.",
			Type: strict.ToString("path", path, strict.Absolute, func(p *Provisioning) *string { return &p.PeersCA })},
	}
}

// Ports outside this range are not for engines: lower ones are the system's.
const (
	minPort = 1024
	maxPort = 65535
)

func portRange() strict.Type[Host] {
	allowed := fmt.Sprintf(`"LOW-HIGH" inside %d-%d`, minPort, maxPort)
	return strict.Type[Host]{Name: "string", Allowed: allowed, Set: func(h *Host, v *strict.Value, at strict.At) {
		var low, high int
		s, ok := strict.Text(v, at, allowed, func(s string) string {
			a, b, found := strings.Cut(s, "-")
			var errA, errB error
			low, errA = strconv.Atoi(a)
			high, errB = strconv.Atoi(b)
			switch {
			case !found || errA != nil || errB != nil:
				return "is not a range"
			case low > high:
				return "ends before it begins"
			case low < minPort || high > maxPort:
				return "is outside of the allowed ports"
			}
			return ""
		})
		if ok && s != "" {
			h.PortLow, h.PortHigh = low, high
		}
	}}
}

// modelSource is the check of an entry of allowed_model_sources.
func modelSource(s string) string {
	scheme, _, found := strings.Cut(s, ":")
	if !found || !known(scheme) && modelref.OwnScheme(scheme) != "" {
		return "does not begin with a scheme of models (file:, hf:, https:, s3:, oci:)"
	}
	return strict.OneLine(s)
}

// HostRules are the rules between the keys of HostKeys.
func HostRules() []func(*Host, *strict.Report) {
	return []func(*Host, *strict.Report){
		func(h *Host, r *strict.Report) { limitsOrdered(&h.Defaults, r, "defaults.") },
		func(h *Host, r *strict.Report) { nodesFit(&h.Defaults.Process, r, "defaults.") },
		programsWhole,
	}
}

// HostMisplaced explains keys of one pool that people write into config.toml.
func HostMisplaced() map[string]string {
	misplaced := make(map[string]string)
	for _, k := range sharedKeys() {
		first, _, _ := strings.Cut(k.Path, ".")
		misplaced[first] = "As a default for all pools it belongs under [defaults]; otherwise write it in a pool's " +
			"file."
	}
	for _, k := range identityKeys() {
		misplaced[k.Path] = "It belongs to one pool: write it in that pool's file."
		misplaced["defaults."+k.Path] = misplaced[k.Path]
	}
	return misplaced
}
