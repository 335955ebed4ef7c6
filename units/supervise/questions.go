package supervise

import (
	"cmp"
	"context"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// An engine is asked for its queue and figures with each good probe while leases of it are held,
// for a while after that, while requests wait, and for a while after it counted something; else
// with each of so many good probes.
const queueSeldom = 6

// questions is what a run's engine is asked for beside its health. The questions begin with a good
// probe, whose result waits for the answers.
type questions struct {
	asking   bool // questions are under way
	later    bool // a later probe has ended meanwhile
	askSlots bool // how many requests at once the engine takes is not known yet
	// how many layers are on the GPUs is not read from the log yet
	askLayers bool
	askCtx    bool         // the context that it serves is not known yet
	sleeps    engine.Sleep // how it sleeps; without a path: not at all
	asleep    bool         // it reported so with the newest good probe
	queued    *int         // requests that wait inside the engine; nil: not known
	work      registry.Work
	queueIn   int  // good probes until the queue is asked for again
	used      int  // good probes for which leases that are over still count
	news      bool // an answer has changed what is published
}

// ask asks what is due after a good probe, and reports whether there is anything. The probe counts
// once the answers are there.
func (s *Supervisor) ask(w *watch, took time.Duration) bool {
	if w.r.run.watch != w || w.asking {
		return false
	}
	askSlots, askLayers, askQueue := w.askSlots, w.askLayers, s.queueDue(w)
	askCtx, askSleep := w.askCtx, w.sleeps.Path != ""
	if !askSlots && !askLayers && !askQueue && !askCtx && !askSleep {
		return false
	}
	w.asking, w.later = true, false
	kind, _ := w.r.serves()
	unit := w.r.unit.name
	s.effects.Go(func() {
		slots, answer, ctx, asleep, err := 0, reading{}, 0, false, error(nil)
		var layers []engine.Offload
		if askLayers {
			_ = s.guard(func() error { layers = s.offloads(w.ctx, kind, unit, w.run); return nil }) // it only explains
		}
		if askSleep {
			err = s.guard(func() error { asleep = w.isAsleep(w.ctx) == isAsleep; return nil })
		}
		if err == nil && askCtx {
			_ = s.guard(func() error { ctx = w.served(w.ctx); return nil }) // it is logged, and the context unknown
		}
		if err == nil && askSlots {
			err = s.guard(func() error { slots = w.slots(w.ctx); return nil })
		}
		if err == nil && askQueue {
			_ = s.guard(func() error { answer = w.figures(w.ctx); return nil }) // it is logged, and unknown
		}
		s.post(func() {
			w.asking = false
			if askLayers && w.r.run.watch == w {
				w.askLayers, w.news = false, true
				s.noteOffload(w.r, layers)
			}
			if askQueue {
				w.setQueue(answer.queued)
				s.figuresKnown(w, answer.figures)
			}
			if askCtx {
				s.contextKnown(w, ctx)
			}
			w.setAsleep(asleep)
			s.answered(w, slots, err, took)
		})
	})
	return true
}

// answered takes the answers, and the probe that they were asked with unless another has ended
// since.
func (s *Supervisor) answered(w *watch, slots int, err error, took time.Duration) {
	if w.r.run.watch != w {
		return
	}
	if slots > 0 {
		w.r.run.slots, w.askSlots, w.news = slots, false, true
	}
	if w.later {
		s.settle(w.r)
		return
	}
	s.probed(w, err, took)
}

// queueDue counts a good probe, and reports whether the engine is to be asked for its queue and its
// figures.
func (s *Supervisor) queueDue(w *watch) bool {
	if w.adapter.QueuePath() == "" && w.figuresPath == "" {
		return false
	}
	w.queueIn--
	w.used--
	if s.leasesOf(w.r) > 0 {
		w.used = queueSeldom
	}
	if waits := w.queued != nil && *w.queued > 0; !waits && w.used <= 0 && w.queueIn > 0 {
		return false
	}
	w.queueIn = queueSeldom
	return true
}

// forgetQueue makes the queue and the work unknown, and asked for with the next good probe.
func (q *questions) forgetQueue() {
	q.setQueue(nil)
	q.setWork(registry.Work{})
	q.queueIn = 0
}

// setQueue takes how many requests wait; nil: not known.
func (q *questions) setQueue(n *int) {
	if same := n == q.queued || n != nil && q.queued != nil && *n == *q.queued; !same {
		q.queued, q.news = n, true
	}
}

// slots asks the engine how many requests it takes at once; 0 when it does not tell.
func (w *watch) slots(ctx context.Context) (n int) {
	_ = w.ask(ctx, bounds.OfSlots, w.adapter.SlotsPath(), func(body []byte) (err error) {
		n, err = w.adapter.Slots(body)
		return err
	}) // 0 then
	return n
}

// ask puts a question to the engine of this run.
func (w *watch) ask(ctx context.Context, s bounds.Subject, path string, read func([]byte) error) error {
	return w.s.askEngine(ctx, w.r, w.run, question{s, w.endpoint, path, w.health.Timeout, read})
}

// queueDepth is what the engine that runs now said last of its queue; nil: not known.
func (r *replica) queueDepth() *int {
	if r.run.watch == nil {
		return nil
	}
	return r.run.watch.queued
}

// offer fills in the context of one request, the model, and what the engine can be asked for, by
// the version that it runs or should run. The model's description is of the files that are staged.
func (r *replica) offer(out *registry.Pool) {
	p := r.pool()
	var model pool.Description
	if r.unit.phase == reconcile.Absent || r.current() {
		model = r.prep.staged.Model
	}
	out.Ctx, out.Model = cmp.Or(r.servedContext(), p.Ctx), registry.Model(model)
	out.Workloads, out.Features = engine.Offered(p, model), engine.Features(p, model)
}
