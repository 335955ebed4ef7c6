package reconcile

import "time"

// Action is one effect for the caller to carry out.
type Action string

// The actions.
const (
	None      Action = ""
	Stage     Action = "stage"      // find and verify the model
	Prepare   Action = "prepare"    // find the engine, read its version, choose the port
	Start     Action = "start"      // render, and ask PID 1 for the transient unit
	Drain     Action = "drain"      // let work in progress finish, up to the deadline
	Resume    Action = "resume"     // end a drain that is no longer wanted
	Stop      Action = "stop"       // ask PID 1 to stop the unit
	Clear     Action = "clear"      // reset-failed: PID 1 forgets the failed or ended unit
	SetLimits Action = "set-limits" // change cgroup limits of the running unit
	Forget    Action = "forget"     // nothing is left: drop the replica
	Kill      Action = "kill"       // have PID 1 end the process; its backoff and a new process follow
	Defer     Action = "defer"      // stop a unit in PID 1's backoff: the manager makes the next start
)

// Decision is the next action, and why.
type Decision struct {
	Action Action
	Rule   string    // the name of the rule that decided, for traces and tests
	Reason string    // one sentence for the operator
	At     time.Time // when to decide again if nothing happens until then; zero: never
}

// rule is a row of the plan: the first whose When holds decides.
type rule struct {
	Name   string
	When   func(f Facts, now time.Time) bool
	Action Action
	Reason string
}

