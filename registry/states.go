package registry

import "slices"

// State is where a replica, or a pool as the best of its replicas, stands.
type State string

// The states.
const (
	StateReady     State = "ready"     // it serves
	StateProbing   State = "probing"   // the unit's own gate passed, the manager's probe is due
	StateStarting  State = "starting"  // PID 1 has the job, or the engine loads the model
	StatePreparing State = "preparing" // the engine is looked for, its version read, its port chosen
	StateStaging   State = "staging"   // the model is looked for and verified
	StateUnhealthy State = "unhealthy" // it runs, and the probe says no
	StateBackoff   State = "backoff"   // it crashed; PID 1 waits before the next start
	StateWaiting   State = "waiting"   // it could start, but for memory or a GPU that it must wait for; see last_error
	StateDraining  State = "draining"  // no new work; held work may finish
	StateStopping  State = "stopping"  // PID 1 is stopping it
	StateFailed    State = "failed"    // it does not run and nothing is scheduled; see last_error
	StateRefused   State = "refused"   // a policy forbids it
	StateInvalid   State = "invalid"   // the pool file is wrong; see last_error
	StateStopped   State = "stopped"   // wanted stopped, and stopped
)

// states is the one order of them, from the one closest to serving to the one that will not serve: a
// pool stands where the best of its replicas stands. Within the states that do not serve, one that
// says what is wrong goes before one that says nothing.
var states = [...]State{
	StateReady, StateProbing, StateStarting, StatePreparing, StateStaging, StateUnhealthy, StateBackoff, StateWaiting,
	StateDraining, StateStopping, StateFailed, StateRefused, StateInvalid, StateStopped,
}

// States returns every state, from the one closest to serving to the one that will not serve. Every
// list of states that others see has this order.
func States() []State { return slices.Clone(states[:]) }

// rankOf returns a state's place in States; an unknown state comes last.
func rankOf(s State) int {
	if i := slices.Index(states[:], s); i >= 0 {
		return i
	}
	return len(states)
}
