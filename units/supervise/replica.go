package supervise

import (
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// replica is one engine process as the loop knows it. Each group of its data has one owner: what
// writes a group is in the file that the group is named after, or asks it by a method. Package
// reconcile decides on facts, which is computed from all groups.
type replica struct {
	entry *entry
	id    pool.Replica

	wish wish        // what is wanted of it
	prep preparation // what its next start needs
	job  job         // the call to PID 1 under way
	unit unit        // what PID 1 has of it
	run  run         // the invocation of the unit
	gpu  gpuUse      // the devices of its mask
	past history     // its failures
	wait pause       // how long the next start is held back after them
	last lastEnd     // why its newest run ended
	view shown       // what the registry, the log and the hand-off file show
}

// wish is what the pool's file, a reload and an operator want of a replica. It is computed from its
// pool as a whole, see wishOf, but for revive.
type wish struct {
	pool  pool.Pool // the version that it is to run; of the entry, but for the sides of a reload
	known bool      // pool holds a version

	asks     reconcile.Wish
	role     reconcile.Role
	rolling  bool // a reload of the pool is under way
	parked   bool // an operator drained the pool
	invalid  *registry.Failure
	refusal  *registry.Failure
	rejected *registry.Failure // of the version that was tried and rolled back

	revive bool // an operator asks for what was stopped by hand to be started again
}

// wishOf is what a pool wants of one of its replicas. A replica whose pool has a broken file and no
// former version is left as it is.
func (e *entry) wishOf(r *replica) wish {
	order := e.order(r.id)
	w := wish{
		pool: r.wish.pool, known: r.wish.known, revive: r.wish.revive,
		role: order.Role, rolling: e.intent.Reload != nil, parked: e.parked(), invalid: e.invalid, refusal: e.refusal,
	}
	switch {
	case e.invalid != nil && !e.known:
		w.asks = reconcile.Unknown
	case e.wanted && e.known && order.Wanted:
		w.asks = reconcile.Wanted
	}
	if e.intent.Rejected != nil {
		w.rejected = e.intent.Rejected.Failure
	}
	return w
}

// updateWish brings the replica up to what its pool wants of it now.
func (r *replica) updateWish() {
	r.job.stopErr = nil // a stop that failed is tried at once, if it is still wanted
	r.wish = r.entry.wishOf(r)
	switch {
	case !r.wish.parked:
		r.last.cut = nil
	case r.last.cut == nil:
		r.last.cut = r.drainCut()
	}
}

// unit is the replica's unit as PID 1 has it.
type unit struct {
	name     string
	phase    reconcile.Phase
	status   systemd.Status
	position systemd.Position // of the newest update
	spec     reconcile.Spec
	limits   string // set since the unit was made, which its own label cannot show
	port     int
	endpoint string // http://127.0.0.1:PORT
	moves    int    // to another port, in a row
	moving   bool   // port is the next unit's: another process has that of this one
	disk     diskUse
	left     string // the run whose port was left last; empty: it had no run
	raised   bool   // its first step waits for a raised need

	dropped time.Time // since when PID 1 is to restart it and has no job of it; zero: it is not so
}

// gpuUse is what is known of the devices of a replica's mask.
type gpuUse struct {
	targets []devices.Target  // the mask of what runs; where nothing runs, of what is prepared
	blocked *registry.Failure // why one of them may not be used now
	enough  bool              // the newest report shows as much free memory as the replica needs
}

// lastEnd is why the newest run that ended badly did so.
type lastEnd struct {
	crash  *registry.Failure // shown until the engine is ready again
	report *ended            // as far as it is complete; nil: none
	fault  *fault            // a GPU error, or the manager's own reason to end the process
	cut    *registry.Failure // what the deadline of an operator's drain cut
}

// pause is how long the next start is held back after failures.
type pause struct {
	on    bool
	until time.Time
	err   *registry.Failure // the breaker is open
	ours  bool              // the manager makes the next start: PID 1's would be too early, or too late
}

// set holds the next start back until a time on the clock since the boot, of which it is now.
func (p *pause) set(until, now time.Time) {
	left := until.Sub(now)
	if until.IsZero() || left <= 0 {
		p.end()
		return
	}
	p.on, p.until = true, time.Now().Add(left)
}

// end lets the next start be made.
func (p *pause) end() { *p = pause{} }

// take has the manager make the next start, at once.
func (p *pause) take() { *p = pause{ours: true} }

// shown is what was published and logged of a replica last.
type shown struct {
	state     registry.State
	reason    string
	since     time.Time
	lastErr   *registry.Failure
	logged    string // the last failure that was logged, to log each once
	heartbeat time.Time
}
