package supervise

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/probe"
)

// withGeneration is a pool whose engines are asked for generations each minute, and given up after
// two minutes.
func withGeneration(id string, changes ...func(*pool.Pool)) pool.Pool {
	return llama(id, append([]func(*pool.Pool){func(p *pool.Pool) {
		p.Health.GenerateInterval, p.Health.GenerateTimeout, p.Health.GenerateFailures = time.Minute, 30*time.Second, 2
		p.Health.EscalateAfter = 2 * time.Minute
	}}, changes...)...)
}

func servingJudged(t *testing.T, w *world, changes ...func(*pool.Pool)) *manager {
	m := w.manage(t, pools(withGeneration("a", changes...)))
	w.passGate(unitOf("a"))
	m.wantState("a", registry.StateReady, true)
	return m
}

// lockedLog keeps what is logged.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func failOpen(p *pool.Pool) { p.Health.Mode = pool.FailOpen }

func TestEscalation(t *testing.T) {
	scenario(t, "an_engine_that_fails_its_probes_for_too_long_is_restarted_once", func(t *testing.T, w *world) {
		m := servingJudged(t, w)
		w.ill(true)
		time.Sleep(20 * time.Second)
		m.wantState("a", registry.StateUnhealthy, false)
		time.Sleep(100 * time.Second)
		if n := w.called("kill"); n != 0 {
			t.Fatalf("%d kills before two minutes without ready", n)
		}
		time.Sleep(20 * time.Second)
		m.wantState("a", registry.StateBackoff, false)
		if n := w.called("kill"); n != 1 {
			t.Errorf("%d kills, want one", n)
		}
		m.wantCode("a", registry.CodeHealthFailed)
		if p := m.pool("a"); !strings.Contains(p.LastError.Message, "lasted for 2m") {
			t.Errorf("last_error %q does not say for how long", p.LastError.Message)
		}
	})
	scenario(t, "a_probe_that_succeeds_again_in_time_restarts_nothing", func(t *testing.T, w *world) {
		m := servingJudged(t, w)
		for range 5 {
			w.ill(true)
			time.Sleep(time.Minute)
			m.wantState("a", registry.StateUnhealthy, false)
			w.ill(false)
			time.Sleep(10 * time.Second)
			m.wantState("a", registry.StateReady, true)
		}
		if n := w.called("kill"); n != 0 {
			t.Errorf("%d kills", n)
		}
	})
	scenario(t, "never", func(t *testing.T, w *world) {
		m := servingJudged(t, w, func(p *pool.Pool) { p.Health.EscalateAfter = 0 })
		w.ill(true)
		time.Sleep(time.Hour)
		m.wantState("a", registry.StateUnhealthy, false)
		if n := w.called("kill"); n != 0 {
			t.Errorf("%d kills", n)
		}
	})
	scenario(t, "fail_open_stays_ready_and_restarts_nothing", func(t *testing.T, w *world) {
		log := &lockedLog{}
		m := w.manage(t, pools(withGeneration("a", failOpen)), func(o *Options) {
			o.Log = slog.New(slog.NewTextHandler(log, nil))
		})
		w.passGate(unitOf("a"))
		w.ill(true)
		time.Sleep(time.Hour)
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings in an hour, want one:\n%s", n, log.String())
		}
		m.wantState("a", registry.StateReady, true)
		m.wantCode("a", registry.CodeHealthFailed)
		first := m.pool("a").LastError.Message
		if n := w.called("kill"); n != 0 || !strings.HasPrefix(first, "3 probes in a row failed") {
			t.Errorf("%d kills, last_error %q", n, first)
		}
	})
	scenario(t, "the_newest_cause_is_shown_and_each_is_logged_once", func(t *testing.T, w *world) {
		log := &lockedLog{}
		m := w.manage(t, pools(withGeneration("a", failOpen)), func(o *Options) {
			o.Log = slog.New(slog.NewTextHandler(log, nil))
		})
		w.passGate(unitOf("a"))
		shows := func(why string) {
			t.Helper()
			w.illWith(why)
			time.Sleep(time.Minute)
			if f := m.pool("a").LastError; f == nil || !strings.Contains(f.Message, why) {
				t.Errorf("last_error is %v, want %q in it", f, why)
			}
		}
		for range 3 {
			shows("connection refused")
			shows("status 500")
		}
		w.illWith(`status 500 ("another body")`)
		time.Sleep(time.Minute)
		w.illWith(`status 500 ("and another")`)
		time.Sleep(time.Minute)
		if n := strings.Count(log.String(), "level=WARN"); n != 2 {
			t.Errorf("%d warnings, want one for each cause:\n%s", n, log.String())
		}
		w.illWith("")
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateReady, true)
		shows("status 500")
		if n := strings.Count(log.String(), "level=WARN"); n != 3 {
			t.Errorf("%d warnings, want another one after the engine was healthy:\n%s", n, log.String())
		}
	})
	scenario(t, "a_draining_engine_is_left_to_finish", func(t *testing.T, w *world) {
		m := servingJudged(t, w, func(p *pool.Pool) { p.Drain.Deadline = time.Hour })
		w.working(1)
		m.apply(pools())
		w.ill(true)
		time.Sleep(10 * time.Minute)
		m.wantState("a", registry.StateDraining, false)
		if n := w.called("kill"); n != 0 {
			t.Errorf("%d kills", n)
		}
	})
}

