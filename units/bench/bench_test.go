package bench

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/perf"
)

// in runs a test in virtual time.
func in(t *testing.T, name string, f func(t *testing.T, w *world)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, newWorld(t)) })
	})
}

// TestMeasured: an engine that gives its first token after 200 ms and the others each 25 ms later.
func TestMeasured(t *testing.T) {
	in(t, "once_after_it_is_ready", func(t *testing.T, w *world) {
		w.serves("a", "m", 4)
		w.after(settleFor - time.Second)
		if n, _ := w.requests(); n > 0 {
			t.Fatalf("%d requests while the host settles", n)
		}
		w.wantHint("a", 0, 0)
		w.after(time.Minute)
		w.wantHint("a", 40, 200)
		if n, _ := w.requests(); n != 4+4*4 || w.most != 4 {
			t.Errorf("%d requests, %d at once", n, w.most)
		}
		for i, p := range w.prompts {
			for _, other := range w.prompts[:i] {
				if strings.Fields(p)[0] == strings.Fields(other)[0] {
					t.Error("two prompts begin the same: " + p)
				}
			}
		}
		row, ok := w.store.Last("a/r0")
		if want := 500.0; !ok || row.Last.All == nil || row.Last.All.Streams != 4 || row.Last.Disturbed != "" ||
			perf.Round(row.Last.One.PromptTokensPerS) != want {
			t.Errorf("kept %+v, %v", row, ok)
		}
	})
	in(t, "not_again_for_what_is_known", func(t *testing.T, w *world) {
		w.serves("a", "m", 1)
		w.after(time.Minute)
		before, _ := w.requests()
		w.serves("a", "m", 1) // a reload to the same, or a restart
		w.after(time.Hour)
		w.wantHint("a", 40, 200)
		w.serves("b", "m", 1) // another pool
		w.after(time.Hour)
		w.wantHint("b", 40, 200)
		if n, _ := w.requests(); n != before {
			t.Errorf("%d requests, %d before", n, before)
		}
		w.serves("b", "other", 1)
		w.after(time.Minute)
		if n, _ := w.requests(); n != 2*before {
			t.Errorf("%d requests for another model", n-before)
		}
	})
	in(t, "a_new_manager_knows_it", func(t *testing.T, w *world) {
		w.serves("a", "m", 1)
		w.after(time.Minute)
		before, _ := w.requests()
		w.reg = registry.New()
		w.run()
		w.serves("a", "m", 1)
		w.after(time.Minute)
		w.wantHint("a", 40, 200)
		if n, _ := w.requests(); n != before {
			t.Error("it is measured again")
		}
	})
	for name, edit := range map[string]func(*Target){
		"switched_off":        func(t *Target) { t.Automatic = false },
		"without_such_an_api": func(t *Target) { t.Ask = nil },
	} {
		in(t, name, func(t *testing.T, w *world) {
			w.serves("a", "m", 1, edit)
			w.after(time.Hour)
			if n, _ := w.requests(); n > 0 {
				t.Errorf("%d requests", n)
			}
		})
	}
	in(t, "an_engine_that_sleeps_is_not_woken", func(t *testing.T, w *world) {
		w.serves("a", "m", 1)
		w.change("a", func(r *registry.Replica) { r.Asleep = true })
		w.after(time.Hour)
		if n, _ := w.requests(); n > 0 {
			t.Fatalf("%d requests", n)
		}
		w.change("a", func(r *registry.Replica) { r.Asleep = false })
		w.after(time.Minute)
		w.wantHint("a", 40, 200)
	})
	in(t, "an_engine_that_does_not_count_tokens", func(t *testing.T, w *world) {
		w.with(func() { w.uncounts = true })
		w.serves("a", "m", 1)
		w.after(time.Minute)
		w.wantHint("a", 40, 200)
	})
	in(t, "an_engine_that_refuses_is_not_asked_again", func(t *testing.T, w *world) {
		w.with(func() { w.status = 400 })
		w.serves("a", "m", 1)
		w.after(time.Hour)
		if n, _ := w.requests(); n != 1 || w.outcomes["failed"] != 1 {
			t.Errorf("%d requests, %v", n, w.outcomes)
		}
	})
	in(t, "an_engine_that_fails_is_asked_some_times", func(t *testing.T, w *world) {
		w.with(func() { w.status = 503 })
		w.serves("a", "m", 1)
		w.after(2 * time.Hour)
		if n, _ := w.requests(); n != 1+len(repeatAfter) || w.outcomes["failed"] != n {
			t.Errorf("%d requests, %v", n, w.outcomes)
		}
	})
	in(t, "an_engine_that_hangs_is_given_up", func(t *testing.T, w *world) {
		w.with(func() { w.hangs = true })
		w.serves("a", "m", 1)
		w.after(settleFor + longest + time.Second)
		if _, open := w.requests(); open != 0 || w.outcomes["failed"] != 1 {
			t.Errorf("%d requests are open, %v", open, w.outcomes)
		}
	})
}

