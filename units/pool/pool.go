// Package pool holds the desired state of one engine pool as plain data: what the operator
// wrote, validated, with every default filled in, and the small values that the steps from
// file to unit hand to each other.
//
// It owns the terms (pool, replica, mask, unit name), as data without behaviour. It must not read
// files, know TOML, or speak to PID 1.
package pool

import (
	"strings"
	"time"
)

// Provisioning modes that a pool file may name.
const (
	ModeBinary    = "binary"
	ModeContainer = "container"
	ModeExternal  = "external"
)

// Kinds of health probes that a pool file may name.
const (
	ProbeHTTP = "http"
	ProbeGRPC = "grpc" // grpc.health.v1
	ProbeTCP  = "tcp"  // a connection
)

// Health modes: what a probe failure past its threshold does to ready.
const (
	FailFast = "fail-fast" // ready goes false
	FailOpen = "fail-open" // ready stays, a warning is logged; for development
)

// Pool is one pool as the operator wants it. It is a value: a changed pool is a new one.
type Pool struct {
	ID     string // [a-z0-9][a-z0-9._-]{0,62}
	Source string // the file it was read from, for messages
	Engine string // one of engine.Kinds

	Model       Model
	ModelDigest string // "sha256:" and 64 hex digits, or empty
	// Contents identifies the files that the model was found to be: it belongs to the version, so
	// that replaced files are another version. Empty: not looked at yet.
	Contents string

	Replicas int        // ≥ 1
	Devices  [][]string // one mask per replica, as written; an empty mask is a CPU replica
	Shared   bool       // other pools that set it, too, may have the same devices
	Ctx      int        // context length in tokens, 0: the engine's own default
	Slots    int        // slots_total, 0: asked from the engine

	TensorSplit []float64
	Args        []string          // appended to the engine's own
	Env         map[string]string // added to the engine's environment
	EnvFiles    []string          // absolute paths of files with more of it, as EnvironmentFile= reads them
	VRAMBytes   uint64            // 0: estimated
	GPUProof    string            // one of Proofs; empty: ProofAll
	MemoryCheck string            // one of MemoryChecks; empty: MemoryRefuse, for a mapped model MemoryWarn
	Writable    []string          // absolute paths that the engine may write to
	Files       []string          // absolute paths that the engine sees read-only
	Prefetch    []string          // references of models that it will change to
	APIKeyFile  string            // absolute path of a file with the key that the engine asks for; empty: none

	// FileEnv is what EnvFiles held when they were read last. It is not a part of the version,
	// whose Contents identify the files, and it is not written to the disk.
	FileEnv map[string]FileVariable `json:"-"`

	// Port is the TCP port on 127.0.0.1 of replica r0 (r1 has Port+1, …); 0: one of port_range.
	Port int

	// StateMaxBytes bounds what a replica has in its state and its cache directory; 0: the default,
	// and disk.Off: no bound.
	StateMaxBytes uint64

	Provisioning Provisioning
	Limits       Limits
	Process      Process
	Health       Health
	Restart      Restart
	Drain        Drain
	Sandbox      Sandbox
	Hints        Hints
}

// What proves that an engine uses its GPUs before it is ready: a process of its unit with memory on
// them.
const (
	ProofAll = "all" // on every device of the mask
	ProofAny = "any" // on one of them
	ProofOff = "off" // nothing: it may run on the CPU
)

// Proofs returns the values of gpu_proof.
func Proofs() []string { return []string{ProofAll, ProofAny, ProofOff} }

// What follows where an engine needs more main memory than there is.
const (
	MemoryRefuse = "refuse" // it is not started
	MemoryWarn   = "warn"   // it is started, with a line in the log
	MemoryOff    = "off"    // nothing is checked
)

// MemoryChecks returns the values of memory_check.
func MemoryChecks() []string { return []string{MemoryRefuse, MemoryWarn, MemoryOff} }

// AbsentContents are the Contents of a model of which a file is missing.
const AbsentContents = "absent"

// Model names the weights: a scheme and the rest, "file:/srv/models/a.gguf".
type Model string