func TestGenerations(t *testing.T) {
	hang := func(w *world) { w.with(func() { w.generation = probe.Unanswered }) }
	scenario(t, "one_a_minute", func(t *testing.T, w *world) {
		servingJudged(t, w)
		time.Sleep(10 * time.Minute)
		if n := w.called("generate " + endpoint + "/completion"); n < 9 || n > 10 {
			t.Errorf("%d generations in ten minutes, want 9 or 10", n)
		}
	})
	scenario(t, "an_engine_that_answers_its_probe_and_hangs_loses_ready_and_is_restarted",
		func(t *testing.T, w *world) {
			m := servingJudged(t, w)
			hang(w)
			time.Sleep(135 * time.Second)
			m.wantState("a", registry.StateUnhealthy, false)
			if p := m.pool("a"); !strings.Contains(p.LastError.Message, "2 generations of one token in a row failed") {
				t.Errorf("last_error = %v", p.LastError)
			}
			time.Sleep(2 * time.Minute)
			m.wantState("a", registry.StateBackoff, false)
			if n := w.called("kill"); n != 1 {
				t.Errorf("%d kills, want one", n)
			}
		})
	scenario(t, "one_that_generates_again_is_ready_again", func(t *testing.T, w *world) {
		m := servingJudged(t, w, func(p *pool.Pool) { p.Health.EscalateAfter = 0 })
		hang(w)
		time.Sleep(135 * time.Second)
		m.wantState("a", registry.StateUnhealthy, false)
		w.with(func() { w.generation = probe.Generated })
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateReady, true)
	})
	scenario(t, "a_busy_engine_is_not_taken_for_hung", func(t *testing.T, w *world) {
		began := time.Now()
		w.progress = func() int { return int(time.Since(began) / time.Second) }
		m := servingJudged(t, w)
		hang(w)
		time.Sleep(time.Hour)
		m.wantState("a", registry.StateReady, true)
		if n := w.called("generate"); n > 1 {
			t.Errorf("%d generations took a slot although others made progress, want one at most", n)
		}
	})
	scenario(t, "an_engine_without_progress_is", func(t *testing.T, w *world) {
		w.progress = func() int { return 7 }
		m := servingJudged(t, w)
		hang(w)
		time.Sleep(135 * time.Second)
		m.wantState("a", registry.StateUnhealthy, false)
	})
	scenario(t, "a_refusal_for_load_counts_only_without_progress", func(t *testing.T, w *world) {
		m := servingJudged(t, w)
		w.with(func() { w.generation = probe.Overloaded })
		time.Sleep(time.Hour)
		m.wantState("a", registry.StateReady, true)
		w.with(func() { w.progress = func() int { return 7 } })
		time.Sleep(80 * time.Second)
		m.wantState("a", registry.StateUnhealthy, false)
	})
	scenario(t, "an_error_counts_once_a_generation_has_succeeded", func(t *testing.T, w *world) {
		m := servingJudged(t, w)
		time.Sleep(90 * time.Second)
		w.with(func() { w.generation = probe.Wrong })
		time.Sleep(2 * time.Minute)
		m.wantState("a", registry.StateUnhealthy, false)
	})
	scenario(t, "an_engine_that_never_takes_the_request_is_left_alone", func(t *testing.T, w *world) {
		for _, out := range []probe.Outcome{probe.Wrong, probe.Unfit} {
			w := newWorld()
			w.generation = out
			m := servingJudged(t, w)
			time.Sleep(time.Hour)
			m.wantState("a", registry.StateReady, true)
			if n := w.called("generate"); n != 1 {
				t.Errorf("outcome %d: asked %d times, want once", out, n)
			}
		}
	})
	scenario(t, "none", func(t *testing.T, w *world) {
		servingJudged(t, w, func(p *pool.Pool) { p.Health.GenerateInterval = 0 })
		time.Sleep(time.Hour)
		if n := w.called("generate"); n != 0 {
			t.Errorf("%d generations", n)
		}
	})
	scenario(t, "the_pools_own", func(t *testing.T, w *world) {
		servingJudged(t, w, func(p *pool.Pool) {
			p.Health.GeneratePath, p.Health.GenerateBody = "/v1/completions", `{"x":1}`
		})
		time.Sleep(2 * time.Minute)
		if n := w.called("generate " + endpoint + `/v1/completions {"x":1}`); n == 0 {
			t.Errorf("not asked as the pool's file says: %v", w.calls)
		}
	})
	scenario(t, "a_draining_engine_is_not_asked", func(t *testing.T, w *world) {
		m := servingJudged(t, w, func(p *pool.Pool) { p.Drain.Deadline = time.Hour })
		w.working(1)
		m.apply(pools())
		time.Sleep(30 * time.Minute)
		if n := w.called("generate"); n != 0 {
			t.Errorf("%d generations", n)
		}
	})
}

