package bench

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/perf"
)

func TestAsk(t *testing.T) {
	off := func(t *Target) { t.Automatic = false }
	refused := func(t *testing.T, err error, code registry.Code) {
		t.Helper()
		var f *registry.Failure
		if !errors.As(err, &f) || f.Code != code || f.Hint == "" {
			t.Errorf("%v, want %s with a hint", err, code)
		}
	}
	in(t, "measures_now_and_keeps_the_one_before", func(t *testing.T, w *world) {
		w.serves("a", "m", 1)
		w.after(time.Minute)
		w.with(func() { w.pressure, w.gap = 0.9, 50*time.Millisecond })
		if err := w.bench.Ask("a", "r0", false, "uid:0"); err != nil {
			t.Fatal(err)
		}
		w.after(5 * time.Second)
		if run := w.bench.Shown("a").Run; run == nil || run.State != StateRunning || run.Step != 1 || run.Steps != 4 ||
			run.Replica != "r0" {
			t.Errorf("%+v", run)
		}
		w.after(time.Minute)
		shown := w.bench.Shown("a")
		if row := shown.Replicas[0].Row; shown.Run.State != StateDone || perf.Round(row.Last.One.TokensPerS) != 20 ||
			row.Former == nil || perf.Round(row.Former.One.TokensPerS) != 40 {
			t.Errorf("%+v, %+v", shown.Run, row)
		}
		w.wantHint("a", 20, 200)
		if got := w.slower(); len(got) != 1 {
			t.Errorf("%q", got)
		}
	})
	in(t, "one_that_is_disturbed_replaces_no_better_one", func(t *testing.T, w *world) {
		w.serves("a", "m", 1)
		w.after(time.Minute)
		for range 2 {
			w.with(func() { w.gap, w.jitter = 50*time.Millisecond, []float64{1, 3, 1, 2} })
			_ = w.bench.Ask("a", "", false, "")
			w.after(time.Minute)
		}
		w.wantHint("a", 40, 200)
		row := w.bench.Shown("a").Replicas[0].Row
		if row.Last.Disturbed == "" || row.Former == nil || row.Former.Disturbed != "" {
			t.Errorf("%+v", row)
		}
		w.with(func() { w.jitter = nil })
		_ = w.bench.Ask("a", "", false, "")
		w.after(time.Minute)
		w.wantHint("a", 20, 200)
		if got := w.slower(); len(got) != 1 {
			t.Errorf("%q", got)
		}
	})
	in(t, "twice_is_once", func(t *testing.T, w *world) {
		w.serves("a", "m", 1, off)
		first, second := w.bench.Ask("a", "", false, ""), w.bench.Ask("a", "", false, "")
		w.after(time.Minute)
		if n, _ := w.requests(); n != 4 || first != nil || second != nil {
			t.Errorf("%d requests; %v, %v", n, first, second)
		}
	})
	in(t, "a_lease_ends_it", func(t *testing.T, w *world) {
		w.serves("a", "m", 1, off)
		_ = w.bench.Ask("a", "", false, "")
		w.after(time.Second)
		w.lease("a")
		synctest.Wait()
		_, open := w.requests()
		if run := w.bench.Shown("a").Run; open != 0 || run.State != StateCancelled || run.Failure == nil {
			t.Errorf("%d requests are open, %+v", open, run)
		}
		refused(t, w.bench.Ask("a", "", false, ""), registry.CodeBenchRefused)
		if err := w.bench.Ask("a", "", true, ""); err != nil {
			t.Errorf("by force: %v", err)
		}
		w.after(time.Minute)
		if run := w.bench.Shown("a").Run; run.State != StateDone {
			t.Errorf("by force: %+v", run)
		}
	})
	in(t, "it_is_refused", func(t *testing.T, w *world) {
		w.serves("a", "m", 1, off)
		w.serves("none", "m", 1, func(t *Target) { t.Ask = nil })
		refused(t, w.bench.Ask("none", "", true, ""), registry.CodeBenchUnsupported)
		w.change("a", func(r *registry.Replica) { r.Asleep = true })
		refused(t, w.bench.Ask("a", "", false, ""), registry.CodeBenchRefused)
		w.change("a", func(r *registry.Replica) { r.Ready, r.State = false, registry.StateStarting })
		refused(t, w.bench.Ask("a", "", true, ""), registry.CodeBenchRefused)
		w.reg.Remove("a")
		refused(t, w.bench.Ask("a", "", true, ""), registry.CodePoolNotFound)
	})
	in(t, "an_engine_that_fails", func(t *testing.T, w *world) {
		w.with(func() { w.status = 400 })
		w.serves("a", "m", 1, off)
		_ = w.bench.Ask("a", "", false, "")
		w.after(time.Second)
		if run := w.bench.Shown("a").Run; run.State != StateFailed ||
			!strings.Contains(run.Failure.Message, "status 400") {
			t.Errorf("%+v", run)
		}
	})
}
