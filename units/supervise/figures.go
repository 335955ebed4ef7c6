package supervise

import (
	"context"
	"math"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
)

// reading is what an engine answered of its queue and its work. A nil field is not known.
type reading struct {
	queued  *int
	figures *engine.Figures
}

// tally is what the engine of a run has counted, as it was read last.
type tally struct {
	last *engine.Figures // nil: not read yet
	at   time.Time
}

// figures asks the engine how many requests wait inside it, and for its figures. Most publish both
// on one page, which is read once.
func (w *watch) figures(ctx context.Context) (out reading) {
	var page []byte
	var queued int
	path := w.adapter.QueuePath()
	err := w.ask(ctx, bounds.OfQueue, path, func(body []byte) (err error) {
		page = body
		queued, err = w.adapter.Queue(body)
		return err
	})
	if err == nil {
		out.queued = &queued
	}
	var f engine.Figures
	read := func(body []byte) (err error) {
		f, err = w.readFigures(body)
		return err
	}
	switch {
	case w.figuresPath == "", w.figuresPath == path && page == nil:
		return out
	case w.figuresPath == path:
		err = w.s.believe(w.r, w.run, bounds.OfFigures, read(page))
	default:
		err = w.ask(ctx, bounds.OfFigures, w.figuresPath, read)
	}
	if err != nil {
		return out
	}
	if f.TokensInFlight == nil && f.InProgress != nil {
		f.TokensInFlight = w.held(ctx, *f.InProgress)
	}
	out.figures = &f
	return out
}

// held asks an engine that works on so many requests how many tokens of them it keeps, where its
// figures do not say. One that does not work is not asked: it may sleep, or fall asleep soon.
func (w *watch) held(ctx context.Context, inProgress int) *int {
	path, read := engine.HeldOf(w.adapter)
	if path == "" {
		return nil
	}
	n := 0
	if inProgress > 0 {
		if err := w.ask(ctx, bounds.OfFigures, path, func(body []byte) (err error) {
			n, err = read(body)
			return err
		}); err != nil {
			return nil
		}
	}
	return &n
}

// figuresKnown takes an engine's figures on the loop; nil: it has none now.
func (s *Supervisor) figuresKnown(w *watch, f *engine.Figures) {
	r := w.r
	if r.run.watch != w {
		return
	}
	if f == nil {
		w.setWork(registry.Work{})
		return
	}
	now, c := time.Now(), &r.run.tally
	before, elapsed := c.last, now.Sub(c.at)
	if before == nil {
		// The process began before it was first asked, and longer ago than it took to load.
		elapsed = now.Sub(w.since) + time.Hour
	}
	if before == nil && !w.began {
		before = f
	}
	counted, err := f.Since(before, elapsed)
	if err != nil {
		w.setWork(registry.Work{})
		s.refused(r, w.run, bounds.OfFigures, s.refusal(err))
		return
	}
	if c.last != nil && moved(counted) {
		w.used = queueSeldom
	}
	c.last, c.at = f, now
	w.setWork(registry.Work{InProgress: f.InProgress, TokensInFlight: f.TokensInFlight,
		KVCacheUsage: percent(f.KVCacheUsage)})
	s.o.Observer.Counted(*r.entry.last, r.id.Name(), r.version(), registry.Counted{
		TokensIn: counted.TokensIn, TokensOut: counted.TokensOut,
		FirstToken: (*registry.Latency)(counted.FirstToken), Decode: (*registry.Latency)(counted.Decode),
		DecodeMS: counted.DecodeMS,
	})
}

// moved reports whether an engine has counted anything.
func moved(c engine.Counted) bool {
	return c.TokensIn != nil && *c.TokensIn > 0 || c.TokensOut != nil && *c.TokensOut > 0
}

// percent rounds a share to whole percent: what changes less often is published less often.
func percent(share *float64) *float64 {
	if share == nil {
		return nil
	}
	rounded := math.Round(*share*100) / 100
	return &rounded
}

// setWork takes what the engine works on.
func (q *questions) setWork(now registry.Work) {
	if !registry.SameWork(now, q.work) {
		q.work, q.news = now, true
	}
}

// work is what the engine that runs now said last of its work.
func (r *replica) work() registry.Work {
	if r.run.watch == nil {
		return registry.Work{}
	}
	return r.run.watch.work
}