// TestEnded: what is more important ends a measurement that is under way, at once, and it is made
// again later.
func TestEnded(t *testing.T) {
	for name, begin := range map[string]func(w *world) (end func()){
		"by_a_lease": func(w *world) func() { return w.lease("a") },
		"by_a_lease_that_is_refused": func(w *world) func() {
			w.bench.Wanted("a")
			return func() {}
		},
		"by_a_lease_of_another_pool_on_the_cpu": func(w *world) func() { return w.lease("b") },
		"by_a_drain": func(w *world) func() {
			w.with(func() { w.edit["a"] = func(p *registry.Pool) { p.Draining = true } })
			w.publish("a")
			return func() {
				w.with(func() { delete(w.edit, "a") })
				w.publish("a")
			}
		},
		"by_a_reload": func(w *world) func() {
			w.with(func() { w.edit["a"] = func(p *registry.Pool) { p.Reload = &registry.Reload{} } })
			w.publish("a")
			return func() {
				w.with(func() { delete(w.edit, "a") })
				w.publish("a")
			}
		},
		"by_the_end_of_the_engine": func(w *world) func() {
			w.change("a", func(r *registry.Replica) { r.Ready, r.State = false, registry.StateBackoff })
			return func() { w.change("a", func(r *registry.Replica) { r.Ready, r.State = true, registry.StateReady }) }
		},
	} {
		in(t, name, func(t *testing.T, w *world) {
			w.serves("b", "m", 1, func(t *Target) { t.Automatic = false })
			w.serves("a", "m", 1)
			w.after(settleFor + time.Second)
			if _, open := w.requests(); open != 1 {
				t.Fatalf("%d requests are open", open)
			}
			end := begin(w)
			synctest.Wait() // without any time
			before, open := w.requests()
			if open != 0 || w.outcomes["cancelled"] != 1 {
				t.Errorf("%d requests are open, %v", open, w.outcomes)
			}
			w.after(wantedFor - time.Second)
			if n, _ := w.requests(); n != before && !strings.Contains(name, "drain") {
				t.Errorf("%d requests although it is over", n-before)
			}
			end()
			w.after(wantedFor + time.Minute)
			w.wantHint("a", 40, 200)
		})
	}
	in(t, "by_the_switch", func(t *testing.T, w *world) {
		target := w.serves("a", "m", 1)
		w.after(settleFor + time.Second)
		target.Automatic = false
		w.bench.Serves(target)
		synctest.Wait()
		if _, open := w.requests(); open != 0 {
			t.Errorf("%d requests are open", open)
		}
		w.after(time.Hour)
		w.wantHint("a", 0, 0)
	})
	in(t, "by_the_end_of_the_manager", func(t *testing.T, w *world) {
		stop := w.run()
		w.serves("a", "m", 1)
		w.after(settleFor + time.Second)
		if err := w.bench.Ask("a", "", false, "uid:0"); err != nil {
			t.Fatal(err)
		}
		stop()
		synctest.Wait()
		if _, open := w.requests(); open != 0 {
			t.Errorf("%d requests are open", open)
		}
		if run := w.bench.Shown("a").Run; run.State != StateCancelled {
			t.Errorf("%+v", run)
		}
	})
	in(t, "not_by_a_lease_on_another_device", func(t *testing.T, w *world) {
		w.serves("b", "m", 1, func(t *Target) { t.Automatic = false })
		w.change("b", func(r *registry.Replica) { r.DeviceMask = []string{"GPU-1"} })
		w.serves("a", "m", 1)
		w.change("a", func(r *registry.Replica) { r.DeviceMask = []string{"GPU-2"} })
		w.lease("b")
		w.after(time.Minute)
		w.wantHint("a", 40, 200)
	})
}

