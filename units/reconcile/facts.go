// Package reconcile decides. From the desired state of one replica, what is known of it and the
// time, it derives the replica's state and the next single action, each with a
// reason in words.
//
// It owns the rules and the two tables that hold them. It must not act: no I/O, no clock, no
// goroutine, no D-Bus. The caller carries the action out and calls again with the new facts.
package reconcile

import (
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// Step is how far one preparation step has come.
type Step int

// The steps of staging and preparing.
const (
	Pending Step = iota // to be done, or to be done again
	Running
	Done
	Failed // see Facts.Failure; tried again at Facts.RetryAt
)

// Phase is the state of a unit in PID 1, reduced to what a decision needs.
type Phase int

// The phases of a unit.
const (
	Absent   Phase = iota // PID 1 does not know it
	Starting              // executed, its gate has not passed yet
	Active                // its gate passed
	Backoff               // crashed; PID 1 waits before it starts it again
	Stopping              // being stopped
	Broken                // failed, and PID 1 gave up on it
	Exited                // ended without a failure, and is not started again
)

// Probe is the verdict of the manager's own health probes since the unit became active.
type Probe int

// The verdicts.
const (
	Unprobed Probe = iota
	Healthy
	Unhealthy
)

// Wish is whether the pool's file asks for a replica.
type Wish int

// The wishes.
const (
	Unwanted Wish = iota // no pool file asks for it, or a reload took its place
	Unknown              // the file is invalid and no former version is known: what runs is not touched
	Wanted
)

// Role is what a wanted replica has to do. Roles other than Serve exist only during a reload.
type Role int

// The roles.
const (
	Serve   Role = iota
	Standby      // prepare it, but do not start it
	Yield        // take no new work; work in progress may finish and is not cut at the deadline
	Suspend      // stop it, and do not start it
)

// Drainage is the progress of the running unit's drain.
type Drainage int

// The stages of a drain.
const (
	NotDrained Drainage = iota // no drain was begun
	Draining                   // no new work is taken; work in progress may finish
	Drained                    // no work is left, or the deadline has passed
)

// Spec identifies a rendering: Identity changes when a new process is needed, Limits when only
// cgroup limits differ, which PID 1 can change on a running unit.
type Spec struct {
	Identity string
	Limits   string
}

// Facts is everything that is known about one replica.
type Facts struct {
	Wish Wish
	Role Role
	// Invalid is why the pool's file is invalid: with a former version in force it is only
	// reported, without one the wish is Unknown. Refusal is set where a policy forbids the pool.
	Invalid *registry.Failure
	Refusal *registry.Failure

	Stage   Step
	Prepare Step
	Failure *registry.Failure // of the failed step or of the failed start
	RetryAt time.Time         // the next attempt of the failed step or broken unit; zero: at once

	Spec     Spec // of what is staged and prepared; empty until then
	Unit     Phase
	UnitSpec Spec              // what the unit was started with
	Crash    *registry.Failure // why the unit's last run ended badly
	// EndedItself reports that the process of an Exited unit ended by itself without an error, and
	// that its pool's file says that this is a stop.
	EndedItself bool

	StopErr *registry.Failure // of a stop that PID 1 did not carry out; the next attempt is due at StopAt
	StopAt  time.Time
	// Unsure reports that the manager had the unit stopped, and that PID 1's answer was lost: a
	// unit that has ended since was not stopped by an operator.
	Unsure bool

	// GPU is why a device of the mask is unusable: it needs a reset, or is lost. Short is set when
	// the last start found too little memory, until a start finds enough.
	GPU   *registry.Failure
	Short *registry.Failure
	// Disk is set where the replica has far more on the disk than it may, so that it must not run,
	// and DiskOver where it has more, which is only reported.
	Disk     *registry.Failure
	DiskOver *registry.Failure
	// Bare is set where PID 1 has lost the running unit's settings, which is only reported: it
	// follows the process, and stops it when asked to.
	Bare *registry.Failure
	// Fault is why the running engine's process is unusable though it has not ended: a GPU error,
	// or a health probe that has failed for too long.
	Fault *registry.Failure

	// Delayed reports that failures delay the next start until DelayedUntil. BreakerErr is set
	// where the breaker is open. Ours reports that the manager makes the next start, and PID 1 must
	// not: it would be too early or too late.
	Delayed      bool
	DelayedUntil time.Time
	BreakerErr   *registry.Failure
	Ours         bool

	// Parked reports that an operator drained the pool: what runs is drained and stopped, and
	// nothing is started until it is resumed. DrainErr is set when the drain reached its deadline.
	Parked   bool
	DrainErr *registry.Failure
	Revive   bool // an operator resumed the pool, so that a unit that was stopped by hand starts again

	// Rolling reports that a reload is under way: it replaces what must be replaced. Rejected is
	// the change that was tried and rolled back.
	Rolling  bool
	Rejected *registry.Failure

	Op    Action // the call to PID 1 that is under way; None: there is none
	Drain Drainage

	Probe    Probe
	ProbeErr *registry.Failure
	FailOpen bool // health.mode = "fail-open"
}

// Settled reports whether the replica serves as it is wanted, and nothing else is known of it: Plan
// has nothing for it at any time, and Assess no failure.
func (f Facts) Settled() bool {
	return f == Facts{Wish: Wanted, Stage: Done, Prepare: Done, Unit: Active, Probe: Healthy, Spec: f.Spec,
		UnitSpec: f.Spec, FailOpen: f.FailOpen}
}

// serving reports whether the unit may hold requests that a stop would cut.
func (f Facts) serving() bool { return f.Unit == Active }

// Exists reports whether a unit in this phase must be stopped before a new start.
func (p Phase) Exists() bool { return p == Starting || p == Active || p == Backoff }

// Exists reports whether PID 1 has something that must be stopped before a new start.
func (f Facts) Exists() bool {
	return f.Unit.Exists()
}

// startable reports whether the pool may run at all.
func (f Facts) startable() bool {
	return f.Wish == Wanted && f.Refusal == nil
}

// wanted reports whether the replica must stay, including where its file cannot be read.
func (f Facts) wanted() bool { return f.Wish != Unwanted }

// mayStart reports whether it may run now.
func (f Facts) mayStart() bool {
	return f.startable() && f.GPU == nil && f.Disk == nil && !f.parked() && f.Role != Standby
}

// delayed reports whether the next start is not due yet.
func (f Facts) delayed(now time.Time) bool { return f.Delayed && now.Before(f.DelayedUntil) }

// open reports whether the breaker is open: no start is due before its trial.
func (f Facts) open() bool { return f.Delayed && f.BreakerErr != nil }

// parked reports whether what runs has to stop and nothing may start.
func (f Facts) parked() bool { return f.Parked || f.Role == Suspend }

// Resumes reports whether a drain is under way that is no longer wanted: the work that it waits for
// must not be cut at its deadline.
func (f Facts) Resumes() bool {
	return f.mayStart() && f.serving() && f.Drain != NotDrained && f.Role != Yield && !f.Replaced()
}

// Replaced reports whether the running unit differs from the wanted one.
func (f Facts) Replaced() bool {
	return !f.Rolling && f.Prepare == Done && f.Spec.Identity != "" && f.Spec.Identity != f.UnitSpec.Identity
}
