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
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/probe"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/secret"
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
		adapter: adapter, health: p.Health, generation: generationOf(r.unit.endpoint, adapter, p),
		questions: questions{askSlots: p.Slots == 0 && adapter.SlotsPath() != "", askLayers: s.readsOffload(r),
			sleeps: engine.SleepOf(adapter, p)},
	}
	w.since, w.began = now, s.isAdopted() && !r.external()
	w.figuresPath, w.readFigures = engine.FiguresOf(adapter, r.version())
	path, _ := engine.ContextOf(adapter)
	w.askCtx = path != ""
	if r.run.verdict == reconcile.Unhealthy {
		w.unhealthySince = now
	}
	if w.generation.URL != "" {
		w.due = now.Add(phase(w.run, p.Health.GenerateInterval))
	}
	r.run.watch = w
	s.o.Prober.UseKey(hostOf(r.unit.endpoint), keyOf(p))
	w.probes = s.probes.Add(probe.Target{
		Key: w, Check: checkOf(w.endpoint, adapter, p.Health), Interval: p.Health.Interval,
		Early: phase(w.run, p.Health.Interval/4),
	})
}

func (s *Supervisor) stopHealth(r *replica) {
	if r.run.watch != nil {
		r.run.watch.probes.Stop()
		r.run.watch.cancel()
		s.closeIdle(r)
	}
	r.run.watch = nil
}

// closeIdle lets an engine that is stopping not wait for us.
func (s *Supervisor) closeIdle(r *replica) {
	s.o.Prober.CloseIdle(hostOf(r.unit.endpoint))
}

// keyOf reads the key of a pool's engine, nil if it asks for none. What is wrong with the file was
// found when it was staged, or shows as a refused question.
func keyOf(p pool.Pool) func() string {
	if p.APIKeyFile == "" {
		return nil
	}
	return func() string {
		key, _ := secret.Key(p.APIKeyFile)
		return key
	}
}

// hostOf is an endpoint's host and port.
func hostOf(endpoint string) string { return strings.TrimPrefix(endpoint, "http://") }

// watch is how one run of one engine is probed. It is known by its address.
type watch struct {
	s      *Supervisor
	r      *replica // its goroutines only name it in events
	ctx    context.Context
	cancel context.CancelFunc
	probes *probe.Watch

	// Copies, which no one changes: the goroutines read nothing of the loop's.
	run        string
	endpoint   string
	adapter    engine.Adapter
	health     pool.Health
	generation probe.Generation // without a URL: none is asked for
	// of what the engine publishes of its work; no path: nothing
	figuresPath string
	readFigures func(body []byte) (engine.Figures, error)

	// Of the loop.
	generations
	questions
	works
	since time.Time // when the run was first seen to serve
	// began: its process began under this manager, so that all that it counts is new. What an
	// adopted engine has counted before is in the counters of the former manager.
	began          bool
	unhealthySince time.Time // since when probes take ready away; zero: they do not
	causes         []string  // why, see causeOf; the newest last
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

// phase spreads names evenly over a span.
func phase(name string, span time.Duration) time.Duration {
	if span <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	return time.Duration(h.Sum64() % uint64(span))
}

// results takes the results of probes from their schedule.
func (s *Supervisor) results(batch []probe.Result) {
	s.post(func() {
		for _, p := range batch {
			w := p.Key.(*watch)
			w.later = true // than the questions that may be under way
			if p.Err != nil || !s.ask(w, p.Took) {
				s.probed(w, p.Err, p.Took)
			}
		}
	})
}

// probed takes a probe's result on the loop.
func (s *Supervisor) probed(w *watch, err error, took time.Duration) {
	r := w.r
	if r.run.watch != w {
		return
	}
	reason := ""
	if err != nil {
		reason = s.o.Prober.Reason(err)
		s.holdAgain(r, err)
	}
	s.o.Observer.Probed(*r.entry.last, reason, took)
	now := time.Now()
	switch {
	case err == nil && s.onlyBeats(w):
		s.beat(r, now)
	default:
		w.news = false
		w.noteLateness(reason)
		changed := s.countProbe(w, err, now)
		s.lookAtWork(w)
		if s.escalate(w, now) || changed || err == nil {
			s.settle(r)
		}
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
			w.unhealthySince, w.causes, w.works = time.Time{}, nil, works{looking: w.looking}
		}
		return r.run.verdict != before
	}
	w.forgetQueue()
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
		next = "It is restarted if this lasts for " + rounded(w.health.EscalateAfter) + " ([health] escalate_after)"
		if w.late {
			next += " in which it does not work"
		}
		next += "."
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
// 1's backoff follows. One that only answers late is not given up while it works, up to a limit. It
// reports whether it did, which it does once in a run, since the fault stays for as long as the
// run.
func (s *Supervisor) escalate(w *watch, now time.Time) bool {
	r := w.r
	if !w.escalates() || w.frozen || r.run.verdict != reconcile.Unhealthy || r.run.fault != nil || r.run.draining() {
		return false
	}
	failing, limit := now.Sub(w.unhealthySince), w.health.EscalateLimit
	why, key := "so the engine is restarted", "escalate_after"
	if now.Sub(w.idleSince()) < w.health.EscalateAfter {
		if limit <= 0 || failing < max(limit, w.health.EscalateAfter) {
			s.spare(w, now)
			return false
		}
		why, key = "so the engine is restarted although "+w.excuse(), "escalate_limit"
	}
	r.run.fault = registry.Fail(registry.CodeHealthFailed,
		r.run.probeErr.Message+"; this lasted for "+rounded(failing)+", "+why,
		"Read the engine's log (poolctl logs "+r.id.Pool+"). [health] "+key+" sets this time.")
	return true
}
