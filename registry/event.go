package registry

import (
	"slices"
	"time"
)

// Kind is what an event is about.
type Kind string

// The kinds.
const (
	KindReady   Kind = "ready"   // ready flipped, of a pool or of one of its replicas
	KindDevice  Kind = "device"  // a GPU's health changed
	KindDrain   Kind = "drain"   // an operator drained or resumed a pool, or a replica's drain has ended
	KindReload  Kind = "reload"  // a reload began, was done, or was rolled back
	KindLease   Kind = "lease"   // a lease ended before its holder released it
	KindBreaker Kind = "breaker" // a circuit breaker opened, is half-open, or closed
	KindStorm   Kind = "storm"   // an engine restarts too often in too short a time
	KindFetch   Kind = "fetch"   // a download of a pool's model began, or has ended
	KindPreload Kind = "preload" // another program asked for a pool, or for its removal, or it did not become ready
	KindCrash   Kind = "crash"   // a run of an engine failed, by Failure; Ready and State are the replica's now
	KindSlower  Kind = "slower"  // an engine was measured, and is much slower than the pool's was before
)

// Kinds lists the closed list.
func Kinds() []Kind {
	return []Kind{KindReady, KindDevice, KindDrain, KindReload, KindLease, KindBreaker, KindStorm, KindFetch,
		KindPreload, KindCrash, KindSlower}
}

// Event is a change of ready of a pool or replica, a change of a GPU's health, or one that a writer
// records, with its cause. Events of a pool, and of a GPU, are in order; those of a pool's replicas
// come before that of the pool.
type Event struct {
	Seq       uint64 // grows by one with each event, also over a restart of the manager
	At        time.Time
	Kind      Kind
	PoolID    string // empty: the event is of a GPU
	ReplicaID string // empty: the pool as a whole
	Ready     bool   // what it flipped to
	State     State
	Reason    Reason   // one of a few words, for programs and metrics
	Cause     string   // one sentence, for people
	Failure   *Failure // nil where nothing went wrong
	// Correlation is the id of the request that caused it; empty: none did.
	Correlation string `json:",omitempty"`

	// Of a GPU; empty for a pool. Ready, State and Reason are then not set.
	Device      string // UUID, or the PCI bus id of a GPU that does not report one
	Health, Was Health // what it is now, and what it was before
	Title       string // for people: index, name and UUID
}

// OfDevice reports whether the event is of a GPU's health, and not of a pool.
func (e *Event) OfDevice() bool { return e.Device != "" }

// Observer receives an event with the pool as written (a removed pool: as it was before), nil for
// an event of a GPU. It must neither block nor write to the registry.
type Observer func(e Event, p *Pool)

// Reason is why ready changed: a closed list, so that it can be a metric's label.
type Reason string

// The reasons.
const (
	ReasonHealthy   Reason = "healthy"   // the gate passed and the probe succeeded
	ReasonUnhealthy Reason = "unhealthy" // the probe fails past its threshold
	ReasonCrash     Reason = "crash"     // the process ended
	ReasonOOM       Reason = "oom"       // the kernel killed it at its memory limit
	ReasonDrain     Reason = "drain"     // no new work is taken
	ReasonStop      Reason = "stop"      // it is being, or was, stopped
	ReasonRestart   Reason = "restart"   // a new process loads the model
	ReasonRefused   Reason = "refused"   // a policy forbids it, or its file is wrong
	ReasonRemoved   Reason = "removed"   // the pool is gone
	ReasonGPU       Reason = "gpu"       // a GPU of its mask may not be used, or the driver failed
	ReasonMemory    Reason = "memory"    // it waits for memory of a GPU or of the host
)

// Reasons lists the closed list.
func Reasons() []Reason {
	return []Reason{ReasonHealthy, ReasonUnhealthy, ReasonCrash, ReasonOOM, ReasonDrain, ReasonStop,
		ReasonRestart, ReasonRefused, ReasonRemoved, ReasonGPU, ReasonMemory}
}

