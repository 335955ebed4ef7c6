package supervise

import (
	"context"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// askLimit bounds what is read of an engine's answer, in bytes.
const askLimit = 1 << 20

// followHealth has exactly one watcher for each run of an engine that passed its gate.
func (s *Supervisor) followHealth(r *replica) {
	if r.facts.Unit != reconcile.Active {
		s.stopHealth(r)
		return
	}
	if r.health != nil && r.healthOf == r.status.InvocationID {
		return
	}
	s.stopHealth(r)
	adapter, ok := r.adapter()
	if !ok || r.endpoint == "" {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	r.health, r.healthOf = cancel, r.status.InvocationID
	w := watch{s: s, r: r, run: r.healthOf, endpoint: r.endpoint, adapter: adapter, health: r.pool().Health, askSlots: r.pool().Slots == 0}
	s.effects.Go(func() { w.run1(ctx) })
}

func (s *Supervisor) stopHealth(r *replica) {
	if r.health != nil {
		r.health()
		s.closeIdle(r)
	}
	r.health, r.healthOf = nil, ""
}

// closeIdle lets an engine that is stopping not wait for us.
func (s *Supervisor) closeIdle(r *replica) {
	s.Prober.CloseIdle(strings.TrimPrefix(r.endpoint, "http://"))
}

// watch probes one run of one engine. Its fields are copies: it reads nothing of the loop's.
type watch struct {
	s        *Supervisor
	r        *replica // only to name it in events
	run      string
	endpoint string
	adapter  engine.Adapter
	health   pool.Health
	askSlots bool
}

// run1 probes at once, then at the interval. The first wait is cut by a share of it that differs from unit to
// unit, so that a hundred engines that became ready together are not probed together for ever.
func (w watch) run1(ctx context.Context) {
	url := w.endpoint + w.path()
	wait := w.health.Interval - phase(w.run, w.health.Interval/4)
	for ctx.Err() == nil {
		began := time.Now()
		err := w.s.guard(func() error { return w.s.Prober.Probe(ctx, url, w.adapter.HealthStatus(), w.health.Timeout) })
		took := time.Since(began)
		if ctx.Err() != nil {
			return
		}
		slots := 0
		if err == nil && w.askSlots {
			err = w.s.guard(func() error { slots = w.slots(ctx); return nil })
			w.askSlots = slots == 0
		}
		w.s.post(func() { w.s.probed(w.r, w.run, err, took, slots) })
		select {
		case <-ctx.Done():
		case <-time.After(onGrid(time.Now(), wait, w.health.Interval)):
		}
		wait = w.health.Interval
	}
}

// gridMax is the widest grid. Probes of many engines that fall on the same moments wake the process once for all of them:
// that is most of what an idle manager costs, a probe by itself costs little.
const gridMax = time.Second

// onGrid returns the wait until the point of a common grid that is nearest to now+wait. The grid is a quarter of the interval,
// at most gridMax, so that a probe moves by no more than an eighth of its interval.
func onGrid(now time.Time, wait, interval time.Duration) time.Duration {
	at := now.Add(wait)
	return max(at.Round(min(interval/4, gridMax)).Sub(now.Round(0)), 0)
}

func (w watch) path() string {
	if w.health.Path != "" {
		return w.health.Path
	}
	return w.adapter.HealthPath()
}

// slots asks the engine how many requests it takes at once; 0 when it does not tell.
func (w watch) slots(ctx context.Context) int {
	path := w.adapter.SlotsPath()
	if path == "" {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, w.health.Timeout)
	defer cancel()
	body, err := w.s.Prober.Get(ctx, w.endpoint+path, askLimit)
	if err != nil {
		return 0
	}
	n, err := w.adapter.Slots(body)
	if err != nil {
		w.s.Log.Debug("the engine's answer about its slots was not understood", "endpoint", w.endpoint, "err", err)
	}
	return n
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
func (s *Supervisor) probed(r *replica, run string, err error, took time.Duration, slots int) {
	if r.healthOf != run {
		return
	}
	reason := ""
	if err != nil {
		reason = s.Prober.Reason(err)
	}
	s.Observer.Probed(r.entry.last, reason, took)
	if slots > 0 {
		r.slots = slots
	}
	if s.judgeProbe(r, err) || err == nil {
		s.settle(r)
	}
	if s.adopting[r] {
		delete(s.adopting, r)
		s.adoptionMayBeDone()
	}
}

// judgeProbe counts towards the thresholds and reports whether the verdict changed. The first
// success after the gate is enough: the gate has seen the engine answer already.
func (s *Supervisor) judgeProbe(r *replica, err error) bool {
	h, before := r.pool().Health, r.facts.Probe
	if err == nil {
		r.failures, r.heartbeat = 0, time.Now()
		r.successes++
		if before == reconcile.Unprobed || r.successes >= h.Successes {
			r.facts.Probe, r.facts.ProbeErr, r.facts.Crash = reconcile.Healthy, nil, nil
		}
		return r.facts.Probe != before
	}
	r.successes = 0
	r.failures++
	if r.failures >= h.Failures {
		r.facts.Probe = reconcile.Unhealthy
		r.facts.ProbeErr = registry.Fail(registry.CodeHealthFailed,
			strconv.Itoa(r.failures)+" probes in a row failed: "+err.Error(),
			"Read the engine's log (poolctl logs "+r.id.Pool+"); systemctl restart '"+r.unit+"' starts it anew.")
	}
	return r.facts.Probe != before
}
