// Package engine is all that this program knows about each kind of inference engine. An adapter is
// one file and is whole: the command line that makes the engine serve one model on one loopback
// port, its version, the endpoints that report its health, slots, requests and progress, one
// generation, how it takes memory, what it loads, the log lines by which it reports that it
// runs without its GPU, what its sandbox must allow, and how it ends.
//
// It owns knowledge only: adapters are pure values without state, and open no file or connection.
// They must not know unit properties, PID 1 or the pool file's syntax; the paths and bodies they
// read are passed to them. No other package may know an engine by name.
package engine

import (
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Adapter is one kind of engine. All methods are pure and safe for concurrent use. What an engine
// does not have is reported by the value that each method names for it.
type Adapter interface {
	// Kind is its name in a pool file.
	Kind() string
	// Doc is a noun phrase for the reference page of pool files: what the engine is.
	Doc() string

	starting
	serving
	memory
	logging
	ending
}

// starting is what is needed to start an engine.
type starting interface {
	// DefaultBinary is the name looked up on PATH, "" when the pool must name one.
	DefaultBinary() string
	// VersionArgs make the binary print its version and exit; nil when it has no such option.
	VersionArgs(binary string) []string
	// ParseVersion reads what VersionArgs printed on standard output and error, in the order of
	// arrival; "" when no version is in it.
	ParseVersion(out []byte) string
	// Weights is what the engine loads.
	Weights() Weights
	// Check returns every key of a pool that contradicts this engine, each with the key to use
	// instead.
	Check(p pool.Pool) []pool.Refusal
	// Given takes a whole command line apart that another program prepared, without the binary.
	Given(args []string) Given
	// Files are what the pool's arguments and variables name for the engine to read, beside its
	// model, as written.
	Files(p pool.Pool) []File
	// Command is what follows the binary on the command line, and the environment that the engine
	// needs. The operator's own arguments come last, his environment is not in it.
	Command(p pool.Pool, at Instance) Command
	// Foreign is how others start it; zero: it is not recognised.
	Foreign() Foreign
	// APIKey is how the engine is given the key that its callers must send; zero: it checks none,
	// or takes it only where others can read it.
	APIKey() APIKey
	// UnixSocket reports whether it can serve on a unix socket instead of a port, in this version
	// ("": unknown).
	UnixSocket(p pool.Pool, version string) UnixSocket
	// Relax names the sandbox lines that this engine cannot work under, at this instance.
	Relax(at Instance) []Relaxation
}

// serving is how an engine reports that it serves, and what it works on. An answer that is not
// believed is a *bounds.Refused; any other error is one that lacks the value.
type serving interface {
	// HealthPath answers HealthStatus once the model is loaded and requests are served.
	HealthPath() string
	HealthStatus() int
	// SlotsPath is asked once after ready, "" when the engine does not report its concurrency.
	SlotsPath() string
	// Slots reads the body of SlotsPath: 1 to bounds.Slots.
	Slots(body []byte) (int, error)
	// BusyPath reports the requests in flight, "" when the engine does not.
	BusyPath() string
	// Busy reads the body of BusyPath: requests that are decoded or wait inside the engine.
	Busy(body []byte) (int, error)
	// QueuePath has the engine's own count of requests that wait, "" when it publishes none.
	QueuePath() string
	// Queue reads the body of QueuePath: requests that the engine has accepted and does not work on
	// yet.
	Queue(body []byte) (int, error)
	// Workloads are the kinds of requests that the engine serves; empty if unknown.
	Workloads(p pool.Pool) []string
	// GeneratePath takes GenerateBody by POST and answers with one generated token, "" when the
	// engine has no request that fits any model. Generated returns an error for a body that holds
	// no generation.
	GeneratePath() string
	GenerateBody(p pool.Pool) []byte
	Generated(body []byte) error
	// ProgressPath reports whether the engine works on requests, "" when it does not.
	ProgressPath() string
	// Progress reads the body of ProgressPath into a mark of at most bounds.Mark bytes, which
	// changes with each step of the model, and stays the same while there is none and no request
	// ends. It is an error if the body does not report it.
	Progress(body []byte) (string, error)
}

// memory is how an engine takes memory.
type memory interface {
	// Claim is the share of each GPU that it takes whatever the model; zero: none.
	Claim(p pool.Pool, version string) Claim
	// Run is how it would load a model in GGUF; an error where that is not known, and for every
	// engine whose Weights are not GGUF.
	Run(p pool.Pool, at Instance) (Run, error)
	// SplitsByShare reports whether it gives each device of the mask a share of its own, by the key
	// tensor_split or by the devices' sizes. The others split evenly.
	SplitsByShare() bool
	// CacheTypes are the types of the KV cache that CacheArgs chooses from; nil: it has no choice.
	CacheTypes() []string
	CacheArgs(kind string) []string
}

// logging is what is read from an engine's log.
type logging interface {
	// Fallbacks are the lines by which it reports that it runs, or is about to run, without its
	// GPU; nil: there are none.
	Fallbacks() []classify.Fallback
}

// ending is how an engine ends.
type ending interface {
	// StopTimeout is how long after SIGTERM the engine may take to end by itself.
	StopTimeout(p pool.Pool) time.Duration
	// CountsIdle reports whether the engine waits for idle connections when it is stopped.
	CountsIdle() bool
}

// Workloads of an engine.
const (
	WorkCompletion = "completion"
	WorkEmbedding  = "embedding"
	WorkRerank     = "rerank"
)

// Weights is what an engine loads.
type Weights string

// The kinds of weights.
const (
	GGUF        Weights = "gguf"        // a file in GGUF, or the first of its parts
	Safetensors Weights = "safetensors" // a directory with *.safetensors
	Repository  Weights = "repository"  // a directory whose layout is the engine's own
	Anything    Weights = "anything"    // whatever the program takes, or nothing
)

// Claim is what an engine takes of each GPU whatever the model.
type Claim struct {
	Share float64 // of the GPU's whole memory, above 0 and at most 1; 0: it claims nothing
	Firm  bool    // it does not start where less than that is free
	Flag  string  // the flag that lowers it
}

// UnixSocket is whether an engine can serve on a unix socket instead of a port, which it needs to
// run without a network.
type UnixSocket int

// What is known of it.
const (
	SocketNever    UnixSocket = iota // the engine has no such option
	SocketUntested                   // it has one; used where the pool asks for it
	SocketTested                     // it serves so in the tests of this program; used by default
)

// APIKey is how an engine is given the key that its callers must send.
type APIKey struct {
	// File: Command passes Instance.KeyFile, the path of a file that holds it.
	File bool
	// Variable is one of its environment that holds the key. The unit's own environment is public,
	// so that pool-gate sets it when it executes the engine.
	Variable string
	// Others are the flags and variables by which a pool would give it another key.
	Others []string
}

// Instance is where and on what one engine process runs.
type Instance struct {
	Model   string   // path of what it loads, "" for an engine without a model
	Host    string   // the address to listen on
	Port    int      // the TCP port to listen on
	Socket  string   // the unix socket to listen on instead; "": none. Host and Port are its forwarder's then
	KeyFile string   // path of the file with the key that it must ask for, inside its unit; "": none
	Devices []string // full UUIDs, as CUDA_VISIBLE_DEVICES will hold them, in order; empty: a CPU replica
	Indices []int    // NVML's numbers of their GPUs, in the same order
	Version string   // of the engine, as ParseVersion returned it; "": unknown
}

// GPU reports whether the instance has any device.
func (at Instance) GPU() bool { return len(at.Devices) > 0 }

// Command is a command line without its program.
type Command struct {
	Args []string
	Env  map[string]string
	// Visible replaces what CUDA_VISIBLE_DEVICES holds, for a version that cannot read UUIDs; nil:
	// the UUIDs.
	Visible []string
	// Refused is why this version of the engine cannot serve the instance; nil: it can.
	Refused *Refused
}

// Refused is why a version of an engine cannot serve an instance.
type Refused struct {
	Message string // a clause
	Hint    string // a sentence
}

// adapters are all kinds, in the order in which messages list them. The first is the one that
// examples in messages name.
func adapters() []Adapter {
	return []Adapter{llamaCpp{}, vllm{}, sglang{}, trtllm{}, tgi{}, triton{}, command{}}
}

// For returns the adapter of a kind as a pool file names it.
func For(kind string) (Adapter, bool) {
	for _, a := range adapters() {
		if a.Kind() == kind {
			return a, true
		}
	}
	return nil, false
}

// Kinds returns every kind that For knows, in the order in which messages list them.
func Kinds() []string { return Where(func(Adapter) bool { return true }) }

// Where returns the kinds that satisfy a condition.
func Where(holds func(Adapter) bool) []string {
	var kinds []string
	for _, a := range adapters() {
		if holds(a) {
			kinds = append(kinds, a.Kind())
		}
	}
	return kinds
}

// Usual returns the default kind for a model without an engine: the first that loads a directory,
// or a file.
func Usual(directory bool) string {
	kinds := Where(func(a Adapter) bool {
		return directory && a.Weights() == Safetensors || !directory && a.Weights() == GGUF
	})
	return kinds[0] // the suite checks that there is one of each
}

// WithoutModel returns the kinds that need no model.
func WithoutModel() []string {
	return Where(func(a Adapter) bool { return a.Weights() == Anything })
}

// CacheTypes are the types of the KV cache that any engine knows, each once.
func CacheTypes() []string {
	var all []string
	for _, a := range adapters() {
		for _, t := range a.CacheTypes() {
			if !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
	}
	return all
}