// TestCheckOf: the pool's words go before the engine's.
func TestCheckOf(t *testing.T) {
	ask := func(kind string, change func(*pool.Health)) probe.Check {
		p := llama("a", func(p *pool.Pool) { p.Engine = kind })
		change(&p.Health)
		r := &replica{wish: wish{pool: p, known: true}}
		a, _ := r.adapter()
		return checkOf(endpoint, a, p.Health)
	}
	none := func(*pool.Health) {}
	if c := ask(engine.LlamaCpp, none); c.Kind != probe.HTTP || c.Path != "/health" || c.Status != 200 ||
		c.Host != "127.0.0.1:21000" || c.Close || c.Body != nil {
		t.Errorf("llamacpp is asked %+v", c)
	}
	if c := ask(engine.Triton, none); !c.Close {
		t.Error("a connection to Triton is kept, which it would wait for when it stops")
	}
	if c := ask(engine.Program, func(h *pool.Health) {
		h.Probe, h.GRPCService = pool.ProbeGRPC, "a.B"
	}); c.Kind != probe.GRPC || c.Service != "a.B" {
		t.Errorf("gRPC is asked %+v", c)
	}
	if c := ask(engine.Program, func(h *pool.Health) { h.Probe = pool.ProbeTCP }); c.Kind != probe.TCP {
		t.Errorf("TCP is asked %+v", c)
	}
	if c := ask(engine.VLLM, func(h *pool.Health) {
		h.Path, h.Body = "/ready", "o[k]"
	}); c.Path != "/ready" || c.Body == nil || !c.Body.MatchString("ok") {
		t.Errorf("vllm is asked %+v", c)
	}
}

// TestAHungProbeDelaysNoOther: the probes of a pool come on time while those of others get no
// answer.
func TestAHungProbeDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m := w.manage(t, pools(llama("a"), llama("b"), llama("c")))
		for _, id := range []string{"a", "b", "c"} {
			w.passGate(unitOf(id))
			m.wantState(id, registry.StateReady, true)
		}
		hostOfB := hostOf(m.pool("b").Replicas[0].Endpoint)
		w.with(func() {
			for _, id := range []string{"a", "c"} {
				w.mute[m.pool(id).Replicas[0].Endpoint] = true
			}
			w.probes = nil
		})
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateUnhealthy, false)
		m.wantState("c", registry.StateUnhealthy, false)
		m.wantState("b", registry.StateReady, true)
		var last time.Time
		n := 0
		for _, p := range w.probes {
			if p.host != hostOfB {
				t.Fatalf("%s answered", p.host)
			}
			if !last.IsZero() && p.at.Sub(last) > 5*time.Second+time.Second/2+10*time.Millisecond {
				t.Errorf("a probe came %s after the one before", p.at.Sub(last))
			}
			last = p.at
			n++
		}
		if n < 11 {
			t.Errorf("%d probes in a minute, want 12", n)
		}
	})
}
