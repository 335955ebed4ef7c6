package render

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"slices"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// identity holds the inputs whose change requires a new process. It is built from the configuration
// and what it was resolved to, never from rendered text: an upgrade of this program that renders a
// line differently changes no hash and restarts nothing. Zero values are omitted, so a new key
// changes no hash of a pool that does not use it.
type identity struct {
	Engine       string            `json:"engine"`
	Binary       string            `json:"binary"`
	Args         []string          `json:"args,omitempty"`
	Env          map[string]string `json:"env,omitempty"`
	Model        string            `json:"model,omitempty"`
	Digest       string            `json:"digest,omitempty"`
	Contents     string            `json:"contents,omitempty"`
	Devices      []string          `json:"devices,omitempty"`
	Port         int               `json:"port"`
	Ctx          int               `json:"ctx,omitempty"`
	Slots        int               `json:"slots,omitempty"`
	TensorSplit  []float64         `json:"tensor_split,omitempty"`
	HealthPath   string            `json:"health_path,omitempty"`
	HealthProbe  string            `json:"health_probe,omitempty"`
	HealthBody   string            `json:"health_body,omitempty"`
	GRPCService  string            `json:"grpc_service,omitempty"`
	StartTimeout int64             `json:"start_timeout_ms,omitempty"`
	StartLimit   int64             `json:"start_deadline_ms,omitempty"`
	Restart      restartIdentity   `json:"restart,omitzero"`
	Shm          uint64            `json:"shm_bytes,omitempty"`
	Allow        []string          `json:"allow,omitempty"`
	Writable     []string          `json:"writable,omitempty"`
	Files        []string          `json:"files,omitempty"`
	APIKeyFile   string            `json:"api_key_file,omitempty"`
	EnvFiles     []string          `json:"env_file,omitempty"` // in their order: later ones win
	Process      processIdentity   `json:"process,omitzero"`
	Network      string            `json:"network,omitempty"`
	GPUProof     string            `json:"gpu_proof,omitempty"` // empty for the default
	Image        string            `json:"image,omitempty"`     // its digest
	Runtime      string            `json:"runtime,omitempty"`   // empty for the default
}

// restartIdentity is the part of [restart] that PID 1 implements. It leaves out what the manager
// implements (reset_after, class_factor, storms, the breaker's times). class_factor changes the
// start limit's interval too, but a running unit may keep its old one.
type restartIdentity struct {
	Initial  int64   `json:"initial_ms,omitempty"`
	Factor   float64 `json:"factor,omitempty"`
	Max      int64   `json:"max_ms,omitempty"`
	Jitter   float64 `json:"jitter,omitempty"`
	Failures int     `json:"breaker_failures,omitempty"`
	Window   int64   `json:"breaker_window_ms,omitempty"`
	OnExit   string  `json:"on_exit,omitempty"` // empty for the default
}

// processIdentity is pool.Process as the hash has it.
type processIdentity struct {
	MemlockBytes uint64 `json:"memlock_bytes,omitempty"`
	OpenFiles    uint64 `json:"nofile,omitempty"`
	Nice         int    `json:"nice,omitempty"`
	NUMAPolicy   string `json:"numa_policy,omitempty"`
	NUMANodes    string `json:"numa_nodes,omitempty"`
}

// SpecHash returns "<identity>-<limits>", two times 12 hexadecimal digits of a SHA-256. Units whose
// first halves differ need a new process; where only the second differs, LimitProperties on the
// running unit are enough. The model's digest is the one in the pool file: a computed digest would
// change the hash of a running engine when it becomes known.
func SpecHash(in Input) string {
	return digest(identityOf(in)) + "-" + digest(in.Pool.Limits)
}

func identityOf(in Input) identity {
	p, r := in.Pool, in.Pool.Restart
	id := identity{
		Engine:       p.Engine,
		Binary:       in.Prepared.Binary,
		Args:         p.Args,
		Env:          p.Env,
		Model:        in.Staged.Path,
		Digest:       p.ModelDigest,
		Contents:     p.Contents,
		Port:         in.Port,
		StartTimeout: p.Health.StartTimeout.Milliseconds(),
		StartLimit:   p.Health.StartDeadline.Milliseconds(),
		Shm:          p.Sandbox.ShmBytes,
		Allow:        inOrder(p.Sandbox.Allow),
		Writable:     inOrder(p.Writable),
		Files:        inOrder(p.Files),
		APIKeyFile:   p.APIKeyFile,
		EnvFiles:     p.EnvFiles,
		Process:      processIdentity(p.Process),
		Network:      p.Sandbox.Network, // not what it defaults to: an upgrade may change that
		Restart: restartIdentity{
			Initial: r.Initial.Milliseconds(), Factor: r.Factor, Max: r.Max.Milliseconds(), Jitter: r.Jitter,
			Failures: r.BreakerFailures, Window: r.BreakerWindow.Milliseconds(),
		},
	}
	if r.OnExit != pool.ExitRestarts {
		id.Restart.OnExit = r.OnExit
	}
	if in.Prepared.Image != nil {
		id.Image = in.Prepared.Image.Digest
		if in.Prepared.ByPodman() {
			id.Runtime = pool.RuntimePodman
		}
		if in.Prepared.ByDocker() {
			id.Runtime = pool.RuntimeDocker
		}
	}
	if len(in.Mask) > 0 && p.GPUProof != pool.ProofAll {
		id.GPUProof = p.GPUProof
	}
	for _, d := range in.Mask {
		id.Devices = append(id.Devices, d.Visible) // resolved: an index may mean another GPU after a reboot
	}
	// The engine's default path, written explicitly, is not a change.
	if p.Health.Path != in.Adapter.HealthPath() {
		id.HealthPath = p.Health.Path
	}
	// The gate in the unit uses the same request as the probe.
	if otherProbe(p) {
		id.HealthProbe, id.HealthPath, id.GRPCService = p.Health.Probe, "", p.Health.GRPCService
	} else {
		id.HealthBody = p.Health.Body
	}
	// These three count only if the engine's command line contains them.
	if onCommandLine(in, func(p *pool.Pool) { p.Ctx++ }) {
		id.Ctx = p.Ctx
	}
	if onCommandLine(in, func(p *pool.Pool) { p.Slots++ }) {
		id.Slots = p.Slots
	}
	if onCommandLine(in, func(p *pool.Pool) { p.TensorSplit = append([]float64{0.5}, p.TensorSplit...) }) {
		id.TensorSplit = p.TensorSplit
	}
	return id
}

// inOrder returns a list whose order and repetitions mean nothing in one form. What the engine has
// by itself stays in it: which that is may change with an upgrade of this program.
func inOrder(list []string) []string {
	sorted := slices.Sorted(slices.Values(list))
	return slices.Compact(sorted)
}

// onCommandLine reports whether a change of the pool shows in the engine's arguments or
// environment.
func onCommandLine(in Input, change func(*pool.Pool)) bool {
	at, other := instance(in), in.Pool
	change(&other)
	return !reflect.DeepEqual(in.Adapter.Command(in.Pool, at), in.Adapter.Command(other, at))
}

// digest returns 12 hexadecimal digits of the value's hash. JSON keeps the order of fields and
// sorts the keys of maps.
func digest(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		// Only a NaN or an infinite number gets here, which no pool file can hold.
		text = []byte(err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}
