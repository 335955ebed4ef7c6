// Package registry is what is true now: the pools of this host, their replicas, whether each
// is live and ready, and why not. Writers replace a pool's whole status; readers get an
// immutable snapshot and never wait for a writer's work.
//
// It owns the words that other programs read (state, last_error, ready). It must not know how
// anything is started: it imports neither units, systemd, cgroups nor nvml. Order is promised
// within one pool and not between pools.
package registry

import "time"

// Pool is one pool's status. Treat a value got from the registry as read-only.
type Pool struct {
	ID            string
	Engine        string
	EngineVersion string // empty until known
	ModelID       string // the reference as written in the pool file
	DeviceMask    []string
	Devices       []PoolDevice // of all replicas, each once; empty for a pool without GPUs
	Wanted        bool         // a pool file asks for it; false while an orphan is drained and stopped
	Ctx           int          // context length of one request, tokens; 0: the engine's own default
	Workloads     []string     // what the engine can be asked for: completion, embedding, rerank; empty: not known

	SlotsTotal   int // 0: not known
	SlotsFree    int
	ActiveLeases int
	QueueDepth   *int // requests that wait inside the engines, by their own counters; nil: not known

	State     State
	Live      bool     // the manager is up and the pool is on its way or serving
	Ready     bool     // at least one replica serves, and the pool does not drain
	Draining  bool     // no replica takes new work, and one still works
	LastError *Failure // nil: none since the last ready

	Drain    *Drain    // an operator drained it; nil: nobody did
	Override *Override // it serves another model than its file says; nil: it does not
	Reload   *Reload   // it is on its way to another version; nil: it is not

	LastHeartbeat       time.Time // of the newest successful probe; zero: none yet
	RestartCount        int       // starts after a run that failed, in all: it never decreases; summed over replicas
	RestartsSinceStable int       // of these, the ones since the last run that was long enough to have failures forgotten
	Backoff             time.Duration
	NextStart           time.Time // the earliest of the replicas; zero: none is waited for
	Breaker             string    // that of the replica that is worst off: open before half-open before closed

	Replicas []Replica
}

// Replica is one engine process's status.
type Replica struct {
	ID                  string // r0, r1, …; r0b while the second side of r0 serves
	Name                string // r0, r1, …: the same over reloads; empty: ID
	State               State
	Reason              string // one sentence: why it is in this state
	Live                bool
	Ready               bool
	Unit                string
	Endpoint            string // http://127.0.0.1:PORT, empty until a port is chosen
	PID                 int    // 0: no process
	InvocationID        string // 32 hex digits, empty while the unit never ran
	SpecHash            string
	DeviceMask          []string
	EngineVersion       string
	SlotsTotal          int
	SlotsFree           int
	ActiveLeases        int
	QueueDepth          *int // requests that wait inside the engine; nil: not known
	RestartCount        int
	RestartsSinceStable int
	Backoff             time.Duration // the delay that is waited for now, zero when none is
	NextStart           time.Time     // when that is over; zero where it is not known
	Breaker             string        // closed, open or half-open

	// Of the engine that runs, which the pool's file may have left behind. Empty: not known; Engine and ModelID: those of the pool.
	Engine       string
	ModelID      string
	ModelPath    string
	Flags        []string // its arguments, without what looks like a secret; nil: not known
	Provisioning string   // binary, container or external

	LastError     *Failure
	Since         time.Time // when State was entered
	LastHeartbeat time.Time
}
