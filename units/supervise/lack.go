package supervise

import (
	"context"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/memory"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// lack is what a load had when it ended, from which the next need is concluded if it ended for want
// of memory.
type lack struct {
	load Load
	end  memory.End
}

// lackOf returns what a load has at its end; nil for a run that had loaded, and for one of another
// version than the one whose need is known.
func (s *Supervisor) lackOf(r *replica, st systemd.Status) *lack {
	if s.o.Memory == nil || st.WasActive || !r.current() {
		return nil
	}
	load := r.load()
	return &lack{load: load, end: memory.End{Run: st.InvocationID, At: time.Now(), Need: r.prep.need,
		Targets: load.Mask, Seen: slices.Clone(r.run.peaks.seen)}}
}

// raiseNeed has the need of the next start raised by what a load lacked, and that start made with
// it. lines are the run's log.
func (s *Supervisor) raiseNeed(r *replica, e *ended, f *registry.Failure, lines []string) {
	if e.lack == nil {
		return
	}
	load, end := e.lack.load, e.lack.end
	end.Code = f.Code
	switch f.Code {
	case registry.CodeEngineOOM:
		end.MemoryMax, end.Targets = load.Pool.Limits.MemoryMaxBytes, nil
	case registry.CodeCUDAOOM:
		if a, ok := classify.LastAllocation(lines); ok {
			end.Failed = &a
		}
	default:
		return
	}
	s.effect(func(ctx context.Context) func() {
		raised := s.o.Memory.Raise(ctx, load, end)
		return func() {
			if raised && r.last.report == e {
				s.o.Log.Info("the next start needs more memory than this one, which ended for want of it",
					append(s.about(r), "invocation_id", e.run, "class", string(f.Code))...)
				s.renewNeed(r)
				s.settle(r)
			}
		}
	}, func(error) {})
}

// renewNeed has the manager make the next start, with the need as it is known then: the unit that
// PID 1 would start again has the former one.
func (s *Supervisor) renewNeed(r *replica) {
	if r.prep.prepare != reconcile.Done || has(r.unit.phase) {
		return
	}
	r.prep.again()
	if r.unit.phase == reconcile.Backoff {
		r.wait.ours = true
	}
}

// renewStale renews the need where that of the unit that has ended may be too high by now: it was
// raised, or too little memory was found although there is as much as the replica needs.
func (s *Supervisor) renewStale(r *replica, f *registry.Failure) {
	enough, known := s.gpus.Enough(r.prep.need.Devices)
	if r.unit.raised || lacks(f) && known && enough {
		s.renewNeed(r)
	}
}

// lowerNeed has a raised need forgotten, since a run serves.
func (s *Supervisor) lowerNeed(r *replica) {
	if s.o.Memory == nil || r.prep.need.Raised == nil || !r.current() {
		return
	}
	r.prep.need = r.prep.need.Usual()
	load := r.load()
	s.effect(func(ctx context.Context) func() {
		s.o.Memory.Lower(ctx, load)
		return func() {}
	}, func(error) {})
}

// shownNeed is what the next or present run needs, as far as it is known.
func (r *replica) shownNeed() *registry.Need {
	n := r.prep.need
	if !n.Known() {
		return nil
	}
	shown := &registry.Need{Source: string(n.Source), VRAM: n.Total(), Host: n.MainMemory()}
	if n.Raised != nil {
		shown.RaisedAfter, shown.RaisedUntil = n.Raised.Code, n.Raised.Until
	}
	return shown
}
