// Package rollout decides how a pool moves from one version to another, all or nothing: replica by
// replica, the new engine beside the old one where both fit, else after it, and back to the old
// version if anything fails.
//
// It owns the steps and their one table. It must not act: no I/O, no clock. The caller writes the
// record to disk, carries its orders out, and calls again with new facts; after a restart the
// manager continues from the record.
package rollout

import (
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// Phase is the progress of the reload at its current slot index.
type Phase string

// The phases. None is the last: the next slot index begins in Preparing, or the reload is over.
const (
	Preparing Phase = "preparing" // the new version is staged, verified and prepared; nothing is touched
	Beside    Phase = "beside"    // the new engine loads while the old one serves
	Handing   Phase = "handing"   // the new engine serves, the old one takes no new work and finishes its work
	Leaving   Phase = "leaving"   // the new engine serves, the old one is stopped
	Yielding  Phase = "yielding"  // both do not fit: the old engine takes no new work and finishes its work
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
	TooBig       Reason = "fit"           // there is not enough memory
	Load         Reason = "load"          // the new engine ended or stalled before it was ready
	Health       Reason = "health"        // it passed its gate or was ready, and then its probe failed
	DrainTimeout Reason = "drain_timeout" // the old engine still had work at the deadline
	Cancelled    Reason = "cancelled"     // an operator drained the pool, or the wanted version changed
)

// Reasons returns all of them.
func Reasons() []Reason { return []Reason{Staging, TooBig, Load, Health, DrainTimeout, Cancelled} }

// Record is a reload under way, as it is kept on disk.
type Record struct {
	From  pool.Pool `json:"from"`
	To    pool.Pool `json:"to"`
	Sides []int     `json:"sides"` // the side of the From version, by slot index
	Place int       `json:"place"` // the current slot index; those before it are done
	Phase Phase     `json:"phase"`
	// Undo reports that slot indexes which were done already roll back: From and To have exchanged
	// roles, and Place counts down.
	Undo bool `json:"undo,omitempty"`

	Deadline time.Duration `json:"deadline_ns"` // of each drain
	Began    time.Time     `json:"began"`
	ByFile   bool          `json:"by_file,omitempty"` // a pool file was changed; else an operator asked for it
	By       string        `json:"by,omitempty"`
	// Correlation is the id of the request that asked for it.
	Correlation string `json:"correlation_id,omitempty"`

	Reason  Reason            `json:"reason,omitempty"` // why it rolls back
	Failure *registry.Failure `json:"failure,omitempty"`
}

// Begin returns the record of a new reload. sides are those of the old engines, by slot index.
func Begin(from, to pool.Pool, sides []int, deadline time.Duration, began time.Time) Record {
	return Record{From: from, To: to, Sides: sides, Phase: Preparing, Deadline: deadline, Began: began.Round(0)}
}

// Places is the number of replicas that both versions have; others are added or removed after the
// reload.
func (r Record) Places() int { return min(len(r.Sides), r.From.Replicas, r.To.Replicas) }

// Back reports whether the reload rolls back to the former version.
func (r Record) Back() bool { return r.Reason != "" }

// Cancel returns the record of a reload that has to roll back. One whose new engine has taken over,
// and whose old one is being stopped, is undone from that slot index on, so that the new one serves
// until the old one does again.
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

// Order is what one side of a slot index has to do.
type Order struct {
	Version pool.Pool
	Wanted  bool // false: drain, stop and forget it
	Role    reconcile.Role
}

// Orders returns what the two sides of a slot index have to do: that of the From version, and that
// of the To version.
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
		leaves.Role, comes.Role = reconcile.Suspend, reconcile.Standby
	case After:
		leaves.Wanted, leaves.Role, comes.Wanted = true, reconcile.Suspend, true
	case Dropping:
		from.Wanted, from.Role = true, reconcile.Standby
	default: // Reverting
		from.Wanted = true
	}
	return from, to
}
