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
	Drain     Action = "drain"      // let held work finish, up to the deadline
	Resume    Action = "resume"     // end a drain that is no longer wanted
	Stop      Action = "stop"       // ask PID 1 to stop the unit
	Clear     Action = "clear"      // let PID 1 forget the failed or ended unit
	SetLimits Action = "set-limits" // change cgroup limits of the running unit
	Forget    Action = "forget"     // nothing is left: drop the replica
	Kill      Action = "kill"       // have PID 1 end the process; its backoff and a new process follow
	Hold      Action = "hold"       // take a unit that waits for its restart from PID 1: it is started later
	Hasten    Action = "hasten"     // ask PID 1 to start the unit now, and not when its backoff is over
)

// Decision is the next action, and why.
type Decision struct {
	Action Action
	Rule   string    // the name of the rule that decided, for traces and tests
	Reason string    // one sentence for people
	At     time.Time // when to decide again although nothing happens; zero: never
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

	{"stop/patience", func(f Facts, now time.Time) bool { return f.StopErr != nil && f.Exists() && now.Before(f.StopAt) },
		None, "the unit could not be stopped; the next attempt is not due yet"},

	// A broken file must not cost what runs: leave it, whatever it is.
	{"held/resume", func(f Facts, _ time.Time) bool { return f.Wish == Unknown && f.serving() && f.Drain != NotDrained },
		Resume, "the pool's file cannot be read, so what runs is left as it is"},
	{"held", func(f Facts, _ time.Time) bool { return f.Wish == Unknown },
		None, "the pool's file cannot be read, so what runs is left as it is"},

	{"unwanted/drain", func(f Facts, _ time.Time) bool { return !f.wanted() && f.serving() && f.Drain == NotDrained },
		Drain, "it is not wanted any more: no pool file asks for it, or a reload took its place"},
	{"unwanted/stop", func(f Facts, _ time.Time) bool {
		return !f.wanted() && f.Exists() && (f.Drain == Drained || !f.serving())
	},
		Stop, "it is not wanted any more, and nothing is held"},
	{"unwanted/clear", func(f Facts, _ time.Time) bool { return !f.wanted() && (f.Unit == Broken || f.Unit == Exited) },
		Clear, "it is not wanted any more, and its unit has ended"},
	{"unwanted/forget", func(f Facts, _ time.Time) bool { return !f.wanted() && f.Unit == Absent },
		Forget, "it is not wanted any more, and it has no unit"},

	{"forbidden/drain", func(f Facts, _ time.Time) bool { return f.Refusal != nil && f.serving() && f.Drain == NotDrained },
		Drain, "the host's policy refuses this pool"},
	{"forbidden/stop", func(f Facts, _ time.Time) bool {
		return f.Refusal != nil && f.Exists() && (f.Drain == Drained || !f.serving())
	}, Stop, "the host's policy refuses this pool, and nothing is held"},

	// An engine on a GPU that must not be used serves nobody, and a GPU can be reset only when nothing holds it.
	{"gpu/drain", func(f Facts, _ time.Time) bool {
		return f.startable() && f.GPU != nil && f.serving() && f.Drain == NotDrained
	},
		Drain, "a GPU of its mask may not be used"},
	{"gpu/stop", func(f Facts, _ time.Time) bool {
		return f.startable() && f.GPU != nil && f.Exists() && (f.Drain == Drained || !f.serving())
	}, Stop, "a GPU of its mask may not be used, and nothing is held"},

	{"parked/drain", func(f Facts, _ time.Time) bool {
		return f.startable() && f.parked() && f.serving() && f.Drain == NotDrained
	},
		Drain, "it is not to take work any more"},
	{"parked/stop", func(f Facts, _ time.Time) bool {
		return f.startable() && f.parked() && f.Exists() && (f.Drain == Drained || !f.serving())
	}, Stop, "it is to be stopped, and nothing is held"},
	{"parked/clear", func(f Facts, _ time.Time) bool {
		return f.startable() && f.parked() && (f.Unit == Broken || f.Unit == Exited)
	}, Clear, "it is stopped, and its unit has ended"},
	{"parked", func(f Facts, _ time.Time) bool { return f.startable() && f.parked() },
		None, "it stays stopped until an operator resumes the pool, or its reload is over"},

	{"reload/drain", func(f Facts, _ time.Time) bool {
		return f.startable() && f.Role == Yield && f.serving() && f.Drain == NotDrained
	},
		Drain, "a reload hands over to another engine"},

	// First, since it may take long until something is prepared that could replace what runs, or never come to it.
	{"resume", func(f Facts, _ time.Time) bool { return f.Resumes() }, Resume, "what runs is wanted again"},

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
		None, "held work may finish"},

	{"replace/drain", func(f Facts, _ time.Time) bool {
		return f.startable() && f.serving() && f.Replaced() && f.Drain == NotDrained
	}, Drain, "the pool was changed in a way that needs a new process"},
	{"replace/stop", func(f Facts, _ time.Time) bool {
		return f.startable() && f.Exists() && f.Replaced() && (f.Drain == Drained || !f.serving())
	}, Stop, "the pool was changed, and nothing is held"},
	{"fault/kill", func(f Facts, _ time.Time) bool {
		return f.mayStart() && f.serving() && f.Fault != nil && f.Drain == NotDrained
	},
		Kill, "the engine's process is of no more use"},
	{"hold/stop", func(f Facts, _ time.Time) bool { return f.startable() && f.Unit == Backoff && f.HoldStop },
		Hold, "PID 1 would start it again too early"},
	{"freed/hasten", func(f Facts, _ time.Time) bool { return f.mayStart() && f.Unit == Backoff && f.Freed && !f.open() },
		Hasten, "the memory that its last start lacked is free"},
	{"limits", func(f Facts, _ time.Time) bool {
		return f.startable() && f.Exists() && f.Prepare == Done && f.Spec.Limits != f.UnitSpec.Limits
	}, SetLimits, "only limits were changed"},

	{"broken/changed", func(f Facts, _ time.Time) bool { return f.mayStart() && f.Unit == Broken && f.Replaced() },
		Start, "the pool was changed after its unit had failed"},
	{"broken/retry", func(f Facts, now time.Time) bool {
		return f.mayStart() && f.Unit == Broken && f.Prepare == Done && !now.Before(f.RetryAt) && !f.held(now)
	}, Start, "the wait after the failed unit is over"},
	{"exited/changed", func(f Facts, _ time.Time) bool { return f.mayStart() && f.Unit == Exited && f.Replaced() },
		Start, "the pool was changed after its unit had been stopped"},
	{"exited/revive", func(f Facts, _ time.Time) bool {
		return f.mayStart() && f.Unit == Exited && f.Revive && f.Prepare == Done
	}, Start, "an operator asks for it again after it had been stopped"},
	{"start", func(f Facts, now time.Time) bool {
		return f.mayStart() && f.Unit == Absent && f.Prepare == Done && !now.Before(f.RetryAt) && !f.held(now)
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

// nextTime is the earlier of the waits that are running, zero when none is.
func nextTime(f Facts, now time.Time) time.Time {
	var at time.Time
	if f.startable() && now.Before(f.RetryAt) {
		at = f.RetryAt
	}
	if f.startable() && f.held(now) && (at.IsZero() || at.Before(f.HoldUntil)) {
		at = f.HoldUntil
	}
	if f.StopErr != nil && now.Before(f.StopAt) && (at.IsZero() || f.StopAt.Before(at)) {
		at = f.StopAt
	}
	return at
}
