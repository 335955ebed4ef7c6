// Package engine knows how each kind of inference engine is spoken to: the command line that makes
// it serve one model on one loopback port, the paths on which it says that it is healthy and how
// busy it is, what it prints as its version, how long it needs to stop, and which lines of the
// sandbox it cannot live with.
//
// It owns knowledge, not acts: adapters are pure values without state, they open no file and no
// connection. They must not know unit properties, PID 1 or the pool file's syntax; the paths and
// bodies they read are handed to them.
package engine

import (
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Adapter is one kind of engine. All methods are pure and safe for concurrent use.
type Adapter interface {
	// Kind is the word for it in a pool file.
	Kind() string
	// DefaultBinary is the name looked up on PATH, "" when the pool must name one.
	DefaultBinary() string
	// VersionArgs make the binary print its version and exit; nil when it has no such option.
	VersionArgs() []string
	// ParseVersion reads what VersionArgs printed on standard output and error, in the order of
	// arrival; "" when no version is in it.
	ParseVersion(out []byte) string
	// Check returns every key of a pool that contradicts this engine, each with the key to use instead.
	Check(p pool.Pool) []pool.Refusal
	// Command is what stands behind the binary, and the environment that the engine needs. The
	// operator's own arguments come last, his environment is not in it.
	Command(p pool.Pool, at Instance) Command
	// HealthPath answers HealthStatus once the model is loaded and requests are served.
	HealthPath() string
	HealthStatus() int
	// Relax names the sandbox lines that this engine cannot work under, at this instance.
	Relax(at Instance) []Relaxation
	// StopTimeout is how long after SIGTERM the engine may take to end by itself.
	StopTimeout() time.Duration
	// SlotsPath is asked once after ready, "" when the engine does not tell its concurrency.
	SlotsPath() string
	// Slots reads the body of SlotsPath.
	Slots(body []byte) (int, error)
	// BusyPath tells the requests in flight, "" when the engine does not.
	BusyPath() string
	// Busy reads the body of BusyPath: requests that are decoded or wait inside the engine.
	Busy(body []byte) (int, error)
	// QueuePath has the engine's own count of requests that wait, "" when it publishes none.
	QueuePath() string
	// Queue reads the body of QueuePath: requests that the engine has accepted and does not work on yet.
	Queue(body []byte) (int, error)
	// Workloads are what the engine can be asked for; empty when that is not known.
	Workloads(p pool.Pool) []string
	// CountsIdle says that the engine, told to end, waits for idle connections.
	CountsIdle() bool
	// GeneratePath takes GenerateBody by POST and answers with one generated token, "" when the engine has no request that fits
	// any model. Generated returns an error for a body that holds no generation.
	GeneratePath() string
	GenerateBody(p pool.Pool) []byte
	Generated(body []byte) error
	// ProgressPath tells whether the engine works on requests, "" when it does not tell.
	ProgressPath() string
	// Progress reads the body of ProgressPath into a mark, which changes with each step of the model, and stays while there is none and no
	// request ends. It is an error where the body does not tell.
	Progress(body []byte) (string, error)
}

// Workloads of an engine.
const (
	WorkCompletion = "completion"
	WorkEmbedding  = "embedding"
	WorkRerank     = "rerank"
)

// Instance is where and on what one engine process runs.
type Instance struct {
	Model   string   // path of what it loads, "" for a command without a model
	Host    string   // the address to listen on
	Port    int      // the TCP port to listen on
	Devices []string // what CUDA_VISIBLE_DEVICES will hold, in order; empty: a CPU replica
}

// GPU reports whether the instance has any device.
func (at Instance) GPU() bool { return len(at.Devices) > 0 }

// Command is a command line without its program.
type Command struct {
	Args []string
	Env  map[string]string
}

// Relaxation is a line of the sandbox that an engine cannot work under.
type Relaxation struct {
	Line SandboxLine
	Why  string // a sentence for the administrator
}

// SandboxLine names what may be relaxed, as the key stands in a unit file.
type SandboxLine string

// The lines that an adapter may relax.
const (
	// WriteExecute turns MemoryDenyWriteExecute= off.
	WriteExecute SandboxLine = "MemoryDenyWriteExecute"
	// ResourceCalls lets the system call group @resources (scheduling, affinity, memory policy) pass.
	ResourceCalls SandboxLine = "SystemCallFilter=@resources"
	// WholeProc shows the files of /proc that are no processes (ProcSubset=all).
	WholeProc SandboxLine = "ProcSubset"
)

// For returns the adapter of a kind as a pool file names it.
func For(kind string) (Adapter, bool) {
	switch kind {
	case pool.LlamaCpp:
		return llamaCpp{}, true
	case pool.VLLM:
		return vllm{}, true
	case pool.TGI:
		return tgi{}, true
	case pool.Triton:
		return triton{}, true
	case pool.Command:
		return command{}, true
	}
	return nil, false
}

// Kinds returns every kind that For knows, in the order in which messages list them.
func Kinds() []string {
	return []string{pool.LlamaCpp, pool.VLLM, pool.TGI, pool.Triton, pool.Command}
}

// cudaRelaxations are the lines that the CUDA user-space driver cannot live with. None was tried on
// a GPU yet: each is off by reason, not by measurement.
func cudaRelaxations(at Instance) []Relaxation {
	if !at.GPU() {
		return nil
	}
	return []Relaxation{
		{WriteExecute, "the CUDA driver compiles PTX at run time and makes the result executable"},
		{ResourceCalls, "the CUDA driver pins its threads and sets a memory policy (sched_setaffinity, mbind)"},
		{WholeProc, "the CUDA driver reads /proc/driver/nvidia and /proc/devices to find its nodes"},
	}
}

// pythonRelaxations are the lines that PyTorch cannot live with, on a CPU as on a GPU.
func pythonRelaxations() []Relaxation {
	return []Relaxation{
		{WriteExecute, "PyTorch and Triton compile kernels at run time, and libffi makes its closures executable"},
		{ResourceCalls, "PyTorch pins its workers and sets their priority and memory policy"},
		{WholeProc, "psutil reads /proc/meminfo and /proc/stat and fails without them"},
	}
}
