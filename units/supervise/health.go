package supervise

import (
	"cmp"
	"context"
	"hash/fnv"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/probe"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// followHealth has exactly one watcher for each run of an engine that passed its gate.
func (s *Supervisor) followHealth(r *replica) {
	if r.unit.phase != reconcile.Active {
		s.stopHealth(r)
		return
	}
	if r.run.watch != nil && r.run.watch.run == r.unit.status.InvocationID {
		return
	}
	s.stopHealth(r)
	adapter, ok := r.adapter()
	if !ok || r.unit.endpoint == "" {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	p, now := r.pool(), time.Now()
	w := &watch{
		s: s, r: r, ctx: ctx, cancel: cancel, run: r.unit.status.InvocationID, endpoint: r.unit.endpoint,
		adapter: adapter, health: p.Health,
		askSlots: p.Slots == 0, check: checkOf(r.unit.endpoint, adapter, p.Health),
		generation: generationOf(r.unit.endpoint, adapter, p),
	}
	if r.run.verdict == reconcile.Unhealthy {
		w.unhealthySince = now
	}
	if w.generation.URL != "" {
		w.due = now.Add(phase(w.run, p.Health.GenerateInterval))
	}
	r.run.watch = w
	s.effects.Go(w.probes)
}

func (s *Supervisor) stopHealth(r *replica) {
	if r.run.watch != nil {
		r.run.watch.cancel()
		s.closeIdle(r)
	}
	r.run.watch = nil
}

// closeIdle lets an engine that is stopping not wait for us.
func (s *Supervisor) closeIdle(r *replica) {
	s.o.Prober.CloseIdle(hostOf(r.unit.endpoint))
}

// hostOf is an endpoint's host and port.
func hostOf(endpoint string) string { return strings.TrimPrefix(endpoint, "http://") }

// watch is how one run of one engine is probed. It is known by its address.
type watch struct {
	s      *Supervisor
	r      *replica // its goroutines only name it in events
	ctx    context.Context
	cancel context.CancelFunc

	// Copies, which no one changes: the goroutines read nothing of the loop's.
	run        string
	endpoint   string
	adapter    engine.Adapter
	health     pool.Health
	check      probe.Check
	generation probe.Generation // without a URL: none is asked for

	askSlots bool // of the goroutine that probes

	generations              // of the loop
	queued         *int      // of the loop: requests that wait inside the engine; nil: not known
	unhealthySince time.Time // of the loop: since when probes take ready away; zero: they do not
	causes         []string  // of the loop: why, see causeOf; the newest last
}

// checkOf is the probe of an engine, in the pool's words or else in the adapter's.
func checkOf(endpoint string, a engine.Adapter, h pool.Health) probe.Check {
	c := probe.Check{Host: hostOf(endpoint), Timeout: h.Timeout, Close: a.CountsIdle()}
	switch h.Probe {
	case pool.ProbeGRPC:
		c.Kind, c.Service = probe.GRPC, h.GRPCService
	case pool.ProbeTCP:
		c.Kind = probe.TCP
	default:
		c.Kind, c.Path, c.Status = probe.HTTP, cmp.Or(h.Path, a.HealthPath()), a.HealthStatus()
		if h.Body != "" {
			c.Body, _ = regexp.Compile(h.Body) // the configuration refuses one that is none
		}
	}
	return c
}

// probes asks at once, then at the interval. The first wait is cut by a share of it that differs
// from unit to unit, so that a hundred engines that became ready together are not probed together
// for ever.
func (w *watch) probes() {
	ctx := w.ctx
	wait := w.health.Interval - phase(w.run, w.health.Interval/4)
	for ctx.Err() == nil {
		began := time.Now()
		err := w.s.guard(func() error { return w.s.o.Prober.Probe(ctx, w.check) })
		took := time.Since(began)
		if ctx.Err() != nil {
			return
		}
		slots := 0
		if err == nil && w.askSlots {
			err = w.s.guard(func() error { slots = w.slots(ctx); return nil })
			w.askSlots = slots == 0
		}
		var queued *int
		if err == nil {
			_ = w.s.guard(func() error { queued = w.queue(ctx); return nil }) // it is logged, and the queue unknown
		}
		w.s.post(func() {
			w.queued = queued
			w.s.probed(w, err, took, slots)
		})
		select {
		case <-ctx.Done():
		case <-time.After(onGrid(time.Now(), wait, w.health.Interval)):
		}
		wait = w.health.Interval
	}
}

// gridMax is the widest grid. Probes of many engines that fall on the same moments wake the process
// once for all of them: that is most of what an idle manager costs, a probe by itself costs little.
const gridMax = time.Second

// onGrid returns the wait until the point of a common grid that is nearest to now+wait. The grid is
// a quarter of the interval, at most gridMax, so that a probe moves by no more than an eighth of
// its interval.
func onGrid(now time.Time, wait, interval time.Duration) time.Duration {
	at := now.Add(wait)
	return max(at.Round(min(interval/4, gridMax)).Sub(now.Round(0)), 0)
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

// phase spreads names evenly over a span.
func phase(name string, span time.Duration) time.Duration {
	if span <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	return time.Duration(h.Sum64() % uint64(span))
}

// probed takes a probe's result on the loop.
func (s *Supervisor) probed(w *watch, err error, took time.Duration, slots int) {
	r := w.r
	if r.run.watch != w {
		return
	}
	reason := ""
	if err != nil {
		reason = s.o.Prober.Reason(err)
	}
	s.o.Observer.Probed(r.entry.last, reason, took)
	if slots > 0 {
		r.run.slots = slots
	}
	now := time.Now()
	changed := s.countProbe(w, err, now)
	if s.escalate(w, now) || changed || err == nil {
		s.settle(r)
	}
	if s.adopting[r] {
		delete(s.adopting, r)
		s.adoptionMayBeDone()
	}
	s.mayGenerate(w, now)
}

// countProbe counts towards the thresholds and reports whether the verdict changed. The first
// success after the gate is enough: the gate has seen the engine answer already.
func (s *Supervisor) countProbe(w *watch, err error, now time.Time) bool {
	r, before := w.r, w.r.run.verdict
	if err == nil {
		r.run.failures, r.view.heartbeat = 0, now
		r.run.successes++
		if !w.hung && (before == reconcile.Unprobed || r.run.successes >= w.health.Successes) {
			r.run.verdict, r.run.probeErr, r.last.crash = reconcile.Healthy, nil, nil
			w.unhealthySince, w.causes = time.Time{}, nil
		}
		return r.run.verdict != before
	}
	r.run.successes = 0
	r.run.failures++
	newCause := false
	if r.run.failures >= w.health.Failures {
		why := strconv.Itoa(r.run.failures) + " probes in a row failed: " + err.Error()
		newCause = w.setUnhealthy(why, causeOf(err), now)
	}
	return newCause || r.run.verdict != before
}

// setUnhealthy notes that probes have failed past their threshold, and whether the cause is another
// one than before. The newest cause is shown; each is logged once until the engine is healthy.
func (w *watch) setUnhealthy(why, cause string, now time.Time) (changed bool) {
	r := w.r
	if r.run.verdict != reconcile.Unhealthy || len(w.causes) == 0 {
		w.unhealthySince, w.causes = now, nil
	} else if w.causes[len(w.causes)-1] == cause {
		return false
	}
	next := "systemctl restart '" + r.unit.name + "' restarts it."
	if w.escalates() {
		next = "It is restarted if this lasts for " + rounded(w.health.EscalateAfter) + " ([health] escalate_after)."
	}
	r.run.verdict = reconcile.Unhealthy
	r.run.probeErr = registry.Fail(registry.CodeHealthFailed, why, "Read the engine's log (poolctl logs "+r.id.Pool+
		"). "+next)
	if i := slices.Index(w.causes, cause); i >= 0 { // it comes and goes
		w.causes = slices.Delete(w.causes, i, i+1)
		r.view.logged = r.run.probeErr.Error()
	} else if len(w.causes) == maxCauses {
		w.causes = w.causes[1:]
		r.view.logged = r.run.probeErr.Error()
	}
	w.causes = append(w.causes, cause)
	return true
}

// maxCauses is how many causes of failed probes are logged until the engine is healthy.
const maxCauses = 16

// causeOf is why a probe failed, without what the engine wrote, which may differ each time.
func causeOf(err error) string {
	cause, _, _ := strings.Cut(err.Error(), `"`)
	return strings.TrimRight(cause[:min(len(cause), 80)], " (")
}

// escalates reports whether failing probes ever restart the engine. Where they do not even take
// ready away, they do not.
func (w *watch) escalates() bool {
	return w.health.EscalateAfter > 0 && w.health.Mode != pool.FailOpen
}

// escalate gives an engine up whose probes have failed for too long: its process is ended, and PID
// 1's backoff follows. It reports whether it did, which it does once in a run, since the fault
// stays for as long as the run.
func (s *Supervisor) escalate(w *watch, now time.Time) bool {
	r := w.r
	if !w.escalates() || r.run.verdict != reconcile.Unhealthy || r.run.fault != nil || r.run.draining() ||
		now.Sub(w.unhealthySince) < w.health.EscalateAfter {
		return false
	}
	r.run.fault = registry.Fail(registry.CodeHealthFailed,
		r.run.probeErr.Message+"; this lasted for "+rounded(now.Sub(w.unhealthySince))+", so the engine is restarted",
		"Read the engine's log (poolctl logs "+r.id.Pool+"). [health] escalate_after sets this time.")
	return true
}
