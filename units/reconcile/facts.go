// Package reconcile decides. From what is wanted of one replica, what is known of it, and the
// time, it says which state the replica is in and which single action comes next, each with a
// reason in words.
//
// It owns the rules and the two tables that hold them. It must not act: no I/O, no clock, no
// goroutine, no D-Bus. Whoever calls it carries the action out and calls again with the new facts.
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

// Phase is a unit as PID 1 has it, folded to what a decision needs.
type Phase int

// The phases of a unit.
const (
	Absent   Phase = iota // PID 1 does not know it
	Starting              // executed, its gate has not passed yet
	Active                // its gate passed
	Backoff               // crashed; PID 1 waits before it starts it again
	Stopping              // being stopped
	Broken                // failed, and PID 1 starts it no more
	Exited                // ended without a failure: stopped by an operator, or exit status 0
)

// Probe is the verdict of the manager's own health probes since the unit became active.
type Probe int

// The verdicts.
const (
	Unprobed Probe = iota
	Healthy
	Unhealthy
)

// Wish is what the pool's file asks of a replica.
type Wish int

// The wishes.
const (
	Unwanted Wish = iota // no pool file asks for it, or a reload took its place
	Unknown              // the file that could say so is wrong, and no former version is known: what runs is left as it is
	Wanted
)

// Role is what a replica that is wanted is to do. Other than Serve there is only while a reload is under way.
type Role int

// The roles.
const (
	Serve   Role = iota
	Standby      // it is prepared, and not started
	Yield        // it takes no new work; what is held may finish, and the deadline cuts nothing
	Aside        // it is stopped, and not started
)

// Drainage is how far the drain of the unit that runs has come.
type Drainage int

// The stages of a drain.
const (
	NotDrained Drainage = iota // none was begun
	Draining                   // no new work is taken, and held work may finish
	Drained                    // nothing is held any longer, or the deadline has passed
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
	// Invalid says that the pool's file went wrong: with a former version in force it is only
	// reported, without one the wish is Unknown. Refusal says that a policy forbids the pool.
	Invalid *registry.Failure
	Refusal *registry.Failure

	Stage   Step
	Prepare Step
	Failure *registry.Failure // of the failed step or of the failed start
	RetryAt time.Time         // of the failed step or the broken unit; zero: at once

	Spec     Spec // of what is staged and prepared; empty until then
	Unit     Phase
	UnitSpec Spec              // as the unit carries it
	Crash    *registry.Failure // why the unit's last run ended badly
	// EndedItself says of an Exited unit that its process left with status 0 although nobody had asked for a stop.
	EndedItself bool

	StopErr *registry.Failure // of a stop that PID 1 did not carry out; the next is due at StopAt
	StopAt  time.Time

	// GPU says that a device of the mask may not be used now: it needs a reset, or is lost. Short says that the last start found
	// too little memory; it is over when a start finds enough. Freed says that there is enough again for a unit that PID 1 holds back.
	GPU   *registry.Failure
	Short *registry.Failure
	Freed bool
	// Fault is why the process of the engine that runs is of no more use though it has not ended: a GPU error, or a health probe that has
	// failed for too long.
	Fault *registry.Failure

	// Holding says that the next start is held back until HoldUntil, after failures; with HoldErr, since the breaker is open. HoldStop says that
	// PID 1 would start the unit too early, and must not.
	Holding   bool
	HoldUntil time.Time
	HoldErr   *registry.Failure
	HoldStop  bool

	// Parked says that an operator drained the pool: what runs is drained and stopped, and nothing is started until he resumes it.
	// DrainErr says that its drain ran into the deadline.
	Parked   bool
	DrainErr *registry.Failure
	Revive   bool // an operator asks for what was stopped by hand to be started again

	// Of a reload: Rolling says that one is under way, which sees to what must be replaced. Rejected says which change was tried
	// and rolled back.
	Rolling  bool
	Rejected *registry.Failure

	Op    Action // the call to PID 1 that is under way, None otherwise
	Drain Drainage

	Probe    Probe
	ProbeErr *registry.Failure
	FailOpen bool // health.mode = "fail-open"
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

// wanted reports whether the replica must stay, also where no file can say so.
func (f Facts) wanted() bool { return f.Wish != Unwanted }

// mayStart reports whether it may run now.
func (f Facts) mayStart() bool {
	return f.startable() && f.GPU == nil && !f.parked() && f.Role != Standby
}

// held reports whether the next start is not due yet.
func (f Facts) held(now time.Time) bool { return f.Holding && now.Before(f.HoldUntil) }

// open reports whether the breaker is open: no start is due before its trial.
func (f Facts) open() bool { return f.Holding && f.HoldErr != nil }

// parked reports whether what runs is to be stopped, and nothing to be started.
func (f Facts) parked() bool { return f.Parked || f.Role == Aside }

// Resumes reports whether a drain was begun that nobody wants any more: what it waits for must not be cut at its deadline.
func (f Facts) Resumes() bool {
	return f.mayStart() && f.serving() && f.Drain != NotDrained && f.Role != Yield && !f.Replaced()
}

// Replaced reports whether the unit that runs is not the one that is now wanted.
func (f Facts) Replaced() bool {
	return !f.Rolling && f.Prepare == Done && f.Spec.Identity != "" && f.Spec.Identity != f.UnitSpec.Identity
}