// TestQuiet: a busy host is waited for, but not for ever.
func TestQuiet(t *testing.T) {
	in(t, "it_is_measured_once_the_host_is_quiet", func(t *testing.T, w *world) {
		w.with(func() { w.pressure = 0.5 })
		w.serves("a", "m", 1)
		w.after(settleFor + quietWithin/2)
		if n, _ := w.requests(); n > 0 {
			t.Fatalf("%d requests", n)
		}
		if waits := w.bench.Shown("a").Replicas[0].Waits; !strings.Contains(waits, "busy") {
			t.Errorf("waits for %q", waits)
		}
		w.with(func() { w.pressure = 0 })
		w.after(time.Minute)
		w.wantHint("a", 40, 200)
		if w.outcomes["disturbed"] > 0 {
			t.Error("it counts as disturbed")
		}
	})
	in(t, "while_another_pool_loads", func(t *testing.T, w *world) {
		w.serves("b", "m", 1, func(t *Target) { t.Automatic = false })
		w.change("b", func(r *registry.Replica) { r.State, r.Ready = registry.StateStarting, false })
		w.serves("a", "m", 1)
		w.after(settleFor + quietWithin/2)
		if n, _ := w.requests(); n > 0 {
			t.Fatalf("%d requests", n)
		}
		w.change("b", func(r *registry.Replica) { r.State, r.Ready = registry.StateReady, true })
		w.after(20 * time.Second)
		w.wantHint("a", 40, 200)
	})
	in(t, "a_host_that_is_always_busy", func(t *testing.T, w *world) {
		w.with(func() { w.pressure = 0.5 })
		w.serves("a", "m", 1)
		w.after(settleFor + quietWithin + 30*time.Second)
		if n, _ := w.requests(); n == 0 {
			t.Fatal("it is never measured")
		}
		w.wantHint("a", 0, 0)
		w.after(4 * time.Minute)
		w.wantHint("a", 40, 200)
		if p, _ := w.reg.Pool("a"); !p.Replicas[0].Perf.Disturbed || w.outcomes["disturbed"] != shownAfter {
			t.Errorf("%+v, %v", p.Replicas[0].Perf, w.outcomes)
		}
		w.with(func() { w.pressure = 0 })
		w.after(10 * time.Minute)
		if p, _ := w.reg.Pool("a"); p.Replicas[0].Perf.Disturbed || w.outcomes["disturbed"] != shownAfter {
			t.Errorf("once it is quiet: %+v, %v", p.Replicas[0].Perf, w.outcomes)
		}
		before, _ := w.requests()
		w.after(24 * time.Hour)
		if n, _ := w.requests(); n != before {
			t.Errorf("%d requests more", n-before)
		}
	})
	in(t, "a_host_that_is_busy_for_ever", func(t *testing.T, w *world) {
		w.with(func() { w.pressure = 0.5 })
		w.serves("a", "m", 1)
		w.after(24 * time.Hour)
		if n, _ := w.requests(); n != 4*(1+len(repeatAfter)) {
			t.Errorf("%d requests", n)
		}
	})
	in(t, "runs_that_differ_are_repeated", func(t *testing.T, w *world) {
		w.with(func() { w.jitter = []float64{1, 3, 1, 2} })
		w.serves("a", "m", 1)
		w.after(settleFor + 12*time.Second)
		w.wantHint("a", 0, 0)
		w.with(func() { w.jitter = nil })
		w.after(time.Minute)
		w.wantHint("a", 40, 200)
		if p, _ := w.reg.Pool("a"); p.Replicas[0].Perf.Disturbed || w.outcomes["disturbed"] != 1 {
			t.Errorf("%+v, %v", p.Replicas[0].Perf, w.outcomes)
		}
	})
}