// Scheme returns the part before the first colon ("file", "hf", …), or "" for an empty reference.
func (m Model) Scheme() string { s, _, _ := strings.Cut(string(m), ":"); return s }

// Path returns the part after the first colon.
func (m Model) Path() string { _, p, _ := strings.Cut(string(m), ":"); return p }

// What runs the image of a container.
const (
	RuntimeSystemd = "systemd" // PID 1, with the image as the root directory of the unit
	RuntimePodman  = "podman"  // podman in the unit
	RuntimeDocker  = "docker"  // docker's daemon, whose container is moved into the unit
)

// Where docker's daemon listens, and the group that may connect to it.
const (
	DockerSocket = "/run/docker.sock"
	DockerGroup  = "docker"
)

// Runtimes returns the values of Provisioning.Runtime.
func Runtimes() []string { return []string{RuntimeSystemd, RuntimePodman, RuntimeDocker} }

// Provisioning is where the engine comes from.
type Provisioning struct {
	Mode   string
	Binary string // absolute, or a name looked up on PATH; empty: the engine's usual name
	Image  string // container mode: host/name[:tag][@sha256:…]
	// Runtime is what runs the image: one of Runtimes; empty: RuntimeSystemd.
	Runtime string
	URL     string // external mode
	// Version of the engine, by who prepared it; used where the binary does not print one.
	Version string
}

// Limits are the cgroup limits of each replica. A nil pointer or zero value leaves the line out.
type Limits struct {
	MemoryMaxBytes  uint64 // MemoryMax=
	MemoryHighBytes uint64 // MemoryHigh=
	CPUQuotaPercent int    // CPUQuota=, percent of one CPU
	CPUs            string // AllowedCPUs=, as "0-3,8"
	CPUWeight       uint64 // CPUWeight=, 1..10000
	IOWeight        uint64 // IOWeight=, 1..10000
	TasksMax        uint64 // TasksMax=
}

// Policies of NUMA memory that a pool file may name.
const (
	NUMABind       = "bind"
	NUMAInterleave = "interleave"
	NUMAPreferred  = "preferred"
	NUMALocal      = "local"
)

// Process are the limits of the engine's process itself, which only a new process takes. They are
// keys of [limits], too. A zero value leaves the line out, or its default.
type Process struct {
	MemlockBytes uint64 // LimitMEMLOCK=
	OpenFiles    uint64 // LimitNOFILE=
	Nice         int    // Nice=, -20..19
	NUMAPolicy   string // NUMAPolicy=
	NUMANodes    string // NUMAMask=, as "0-1,3"
}

// Health configures the health probe.
type Health struct {
	Path         string        // empty: the engine's own
	Interval     time.Duration // between probes of a running replica
	Timeout      time.Duration // of one probe
	Failures     int           // consecutive failures until ready=false
	Successes    int           // consecutive successes until ready=true again
	StartTimeout time.Duration // without any progress of a load, until it counts as stalled
	// StartDeadline bounds a load, with progress or without; 0: it takes what it takes.
	StartDeadline time.Duration
	Mode          string // FailFast or FailOpen

	Probe       string // one of the probe kinds above, empty: ProbeHTTP
	Body        string // a regular expression (RE2) that the body of an HTTP answer must match; empty: any body
	GRPCService string // the service that gRPC's health protocol is asked about; empty: the server as a whole

	GenerateInterval time.Duration // between generations of one token; 0: none
	GenerateTimeout  time.Duration // of one generation
	GenerateFailures int           // consecutive failed generations until ready=false
	GeneratePath     string        // where it is asked for; empty: the engine's own
	GenerateBody     string        // the JSON that is sent; empty: the engine's own

	EscalateAfter time.Duration // with failing probes, until the engine is restarted; 0: never
	EscalateLimit time.Duration // the same for an engine that answers late and works; 0: never
}

// What follows when an engine ends by itself without an error: exit status 0, or SIGTERM from
// another program.
const (
	ExitRestarts = "restart" // it is started again, as after a crash
	ExitStops    = "stop"    // it stays stopped
)

