package registry

import "slices"

// State is the state of a replica, or of a pool, which has the best state of its replicas.
type State string

// The states.
const (
	StateReady     State = "ready"     // it serves
	StateProbing   State = "probing"   // the unit's own gate passed, the manager's probe is due
	StateStarting  State = "starting"  // PID 1 has the start job, or the engine loads the model
	StatePreparing State = "preparing" // finding the engine, reading its version, choosing its port
	StateStaging   State = "staging"   // finding and verifying the model
	StateUnhealthy State = "unhealthy" // it runs, and the probe fails
	StateBackoff   State = "backoff"   // it crashed; PID 1 waits before the next start
	StateWaiting   State = "waiting"   // it waits for memory or a GPU; see last_error
	StateDraining  State = "draining"  // no new requests; those in progress may finish
	StateStopping  State = "stopping"  // PID 1 is stopping it
	StateFailed    State = "failed"    // it does not run and nothing is scheduled; see last_error
	StateRefused   State = "refused"   // a policy forbids it
	StateInvalid   State = "invalid"   // the pool file is wrong; see last_error
	StateStopped   State = "stopped"   // wanted stopped, and stopped
)

// states has all states, from the one closest to serving to the one that will not serve: a pool has
// the state of its best replica. Among the states that do not serve, those with an error come
// before those without.
var states = [...]State{
	StateReady, StateProbing, StateStarting, StatePreparing, StateStaging, StateUnhealthy, StateBackoff, StateWaiting,
	StateDraining, StateStopping, StateFailed, StateRefused, StateInvalid, StateStopped,
}

// States returns every state, from the one closest to serving to the one that will not serve. Every
// list of states that others see has this order.
func States() []State { return slices.Clone(states[:]) }

// rankOf returns a state's index in States; an unknown state comes last.
func rankOf(s State) int {
	if i := slices.Index(states[:], s); i >= 0 {
		return i
	}
	return len(states)
}
