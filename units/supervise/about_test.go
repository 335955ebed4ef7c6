package supervise

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// lineBuffer is what the manager logs.
type lineBuffer struct{ runLog }

func (l *lineBuffer) into(o *Options) { o.Log = slog.New(slog.NewTextHandler(io.Writer(l), nil)) }

// TestOneIDFromTheRequestToItsEvents: the lines and events of a job have the id of the request that
// it is for, over a restart of the manager too, and what comes after the job has not.
func TestOneIDFromTheRequestToItsEvents(t *testing.T) {
	const id = "correlation_id=req-7"
	scenario(t, "a_drain_and_a_resume", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		m.kill()
		log := &lineBuffer{}
		m = w.manage(t, pools(llama("a")), with(s, h), log.into)
		m.wantState("a", registry.StateReady, true)
		h.n.Store(1)
		before := m.reg.LastEvent()
		ctx := registry.WithCorrelation(t.Context(), "req-7")
		if err := m.s.Drain(ctx, "a", time.Hour, "uid:0"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		m.kill()
		for _, text := range []string{"pool a is drained by uid:0", "draining the engine"} {
			if lines := log.logged(text); len(lines) != 1 || !strings.Contains(lines[0], id) {
				t.Errorf("%s: %q", text, lines)
			}
		}
		since, _ := m.reg.Events(before)
		of := make(map[registry.Kind]string)
		for _, e := range since {
			of[e.Kind] = e.Correlation
		}
		if of[registry.KindDrain] != "req-7" || of[registry.KindReady] != "req-7" {
			t.Errorf("events %v", of)
		}
		m = w.manage(t, pools(llama("a")), with(s, h), log.into)
		h.n.Store(0)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStopped, false)
		if lines := log.logged("the engine is drained"); len(lines) != 1 || !strings.Contains(lines[0], id) {
			t.Errorf("after a restart of the manager: %q", lines)
		}
		if err := m.s.Resume(registry.WithCorrelation(t.Context(), "req-8"), "a", "uid:0"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		if lines := log.logged("pool a is resumed"); len(lines) != 1 ||
			!strings.Contains(lines[0], "correlation_id=req-8") {
			t.Errorf("%q", lines)
		}
		for _, line := range log.logged("to=ready") {
			if strings.Contains(line, "correlation_id") {
				t.Errorf("after the job: %s", line)
			}
		}
	})
	scenario(t, "a_reload", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		m.kill()
		log := &lineBuffer{}
		m = w.manage(t, pools(llama("a")), with(s, h), log.into)
		m.wantState("a", registry.StateReady, true)
		err := m.s.Reload(registry.WithCorrelation(t.Context(), "req-7"), "a",
			ReloadRequest{Model: "file:/srv/models/b.gguf", Deadline: time.Minute, By: "uid:0"})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s.of("a").Reload.Correlation != "req-7" || m.pool("a").Correlation != "req-7" {
			t.Errorf("written down %+v, published %q", s.of("a").Reload, m.pool("a").Correlation)
		}
		for _, text := range []string{"a reload begins", "starting the engine"} {
			if lines := log.logged(text); len(lines) != 1 || !strings.Contains(lines[0], id) {
				t.Errorf("%s: %q", text, lines)
			}
		}
	})
}