// reasonOf returns why something that was ready is in state s now.
func reasonOf(s State, f *Failure) Reason {
	switch s {
	case StateReady:
		return ReasonHealthy
	case StateStopping, StateStopped:
		return ReasonStop
	case StateRefused, StateInvalid:
		return ReasonRefused
	}
	if r, ok := reasonOfCode(f); ok {
		return r
	}
	switch s {
	case StateDraining:
		return ReasonDrain
	case StateUnhealthy:
		return ReasonUnhealthy
	case StateBackoff, StateFailed:
		if f != nil && f.Code == CodeEngineOOM {
			return ReasonOOM
		}
		return ReasonCrash
	}
	// starting, probing, staging, preparing, waiting: it is back already, or a change is prepared
	return ReasonRestart
}

// ReasonOf returns why an engine's run ended, as one of the closed list.
func ReasonOf(f *Failure) Reason { return reasonOf(StateBackoff, f) }

// reasonOfCode maps failures that are a reason of their own, whatever the engine's state is now.
func reasonOfCode(f *Failure) (Reason, bool) {
	if f == nil {
		return "", false
	}
	switch f.Code {
	case CodeGPUUnavailable, CodeDriverError:
		return ReasonGPU, true
	case CodeInsufficientVRAM, CodeInsufficientRAM:
		return ReasonMemory, true
	case CodeDeviceMaskInvalid:
		return ReasonRefused, true
	}
	return "", false
}

// flips compares two statuses of one pool, nil for none, and returns the events, without Seq.
func flips(was, is *Pool, at time.Time) []Event {
	if is == nil {
		return removed(was, at)
	}
	var out []Event
	for _, r := range is.Replicas {
		if r.Ready == was.replicaReady(r.ID) {
			continue
		}
		out = append(out, Event{At: at, PoolID: is.ID, ReplicaID: r.ID, Ready: r.Ready, State: r.State,
			Reason: reasonOf(r.State, r.LastError), Cause: r.Reason, Failure: failureOf(r.Ready, r.LastError)})
	}
	if was != nil {
		for _, r := range was.Replicas {
			if r.Ready && !slices.ContainsFunc(is.Replicas, func(n Replica) bool { return n.ID == r.ID }) {
				out = append(out, gone(is, r.ID, at))
			}
		}
	}
	if is.Ready == (was != nil && was.Ready) {
		return out
	}
	state := is.State
	if !is.Ready && state == StateReady { // a writer that did not aggregate
		state = StateStopping
	}
	return append(out, Event{At: at, PoolID: is.ID, Ready: is.Ready, State: state,
		Reason: reasonOf(state, is.LastError), Cause: is.Cause(), Failure: failureOf(is.Ready, is.LastError)})
}

func removed(was *Pool, at time.Time) []Event {
	var out []Event
	for _, r := range was.Replicas {
		if r.Ready {
			out = append(out, gone(was, r.ID, at))
		}
	}
	if was.Ready {
		out = append(out, gone(was, "", at))
	}
	return out
}

func gone(p *Pool, replica string, at time.Time) Event {
	cause := "the pool was removed"
	if replica != "" {
		cause = "the replica was removed"
	}
	return Event{At: at, PoolID: p.ID, ReplicaID: replica, State: StateStopped, Reason: ReasonRemoved, Cause: cause}
}

func (p *Pool) replicaReady(id string) bool {
	if p == nil {
		return false
	}
	for _, r := range p.Replicas {
		if r.ID == id {
			return r.Ready
		}
	}
	return false
}

// Cause is the reason of the replica that gives the pool its state.
func (p *Pool) Cause() string {
	for _, r := range p.Replicas {
		if r.State == p.State {
			return r.Reason
		}
	}
	return "the pool is " + string(p.State)
}

// failureOf drops the error of something that serves: it is not why ready flipped.
func failureOf(ready bool, f *Failure) *Failure {
	if ready {
		return nil
	}
	return f
}