// planRules is the plan. Order matters: what is under way comes first, then what must end, then
// what must change, then what must begin.
var planRules = []rule{
	{"busy", func(f Facts, _ time.Time) bool { return f.Op != None },
		None, "an action is under way"},
	{"stopping", func(f Facts, _ time.Time) bool { return f.Unit == Stopping },
		None, "PID 1 is stopping the unit"},

	{"stop/wait", func(f Facts, now time.Time) bool { return f.StopErr != nil && f.Exists() && now.Before(f.StopAt) },
		None, "the unit could not be stopped; the next attempt is not due yet"},

	{"stop/clear", func(f Facts, _ time.Time) bool { return f.Unsure && (f.Unit == Broken || f.Unit == Exited) },
		Clear, "it was to be stopped, and has ended; PID 1's answer was lost"},

	// An invalid file must not stop what runs.
	{"unknown/resume", func(f Facts, _ time.Time) bool { return f.Wish == Unknown && f.serving() && f.Drain != NotDrained },
		Resume, "the pool's file cannot be read, so what runs is left as it is"},
	{"unknown", func(f Facts, _ time.Time) bool { return f.Wish == Unknown },
		None, "the pool's file cannot be read, so what runs is left as it is"},

	{"unwanted/drain", func(f Facts, _ time.Time) bool { return !f.wanted() && f.serving() && f.Drain == NotDrained },
		Drain, "no pool file asks for it, or a reload replaced it"},
	{"unwanted/stop", func(f Facts, _ time.Time) bool {
		return !f.wanted() && f.Exists() && (f.Drain == Drained || !f.serving())
	},
		Stop, "it is no longer wanted, and no work is left"},
	{"unwanted/clear", func(f Facts, _ time.Time) bool { return !f.wanted() && (f.Unit == Broken || f.Unit == Exited) },
		Clear, "it is no longer wanted, and its unit has ended"},
	{"unwanted/forget", func(f Facts, _ time.Time) bool { return !f.wanted() && f.Unit == Absent },
		Forget, "it is no longer wanted, and it has no unit"},

	{"forbidden/drain", func(f Facts, _ time.Time) bool { return f.Refusal != nil && f.serving() && f.Drain == NotDrained },
		Drain, "the host's policy refuses this pool"},
	{"forbidden/stop", func(f Facts, _ time.Time) bool {
		return f.Refusal != nil && f.Exists() && (f.Drain == Drained || !f.serving())
	}, Stop, "the host's policy refuses this pool, and no work is left"},

	// Without a drain: what it writes while others wait may be the rest of the disk.
	{"disk/stop", func(f Facts, _ time.Time) bool { return f.startable() && f.Disk != nil && f.Exists() },
		Stop, "its directories hold far more than [limits] state_max"},

	// An engine on an unusable GPU serves no requests, and a GPU can be reset only when no process
	// has it open.
	{"gpu/drain", func(f Facts, _ time.Time) bool {
		return f.startable() && f.GPU != nil && f.serving() && f.Drain == NotDrained
	},
		Drain, "a GPU of its device mask is unusable"},
	{"gpu/stop", func(f Facts, _ time.Time) bool {
		return f.startable() && f.GPU != nil && f.Exists() && (f.Drain == Drained || !f.serving())
	}, Stop, "a GPU of its device mask is unusable, and no work is left"},

	{"parked/drain", func(f Facts, _ time.Time) bool {
		return f.startable() && f.parked() && f.serving() && f.Drain == NotDrained
	},
		Drain, "the pool is drained, or its reload stops this engine first"},
	{"parked/stop", func(f Facts, _ time.Time) bool {
		return f.startable() && f.parked() && f.Exists() && (f.Drain == Drained || !f.serving())
	}, Stop, "it has to stop, and no work is left"},
	{"parked/clear", func(f Facts, _ time.Time) bool {
		return f.startable() && f.parked() && (f.Unit == Broken || f.Unit == Exited)
	}, Clear, "it is stopped, and its unit has ended"},
	{"parked", func(f Facts, _ time.Time) bool { return f.startable() && f.parked() },
		None, "it stays stopped until an operator resumes the pool, or its reload is over"},

	{"reload/drain", func(f Facts, _ time.Time) bool {
		return f.startable() && f.Role == Yield && f.serving() && f.Drain == NotDrained
	},
		Drain, "a reload hands over to another engine"},

	// First, since preparing a replacement may take long, or fail.
	{"resume", func(f Facts, _ time.Time) bool { return f.Resumes() }, Resume, "what drains is wanted again"},

	// The new model is staged and the new engine prepared before anything that runs is touched.
	{"stage", func(f Facts, _ time.Time) bool { return f.startable() && f.Stage == Pending },
		Stage, "the model is not staged"},
	{"prepare", func(f Facts, _ time.Time) bool {
		return f.startable() && f.Stage == Done && f.Prepare == Pending
	}, Prepare, "the engine is not prepared"},
	{"retry", func(f Facts, now time.Time) bool {
		return f.startable() && (f.Stage == Failed || f.Prepare == Failed) && !now.Before(f.RetryAt)
	}, Stage, "the wait after a failed attempt is over"},

	{"draining", func(f Facts, _ time.Time) bool { return f.Drain == Draining && f.serving() },
		None, "work in progress may finish"},

	{"replace/drain", func(f Facts, _ time.Time) bool {
		return f.startable() && f.serving() && f.Replaced() && f.Drain == NotDrained
	}, Drain, "the change of the pool needs a new process"},
	{"replace/stop", func(f Facts, _ time.Time) bool {
		return f.startable() && f.Exists() && f.Replaced() && (f.Drain == Drained || !f.serving())
	}, Stop, "the pool was changed, and no work is left"},
	{"fault/kill", func(f Facts, _ time.Time) bool {
		return f.mayStart() && f.serving() && f.Fault != nil && f.Drain == NotDrained
	},
		Kill, "the engine's process is unusable"},
	{"backoff/defer", func(f Facts, _ time.Time) bool { return f.startable() && f.Unit == Backoff && f.Ours },
		Defer, "PID 1 would start it again too early or too late; the manager starts it"},
	{"exited/ours", func(f Facts, _ time.Time) bool { return f.startable() && f.Unit == Exited && f.Ours },
		Clear, "the manager stopped it to make the next start itself"},
	{"limits", func(f Facts, _ time.Time) bool {
		return f.startable() && f.Exists() && f.Bare == nil && f.Prepare == Done && f.Spec.Limits != f.UnitSpec.Limits
	}, SetLimits, "only limits were changed"},

	{"broken/changed", func(f Facts, _ time.Time) bool { return f.mayStart() && f.Unit == Broken && f.Replaced() },
		Start, "the pool was changed after its unit had failed"},
	{"broken/retry", func(f Facts, now time.Time) bool {
		return f.mayStart() && f.Unit == Broken && f.Prepare == Done && !now.Before(f.RetryAt) && !f.delayed(now)
	}, Start, "the wait after the failed unit is over"},
	{"exited/changed", func(f Facts, _ time.Time) bool { return f.mayStart() && f.Unit == Exited && f.Replaced() },
		Start, "the pool was changed after its unit had been stopped"},
	{"exited/resume", func(f Facts, _ time.Time) bool {
		return f.mayStart() && f.Unit == Exited && f.Revive && f.Prepare == Done
	}, Start, "an operator resumed the pool after the unit had been stopped"},
	{"start", func(f Facts, now time.Time) bool {
		return f.mayStart() && f.Unit == Absent && f.Prepare == Done && !now.Before(f.RetryAt) && !f.delayed(now)
	}, Start, "the model is staged, the engine is prepared, and nothing runs"},
}

// Plan returns the next action for one replica. It is pure: the same facts and time give the
// same decision. When nothing is to be done now but a wait is running, At says until when.
func Plan(f Facts, now time.Time) Decision {
	for _, r := range planRules {
		if r.When(f, now) {
			d := Decision{Action: r.Action, Rule: r.Name, Reason: r.Reason}
			if d.Action == None {
				d.At = nextTime(f, now)
			}
			return d
		}
	}
	if at := nextTime(f, now); !at.IsZero() {
		return Decision{Rule: "waiting", Reason: "the next attempt is not due yet", At: at}
	}
	return Decision{Rule: "settled", Reason: "what runs is what is wanted"}
}

// nextTime is when the next wait ends, zero when there is none.
func nextTime(f Facts, now time.Time) time.Time {
	var at time.Time
	if f.startable() && now.Before(f.RetryAt) {
		at = f.RetryAt
	}
	if f.startable() && f.delayed(now) && (at.IsZero() || at.Before(f.DelayedUntil)) {
		at = f.DelayedUntil
	}
	if f.StopErr != nil && now.Before(f.StopAt) && (at.IsZero() || f.StopAt.Before(at)) {
		at = f.StopAt
	}
	return at
}
