package reconcile

import "github.com/pool-managerd/pool-managerd/registry"

// Verdict is the state of a replica, as the registry publishes it.
type Verdict struct {
	State   registry.State
	Live    bool
	Ready   bool
	Reason  string
	Failure *registry.Failure // why not ready; nil when nothing is wrong
}

// stateRow is a row of the state table: the first whose When holds names the state.
type stateRow struct {
	State   registry.State
	Live    bool
	Ready   bool
	When    string // the condition in words, for the printed table
	Holds   func(f Facts) bool
	Reason  string
	Failure func(f Facts) *registry.Failure
}

func noFailure(Facts) *registry.Failure { return nil }

// stateTable derives the state from the facts, so that no stored state can disagree with them.
var stateTable = []stateRow{
	{registry.StateStopping, false, false, "PID 1 is stopping the unit, or was asked to",
		func(f Facts) bool { return f.Unit == Stopping || f.Op == Stop },
		"PID 1 is stopping the engine", noFailure},
	{registry.StateDraining, true, false, "the unit runs and a drain was begun",
		func(f Facts) bool { return f.serving() && f.Drain != NotDrained },
		"no new work is taken; work in progress may finish", noFailure},
	{registry.StateUnhealthy, true, false, "the unit runs and its directories hold far more than `state_max`",
		func(f Facts) bool { return f.serving() && f.Disk != nil },
		"it has far too much on the disk and is being stopped", func(f Facts) *registry.Failure { return f.Disk }},
	{registry.StateUnhealthy, true, false, "the unit runs and a GPU of its device mask is unusable",
		func(f Facts) bool { return f.serving() && f.GPU != nil },
		"a GPU of its device mask is unusable", func(f Facts) *registry.Failure { return f.GPU }},
	{registry.StateUnhealthy, true, false, "the unit runs and its process is unusable: a GPU error, or probes that failed for too long",
		func(f Facts) bool { return f.serving() && f.Fault != nil },
		"the engine's process is unusable and is being killed", func(f Facts) *registry.Failure { return f.Fault }},
	{registry.StateReady, true, true, "the gate passed and the manager's probe succeeded",
		func(f Facts) bool { return f.serving() && (f.Probe == Healthy || f.Probe == Unhealthy && f.FailOpen) },
		"the engine answers", func(f Facts) *registry.Failure { return f.ProbeErr }},
	{registry.StateUnhealthy, true, false, "the gate passed and the probe fails past its threshold",
		func(f Facts) bool { return f.serving() && f.Probe == Unhealthy },
		"the engine runs but its health probe fails", func(f Facts) *registry.Failure { return f.ProbeErr }},
	{registry.StateProbing, true, false, "the gate passed and the manager's first probe is due",
		func(f Facts) bool { return f.serving() },
		"the engine's gate passed; the manager's first probe is due", func(f Facts) *registry.Failure { return f.Crash }},
	{registry.StateFailed, false, false, "the breaker is open: it failed too often, and the next trial is not due yet",
		func(f Facts) bool {
			return f.open() && f.startable() && !f.parked() && f.Op != Start &&
				(f.Op == Defer || f.Unit == Absent || f.Unit == Backoff || f.Unit == Broken)
		},
		"the engine failed too often; a single trial start follows later", func(f Facts) *registry.Failure {
			return f.BreakerErr
		}},
	{registry.StateFailed, false, false, "the engine ended, and PID 1 neither starts nor stops its unit",
		func(f Facts) bool { return f.Unit == Backoff && f.StopErr != nil && (f.Op == None || f.Op == Defer) },
		"the engine ended, and PID 1 neither starts nor stops its unit", func(f Facts) *registry.Failure { return f.StopErr }},
	{registry.StateBackoff, false, false, "the engine crashed, and the manager waits before the next start",
		func(f Facts) bool {
			return f.Op == Defer || f.Delayed && (f.Unit == Absent || f.Unit == Broken) && f.startable() &&
				!f.parked() && f.Op != Start && f.GPU == nil // whose cause and hint are worth more
		},
		"the engine crashed; it is started again later", func(f Facts) *registry.Failure { return f.Crash }},
	{registry.StateBackoff, false, false, "the engine crashed and PID 1 waits before the next start",
		func(f Facts) bool { return f.Unit == Backoff },
		"the engine crashed; PID 1 will start it again", func(f Facts) *registry.Failure { return f.Crash }},
	{registry.StateWaiting, false, false, "nothing runs, and the last attempt to start lacked memory or a device",
		func(f Facts) bool { return f.startable() && f.Unit == Absent && f.Short != nil },
		"the last attempt to start lacked memory or a device", func(f Facts) *registry.Failure { return f.Short }},
	{registry.StateStarting, true, false, "PID 1 has the start job, or the engine loads its model",
		func(f Facts) bool { return f.Unit == Starting || f.Op == Start },
		"the engine is loading its model", func(f Facts) *registry.Failure { return f.Crash }},
	{registry.StateStopped, false, false, "an operator drained the pool, and nothing of it runs",
		func(f Facts) bool { return f.Parked && f.startable() && !f.Exists() },
		"drained by an operator; poolctl resume starts it again", func(f Facts) *registry.Failure { return f.DrainErr }},
	{registry.StateStopped, false, false, "a reload has stopped it to make room for another engine",
		func(f Facts) bool { return f.Role == Suspend && f.startable() && !f.Exists() },
		"a reload has stopped it to make room for another engine", noFailure},
	{registry.StateInvalid, false, false, "the pool file is wrong, and there is no former version",
		func(f Facts) bool { return f.Invalid != nil && f.Wish == Unknown },
		"the pool's file is wrong", func(f Facts) *registry.Failure { return f.Invalid }},
	{registry.StateRefused, false, false, "a policy forbids the pool and nothing of it runs",
		func(f Facts) bool { return f.Refusal != nil },
		"the host's policy refuses the pool", func(f Facts) *registry.Failure { return f.Refusal }},
	{registry.StateFailed, false, false, "staging, preparing or the start failed; tried again later",
		func(f Facts) bool { return f.wanted() && (f.Stage == Failed || f.Prepare == Failed) },
		"the engine could not be prepared", func(f Facts) *registry.Failure { return f.Failure }},
	{registry.StateWaiting, false, false, "nothing runs, and its directories hold far more than `state_max`",
		func(f Facts) bool {
			return f.startable() && f.Disk != nil && !f.parked() && (f.Unit == Absent || f.Unit == Broken)
		},
		"it has far too much on the disk to be started", func(f Facts) *registry.Failure { return f.Disk }},
	{registry.StateWaiting, false, false, "nothing runs, and a GPU of its device mask is unusable",
		func(f Facts) bool { return f.startable() && f.GPU != nil && (f.Unit == Absent || f.Unit == Broken) },
		"a GPU of its device mask is unusable", func(f Facts) *registry.Failure { return f.GPU }},
	{registry.StateFailed, false, false, "the unit failed and PID 1 gave up on it; tried again later",
		func(f Facts) bool { return f.Unit == Broken },
		"the engine failed too often: PID 1 reached the start limit", func(f Facts) *registry.Failure { return f.Crash }},
	{registry.StateStopped, false, false, "the engine ended by itself without an error, and on_exit says that this is a stop",
		func(f Facts) bool { return f.wanted() && f.Unit == Exited && f.EndedItself },
		"the engine ended by itself, and [restart] on_exit is \"stop\"", func(f Facts) *registry.Failure { return f.Crash }},
	{registry.StateStopped, false, false, "the unit was stopped, or no pool file asks for it",
		func(f Facts) bool { return f.Unit == Exited || !f.wanted() },
		"the engine was stopped", func(f Facts) *registry.Failure {
			if f.Unit == Exited {
				return f.Crash // of the stop
			}
			return nil
		}},
	{registry.StateStaging, true, false, "the model is being found and verified",
		func(f Facts) bool { return f.Stage != Done },
		"the model is being found and verified", func(f Facts) *registry.Failure { return f.Failure }},
	{registry.StatePreparing, true, false, "the engine is found, its version read, its port chosen",
		func(f Facts) bool { return true },
		"the engine is being prepared", func(f Facts) *registry.Failure { return f.Failure }},
}