// Restart is what follows a crash: the backoff, the limit of storms, and the breaker.
type Restart struct {
	OnExit          string // ExitRestarts or ExitStops; empty: ExitRestarts
	Initial         time.Duration
	Factor          float64
	Max             time.Duration
	Jitter          float64 // fraction of the delay, 0..1
	ClassFactor     float64 // factor of the delay after CUDA and driver errors, at least 1
	ResetAfter      time.Duration
	StormRestarts   int // restarts in StormWindow above which they are rate-limited
	StormWindow     time.Duration
	BreakerFailures int
	BreakerWindow   time.Duration
	BreakerTimeout  time.Duration // the first time that the breaker stays open; each further time is twice as long
	BreakerMax      time.Duration // the longest
	BreakerStable   time.Duration // ready time after which a half-open breaker closes
}

// Drain bounds how long running work may continue when a replica must stop.
type Drain struct {
	Deadline time.Duration
}

// Hints is how performance hints are come by.
type Hints struct {
	Benchmark bool // the engine is measured once after a new combination serves for the first time
}

// Sandbox is what a pool chooses of its engines' sandbox.
type Sandbox struct {
	ShmBytes uint64   // size of /dev/shm; 0: the default
	Allow    []string // relaxations, by their names in relax.Table, as written
	Network  string   // NetworkNone or NetworkLoopback; empty: what the engine is known to work with
}

// Networks of an engine.
const (
	NetworkNone     = "none"     // no network: it serves on a unix socket, behind a port of PID 1
	NetworkLoopback = "loopback" // it listens on its port, and connects to 127.0.0.1 and ::1
)

// Staged is a model that is present and, where a digest was given, verified.
type Staged struct {
	Path      string   // what the engine has to load; empty for an engine without a model
	Files     []string // every file or directory to show to the engine read-only
	Brought   []string // the last of Files: what the pool brings along beside the model
	SizeBytes int64
	Digest    string                  // "sha256:…", empty where none was computed
	Contents  string                  // as in Pool; empty where nothing certain could be found out
	FileEnv   map[string]FileVariable // as in Pool
	Verified  bool                    // true only when a configured digest was compared and matched
	Model     Description             // as its files describe it
}

// Description is what the files of a model say of it. A field is its zero value where they do not.
type Description struct {
	Architecture string // llama, qwen3, LlamaForCausalLM, …
	Quantization string // Q4_K_M, BF16, awq, …
	Parameters   uint64 // weights, of all parts
	CtxTrained   int    // tokens of context that it was trained for
	ChatTemplate bool   // it brings its form of conversations along
	Workload     string // completion, embedding or rerank: what it was made for
}

// Prepared is an engine that could be executed.
type Prepared struct {
	Binary   string   // absolute path
	Version  string   // as the engine prints it; empty where it does not
	Programs []string // Binary, links that lead to it, interpreters, and what a wrapper script executes
	ReadOnly []string // paths outside of the system's trees that the engine needs to see if their tree is hidden
	// Env are variables by which the program finds its own parts, and those of its image. The
	// pool's own win.
	Env map[string]string
	// Image is what the paths above are in; nil: the host's file system.
	Image *Image
}

// Image is a container image that was unpacked.
type Image struct {
	Root   string // its root directory on the host, absolute
	Digest string // sha256:…
	// Driver is the GPU driver's part in it: where files of the host are in the image.
	Driver []Mount
	// Podman is the path of podman, which is to run it; empty: PID 1 does.
	Podman string
	// Docker is the path of docker's client, where docker is to run it.
	Docker string
}

// ByPodman reports whether podman is to run the engine.
func (p Prepared) ByPodman() bool { return p.Image != nil && p.Image.Podman != "" }

// ByDocker reports whether docker is to run the engine.
func (p Prepared) ByDocker() bool { return p.Image != nil && p.Image.Docker != "" }

// Mount is a file or directory of the host, and where it is in an image.
type Mount struct {
	Host, Inside string
}