func TestSlower(t *testing.T) {
	in(t, "another_version_that_is_slower", func(t *testing.T, w *world) {
		w.serves("a", "m", 1)
		w.after(time.Minute)
		w.with(func() { w.gap *= 2 })
		w.serves("a", "m", 1, func(t *Target) { t.Identity.Version = "2" })
		w.after(time.Minute)
		got := w.slower()
		if len(got) != 1 || !strings.Contains(got[0], "20 tokens/s instead of 40") ||
			!strings.Contains(got[0], "the engine's version changed") {
			t.Errorf("%q", got)
		}
	})
	in(t, "another_version_that_is_not", func(t *testing.T, w *world) {
		w.serves("a", "m", 1)
		w.after(time.Minute)
		w.serves("a", "m2", 1)
		w.after(time.Minute)
		if got := w.slower(); len(got) > 0 {
			t.Errorf("%q", got)
		}
	})
}

// TestCounters: the hints follow what the engine counts, but for what a measurement makes it count.
func TestCounters(t *testing.T) {
	counted := func(tokens uint64, ms float64) registry.Counted {
		return registry.Counted{TokensOut: &tokens, DecodeMS: &ms}
	}
	in(t, "after_a_measurement", func(t *testing.T, w *world) {
		w.serves("a", "m", 1)
		w.after(time.Minute)
		w.bench.Counted("a", "r0", counted(4*64, 60_000)) // of the measurement
		w.wantHint("a", 40, 200)
		w.bench.Counted("a", "r0", counted(20*60, 60_000)) // a half-life at 20 tokens/s
		w.wantHint("a", 30, 200)
	})
	in(t, "without_one", func(t *testing.T, w *world) {
		w.serves("a", "m", 1, func(t *Target) { t.Automatic = false })
		w.after(time.Second)
		w.bench.Counted("a", "r0", counted(20, 1000))
		w.wantHint("a", 20, 0)
		w.serves("a", "m", 1, func(t *Target) { t.Automatic = false })
		w.after(time.Second)
		w.publish("a")
		w.wantHint("a", 0, 0) // of another run
	})
}

// TestSize: what is asked for fits into the context, whatever the vocabulary.
func TestSize(t *testing.T) {
	for _, ctx := range []int{0, 16, 64, 128, 512, 1536, 4096, 1 << 20} {
		words, tokens := size(ctx)
		if ctx > 0 && ctx >= 64 && 6*words+tokens > ctx || words < 1 || tokens < 2 {
			t.Errorf("%d words and %d tokens in a context of %d", words, tokens, ctx)
		}
		if n := len(strings.Fields(prompt(words))); n != words {
			t.Errorf("%d words, want %d", n, words)
		}
	}
}

func FuzzReadStream(f *testing.F) {
	f.Add("data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: {\"choices\":[{\"text\":\"b\"}]}\n\ndata: [DONE]\n\n")
	f.Add("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":9}}\n\ndata: [DONE]\n\n")
	f.Add(": comment\n\ndata: {\"error\":{\"message\":\"no\"}}\n\n")
	f.Add("data: {\"choices\":[{\"text\":\"\"}],\"timings\":{\"prompt_n\":1,\"predicted_n\":-2}}\n\n")
	f.Fuzz(mutate.Many(func(t *testing.T, text string) {
		now := time.Unix(1, 0)
		s := perf.Stream{Sent: now}
		err := readStream(strings.NewReader(text), &s, func() time.Time {
			now = now.Add(time.Millisecond)
			return now
		})
		if err != nil {
			return
		}
		if s.Output < 0 || s.Prompt < 0 || s.End.Before(s.First) {
			t.Errorf("%+v", s)
		}
		r := perf.Result{At: now, Spread: 0}
		if r.One, err = perf.Of([]perf.Stream{s}); err == nil && !r.Valid() {
			t.Errorf("a result that cannot be kept: %+v", r)
		}
	}))
}