// Assess returns the state of the replica. A pool file that became invalid, or a change that could
// not be prepared, is the failure of a replica that still serves its former version.
func Assess(f Facts) Verdict {
	for _, row := range stateTable {
		if !row.Holds(f) {
			continue
		}
		v := Verdict{State: row.State, Live: row.Live, Ready: row.Ready, Reason: row.Reason, Failure: row.Failure(f)}
		return withPendingChange(f, v)
	}
	// The last row holds for all facts.
	return Verdict{State: registry.StatePreparing}
}

// withPendingChange adds why the wanted version does not run while the former one does.
func withPendingChange(f Facts, v Verdict) Verdict {
	if v.Failure != nil {
		return v
	}
	switch {
	case f.StopErr != nil:
		v.Failure = f.StopErr
	case f.Bare != nil:
		v.Failure = f.Bare
	case f.Rejected != nil:
		v.Failure = f.Rejected
	case f.Invalid != nil:
		v.Failure = f.Invalid
	case f.Refusal != nil:
		v.Failure = f.Refusal
	case f.Disk != nil:
		v.Failure = f.Disk
	case f.GPU != nil:
		v.Failure = f.GPU
	case f.Stage == Failed || f.Prepare == Failed:
		v.Failure = f.Failure
	case f.DiskOver != nil:
		v.Failure = f.DiskOver
	}
	return v
}
