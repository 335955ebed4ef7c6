package supervise

import (
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/memory"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// run is everything that belongs to one invocation of a replica's unit. It is replaced when the
// InvocationID changes: nothing of it is ever carried over to the next run. It counts while the
// unit is active; view leaves it out otherwise.
type run struct {
	id string // the InvocationID; "": there has been none

	verdict   reconcile.Probe
	probeErr  *registry.Failure // why the verdict is Unhealthy
	failures  int               // probes that failed in a row
	successes int               // and that succeeded

	watch      *watch                    // its probes and generations; nil: not probed
	drain      *drain                    // nil: takes work
	fault      *registry.Failure         // why its process must be ended; nil: it need not
	offload    []engine.Offload          // layers of each of its models on the GPUs; nil: not known
	ctx        int                       // tokens of one request, as the engine says; 0: not known
	slots      int                       // requests at once, as the engine says; 0: not asked yet
	refused    map[bounds.Subject]string // answers of the engine that are not believed, and why
	unanswered map[bounds.Subject]string // what it was asked for last without an answer, and why
	reported   []string                  // of these, what was logged
	tally      tally                     // what the engine has counted
	peaks      peaks
	readySince time.Time // on the clock since the boot; zero: it is not ready
	killed     bool      // in a stop that a former manager had begun
	measured   measured
}

// peaks is the most memory that a run has used of each device of its mask.
type peaks struct {
	seen     []memory.DeviceUse // by the position in the mask
	began    time.Time          // when the run was first seen to serve; zero: it was not
	recorded time.Time          // when they were written down last
}

// drainage is how far the drain has come.
func (u *run) drainage() reconcile.Drainage {
	switch {
	case u.drain == nil:
		return reconcile.NotDrained
	case u.drain.over:
		return reconcile.Drained
	}
	return reconcile.Draining
}

// draining reports whether a drain was begun, and drained whether it is over.
func (u *run) draining() bool { return u.drain != nil }
func (u *run) drained() bool  { return u.drain != nil && u.drain.over }

// endDrain drops the drain: the unit ended, or the engine takes work again.
func (u *run) endDrain() {
	if u.drain != nil {
		u.drain.cancel()
		u.drain = nil
	}
}
