// Package registry has the current status of the pools of this host and their replicas: whether
// each is live and ready, and why not. Writers replace a pool's whole status; readers get an
// immutable snapshot and never wait for a writer.
//
// It owns the values that other programs read (state, last_error, ready). It must not know how
// anything is started: it imports neither units, systemd, cgroups nor nvml. Writes are in order
// within one pool and not between pools.
package registry

import "time"

// Sources of a pool: what asks for it.
const (
	SourceFile    = "file"
	SourcePreload = "preload" // another program, by the API
)

// Pool is one pool's status. A value from the registry is read-only.
type Pool struct {
	ID            string
	Engine        string
	EngineVersion string // empty until known
	ModelID       string // the reference as written in the pool file
	DeviceMask    []string
	Devices       []PoolDevice // of all replicas, each once; empty for a pool without GPUs
	Wanted        bool         // a pool file or a preload asks for it; false while an orphan is drained and stopped
	Runtime       string       // what runs the image of a container; empty: there is none
	Source        string       // SourceFile or SourcePreload; empty while it is not wanted
	Ctx           int          // context length of one request, tokens; 0: the engine's own default
	Workloads     []string     // completion, embedding, rerank; empty: not known
	Model         Model        // as the model's files describe it
	Features      []string     // what the engine can do with the model, sorted

	SlotsTotal   int // 0: not known
	SlotsFree    int
	ActiveLeases int
	QueueDepth   *int // requests that wait inside the engines, by their own counters; nil: not known

	Work Work // of the ready replicas together

	TokensPerS   float64 // of one stream of the slowest ready replica; 0: not known
	FirstTokenMS float64 // of the slowest; 0: not known

	State     State
	Live      bool     // the manager is up and the pool serves or is starting
	Ready     bool     // at least one replica serves, and the pool is not draining
	Draining  bool     // no replica takes new requests, and one has some in progress
	LastError *Failure // nil: none since the last ready

	Drain    *Drain    // a drain by an operator; nil: none
	Override *Override // a model in place of its file's; nil: none
	Reload   *Reload   // a reload in progress; nil: none
	Staging  *Staging  // a download of the model in progress; nil: none
	// Correlation is the id of the request that a drain, reload or preload in progress is for.
	Correlation string

	LastHeartbeat time.Time // of the newest successful probe; zero: none yet
	RestartCount  int       // starts after a run that failed, in all: it never decreases; summed over replicas
	// of these, those since the last run that was long enough to reset failures
	RestartsSinceStable int
	Backoff             time.Duration
	NextStart           time.Time // the earliest of the replicas; zero: none
	Breaker             string    // the worst of the replicas: open, then half-open, then closed

	Replicas []Replica
}

// Replica is one engine process's status.
type Replica struct {
	ID                  string // r0, r1, …; r0b for the other engine of r0 after a reload
	Name                string // r0, r1, …: the same over reloads; empty: ID
	State               State
	Reason              string // one sentence: why it is in this state
	Live                bool
	Ready               bool
	Unit                string
	Endpoint            string // http://127.0.0.1:PORT, empty while the engine was not found to answer there
	PID                 int    // 0: no process
	InvocationID        string // 32 hex digits, empty while the unit never ran
	SpecHash            string
	DeviceMask          []string
	EngineVersion       string
	SlotsTotal          int
	SlotsFree           int
	ActiveLeases        int
	QueueDepth          *int // requests that wait inside the engine; nil: not known
	Work                Work
	Perf                *Perf // nil: not known
	RestartCount        int
	RestartsSinceStable int
	DiskBytes           uint64        // in its state and cache directory, when counted last; 0: not known
	Asleep              bool          // the engine has given up its memory until it is used again
	Ctx                 int           // context of one request that it reports, tokens; 0: not known
	CtxAsked            int           // and that it was asked for; 0: its own default
	Unanswered          []string      // what the engine does not report in this run, why, and what follows
	RefusedAnswers      []string      // answers of the engine in this run that are not believed, and why
	GPULayers           []Layers      // of each model of the engine that runs, the pool's first; nil: not known
	Need                *Need         // memory of its next or present run; nil: not known
	Backoff             time.Duration // the current restart delay, zero without one
	NextStart           time.Time     // when it is over; zero if it is not known
	Breaker             string        // closed, open or half-open

	// Of the running engine, which may differ from the pool's file. Empty: not known; Engine and
	// ModelID: those of the pool.
	Engine       string
	ModelID      string
	ModelPath    string
	Flags        []string // its arguments, with secrets hidden; nil: not known
	Provisioning string   // binary, container or external

	LastError     *Failure
	Since         time.Time // when State was entered
	LastHeartbeat time.Time
}

// Model is what the files of a model say of it. A field is its zero value where they do not.
type Model struct {
	Architecture string // llama, qwen3, LlamaForCausalLM, …
	Quantization string // Q4_K_M, BF16, awq, …
	Parameters   uint64 // weights, of all parts
	CtxTrained   int    // tokens of context that it was trained for
	ChatTemplate bool   // it brings its form of conversations along
	Workload     string // completion, embedding or rerank: what it was made for
}

// Need is the memory that a replica needs, with which its start is decided.
type Need struct {
	Source      string // of VRAM; of Host on the CPU: configured, claimed, measured, estimated or unknown
	VRAM        uint64 // bytes of all its devices together; 0: unknown, or none
	Host        uint64 // bytes of main memory; 0: unknown
	RaisedAfter Code   // the failure of the load before, by which it was raised; empty: it was not
	RaisedUntil time.Time
}

// Layers are how many layers of a model are on the GPUs of its engine.
type Layers struct{ OnGPU, Of int }
