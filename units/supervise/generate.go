package supervise

import (
	"context"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/probe"
)

// progressPause is how far two looks at an engine's progress lie apart: long enough for a token of
// a slow model, and for the end of the generation that was given up.
const progressPause = 5 * time.Second

// generations is what the loop knows of the generations of one run. A generation begins with a
// probe's result, so that an idle manager does not wake up for it.
type generations struct {
	due      time.Time // when the next one is; zero: none is asked for
	underWay bool
	failed   int    // in a row
	hung     bool   // as many failed as take ready away
	proven   bool   // one has succeeded in this run
	seen     string // the engine's progress behind the last success, "" where it is not known
}

// verdict is what is known after a generation.
type verdict int

const (
	generates verdict = iota // it generated a token, for us or for another program
	fails                    // it did not, and nothing reports that it works on other requests
	nothing                  // it takes no further requests now, and does not tell whether it makes progress
	unfit                    // it does not take such a request at all
)

// generated is the result of one look.
type generated struct {
	verdict verdict
	err     error  // nil for generates
	answer  bool   // what failed was answered with an error, and not late
	still   bool   // and the engine reports that it makes no progress
	seen    string // for generates
	took    time.Duration
}

// generationOf is the request for one token, in the pool's words or else in the adapter's.
func generationOf(endpoint string, a engine.Adapter, p pool.Pool) probe.Generation {
	path, body, read := engine.Generation(a, p)
	if path == "" || p.Health.GenerateInterval <= 0 {
		return probe.Generation{}
	}
	return probe.Generation{URL: endpoint + path, Body: body, Read: read, Timeout: p.Health.GenerateTimeout,
		Close: a.CountsIdle()}
}

// mayGenerate begins the generation that is due, beside the probes. A draining engine is left to
// finish.
func (s *Supervisor) mayGenerate(w *watch, now time.Time) {
	if w.due.IsZero() || w.underWay || now.Before(w.due) || w.r.run.draining() {
		return
	}
	if w.sparesSleep() {
		w.due = now.Add(w.health.GenerateInterval)
		return
	}
	w.underWay = true
	seen := w.seen
	s.effects.Go(func() {
		var g generated
		if err := s.guard(func() error { g = w.generate(w.ctx, seen); return nil }); err != nil {
			g = generated{verdict: unfit, err: err}
		}
		if w.ctx.Err() == nil {
			s.post(func() { s.generated(w, g) })
		}
	})
}

// generate runs beside the loop. An engine that has made progress since the last look needs no
// generation of ours: it would only take a slot from someone.
func (w *watch) generate(ctx context.Context, seen string) generated {
	if w.isAsleep(ctx) != isAwake {
		return generated{verdict: nothing}
	}
	if seen != "" {
		if now := w.progress(ctx); now != "" && now != seen {
			return generated{seen: now}
		}
	}
	began := time.Now()
	out, err := w.s.o.Prober.Generate(ctx, w.generation)
	g := generated{err: err, took: time.Since(began)}
	switch out {
	case probe.Generated:
		g.seen = w.progress(ctx)
		return g
	case probe.Unfit:
		g.verdict = unfit
		return g
	}
	switch mark, known := w.moves(ctx); {
	case mark != "":
		return generated{seen: mark}
	case out == probe.Overloaded && !known:
		g.verdict = nothing
	default:
		g.verdict, g.answer, g.still = fails, out == probe.Wrong, known
	}
	return g
}

// moves looks twice, with a pause between, and returns the newer mark where the two differ; known
// says whether there were two. Our own generation has been given up by then, so that what moves is
// work for another program.
func (w *watch) moves(ctx context.Context) (mark string, known bool) {
	first := w.progress(ctx)
	if first == "" {
		return "", false
	}
	select {
	case <-ctx.Done():
		return "", false
	case <-time.After(progressPause):
	}
	second := w.progress(ctx)
	if second == first {
		return "", true
	}
	return second, second != ""
}

// progress is the engine's mark of what it has worked on, "" where it does not tell.
func (w *watch) progress(ctx context.Context) (mark string) {
	_ = w.ask(ctx, bounds.OfProgress, w.adapter.ProgressPath(), func(body []byte) (err error) {
		mark, err = w.adapter.Progress(body)
		return err
	}) // "" then
	return mark
}

// generated takes the result on the loop. A failure is asked again with the next probe. An error in
// the answer counts only where a generation has succeeded in this run: before, it may be the
// request that does not fit, and a healthy engine must not be restarted for it.
func (s *Supervisor) generated(w *watch, g generated) {
	r := w.r
	if r.run.watch != w {
		return
	}
	now := time.Now()
	w.underWay, w.due = false, now.Add(w.health.GenerateInterval)
	switch {
	case g.verdict == generates:
		if w.hung {
			s.o.Log.Info("the engine generates again", s.about(r)...)
		}
		w.failed, w.hung, w.proven, w.seen = 0, false, true, g.seen
	case g.verdict == unfit, g.verdict == fails && g.answer && !w.proven:
		w.due = time.Time{}
		s.o.Log.Warn("the engine refuses the test generation of one token; from here on only its health probe is used",
			append(s.about(r), "err", g.err)...)
	case g.verdict == fails && !r.run.draining():
		w.due = now
		s.notGenerated(w, g, now)
	}
}

// notGenerated counts a failed generation towards its threshold.
func (s *Supervisor) notGenerated(w *watch, g generated, now time.Time) {
	r := w.r
	s.o.Observer.Probed(*r.entry.last, probe.ReasonGeneration, g.took)
	w.failed++
	if w.failed < w.health.GenerateFailures {
		s.o.Log.Warn("the test generation of one token failed: "+g.err.Error(), s.about(r)...)
		return
	}
	w.hung, w.late = true, !g.answer && !g.still
	w.setUnhealthy(strconv.Itoa(w.failed)+" generations of one token in a row failed, though it may answer its "+
		"health probe: "+g.err.Error(), probe.ReasonGeneration, now)
	s.escalate(w, now)
	s.settle(r)
}
