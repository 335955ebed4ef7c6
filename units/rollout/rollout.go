// Package rollout decides how a pool goes from one version to another, all or nothing: replica by replica, the new engine beside the old one
// where both fit, else after it, and back again where anything fails.
//
// It owns the steps and the one table that holds them. It must not act: no I/O, no clock. Whoever calls it writes the record down, carries
// its orders out, and calls again with new facts; a manager that was killed goes on from the record.
package rollout

import (
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// Phase is how far the place that is worked on has come.
type Phase string

// The phases. A place ends in none of them: the next place begins in Preparing, or the record is done.
const (
	Preparing Phase = "preparing" // the new version is staged, verified and prepared; nothing is touched
	Beside    Phase = "beside"    // the new engine loads while the old one serves
	Handing   Phase = "handing"   // the new engine serves, the old one takes no new work and finishes what is held
	Leaving   Phase = "leaving"   // the new engine serves, the old one is stopped
	Yielding  Phase = "yielding"  // both do not fit: the old engine takes no new work and finishes what is held
	Ending    Phase = "ending"    // the old engine is stopped
	After     Phase = "after"     // the new engine loads, the old one is gone
	Dropping  Phase = "dropping"  // the new engine failed and leaves first, since both do not fit
	Reverting Phase = "reverting" // something failed: the new engine is dropped, the old one serves or starts again
)

// Phases lists the closed list, in the order of a reload.
func Phases() []Phase {
	return []Phase{Preparing, Beside, Handing, Leaving, Yielding, Ending, After, Dropping, Reverting}
}

// Reason is why a reload was rolled back: a closed list, so that it can be a metric's label.
type Reason string

// The reasons.
const (
	Staging      Reason = "staging"       // the model or the engine could not be prepared
	TooBig       Reason = "fit"           // there is not enough memory for it
	Load         Reason = "load"          // the new engine ended or stalled before it was ready
	Health       Reason = "health"        // it was ready, or its gate passed, and then it did not answer
	DrainTimeout Reason = "drain_timeout" // work was still held by the old engine at the deadline
	Cancelled    Reason = "cancelled"     // an operator drained the pool, or asked for something else
)

// Record is a reload under way, as it is written down.
type Record struct {
	From  pool.Pool `json:"from"`
	To    pool.Pool `json:"to"`
	Sides []int     `json:"sides"` // the side of the From version, by place
	Place int       `json:"place"` // that is worked on; those before it are done
	Phase Phase     `json:"phase"`
	// Undo says that places which were done already go back: From and To have changed their roles, and Place counts down.
	Undo bool `json:"undo,omitempty"`

	Deadline time.Duration     `json:"deadline_ns"` // of each drain
	Began    time.Time         `json:"began"`
	ByFile   bool              `json:"by_file,omitempty"` // a pool file was changed; else an operator asked for it
	By       string            `json:"by,omitempty"`
	Reason   Reason            `json:"reason,omitempty"` // why it goes back
	Failure  *registry.Failure `json:"failure,omitempty"`
}

// Begin returns the record of a new reload. sides are those that the old engines run on, by place.
func Begin(from, to pool.Pool, sides []int, deadline time.Duration, began time.Time) Record {
	return Record{From: from, To: to, Sides: sides, Phase: Preparing, Deadline: deadline, Began: began.Round(0)}
}

// Places is how many replicas both versions have; further ones come or go when the reload is done.
func (r Record) Places() int { return min(len(r.Sides), r.From.Replicas, r.To.Replicas) }

// Back reports whether the reload goes back to the former version.
func (r Record) Back() bool { return r.Reason != "" }

// Cancel returns the record of a reload that is to go back. One whose new engine has taken over a place, and whose old one is being stopped,
// is undone from that place on, so that the new one serves until the old one does again.
func (r Record) Cancel(why Reason, f *registry.Failure) Record {
	if r.Back() {
		return r
	}
	switch r.Phase {
	case Leaving:
	case After:
		r.Phase = Dropping
	default:
		r.Phase = Reverting
	}
	r.Reason, r.Failure = why, f
	return r
}

// Order is what one side of a place is to do.
type Order struct {
	Version pool.Pool
	Wanted  bool // false: it is drained, stopped and forgotten
	Role    reconcile.Role
}

// Orders returns what the two sides of a place are to do: that of the version it comes from, and that of the one it goes to.
func (r Record) Orders(place int) (from, to Order) {
	from, to = Order{Version: r.From}, Order{Version: r.To}
	switch {
	case place >= r.Places(), place > r.Place:
		from.Wanted = true
		return from, to
	case place < r.Place:
		to.Wanted = true
		return from, to
	}
	leaves, comes := &from, &to
	if r.Undo {
		leaves, comes = &to, &from
	}
	switch r.Phase {
	case Preparing:
		leaves.Wanted, comes.Wanted, comes.Role = true, true, reconcile.Standby
	case Beside:
		leaves.Wanted, comes.Wanted = true, true
	case Handing:
		leaves.Wanted, leaves.Role, comes.Wanted = true, reconcile.Yield, true
	case Leaving:
		comes.Wanted = true
	case Yielding:
		leaves.Wanted, comes.Wanted = true, true
		leaves.Role, comes.Role = reconcile.Yield, reconcile.Standby
	case Ending:
		leaves.Wanted, comes.Wanted = true, true
		leaves.Role, comes.Role = reconcile.Aside, reconcile.Standby
	case After:
		leaves.Wanted, leaves.Role, comes.Wanted = true, reconcile.Aside, true
	case Dropping:
		from.Wanted, from.Role = true, reconcile.Standby
	default: // Reverting
		from.Wanted = true
	}
	return from, to
}
