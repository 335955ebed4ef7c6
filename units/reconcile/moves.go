package reconcile

import (
	"slices"

	"github.com/pool-managerd/pool-managerd/registry"
)

// move is a legal action: the states in which it may be taken, and the one that it leads to.
type move struct {
	Action Action
	From   []registry.State
	To     string // in words, for the printed table
}

// moves lists every legal move. The plan makes no other (a test tries all facts), and the
// supervisor refuses what is not here, so that a defect elsewhere cannot start an engine beside one
// that runs, or stop one that serves.
var moves = []move{
	{Stage, []registry.State{registry.StateStaging, registry.StateProbing, registry.StateFailed, registry.StateWaiting, registry.StateBackoff, registry.StateStopped,
		registry.StateStarting, registry.StateReady, registry.StateUnhealthy, registry.StateDraining}, "`preparing`; what runs stays as it is"},
	{Prepare, []registry.State{registry.StatePreparing, registry.StateProbing, registry.StateFailed, registry.StateWaiting, registry.StateBackoff, registry.StateStopped,
		registry.StateStarting, registry.StateReady, registry.StateUnhealthy, registry.StateDraining}, "`preparing`; what runs stays as it is"},
	{Start, []registry.State{registry.StatePreparing, registry.StateWaiting, registry.StateBackoff, registry.StateFailed, registry.StateStopped}, "`starting`"},
	{Drain, []registry.State{registry.StateReady, registry.StateProbing, registry.StateUnhealthy}, "`draining`"},
	{Resume, []registry.State{registry.StateDraining}, "`probing`, then `ready`"},
	{Stop, []registry.State{registry.StateUnhealthy, registry.StateDraining, registry.StateStarting, registry.StateBackoff, registry.StateFailed}, "`stopping`, then `stopped` or the next start"},
	{Kill, []registry.State{registry.StateUnhealthy}, "`backoff`"},
	{Defer, []registry.State{registry.StateBackoff, registry.StateFailed}, "`backoff`, or `failed` while the breaker is open"},
	{SetLimits, []registry.State{registry.StateStarting, registry.StateReady, registry.StateProbing, registry.StateUnhealthy, registry.StateDraining,
		registry.StateBackoff, registry.StateFailed}, "the same state, in the same process"},
	{Clear, []registry.State{registry.StateFailed, registry.StateStopped, registry.StateRefused}, "`stopped`, without a unit"},
	{Forget, []registry.State{registry.StateStopped, registry.StateRefused}, "nothing is left of it"},
}

// May reports whether an action is legal for a replica in a state.
func May(a Action, in registry.State) bool {
	i := slices.IndexFunc(moves, func(m move) bool { return m.Action == a })
	return a == None || i >= 0 && slices.Contains(moves[i].From, in)
}
