package supervise

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestDescribe: each replica's status says what its own engine runs.
func TestDescribe(t *testing.T) {
	want := func(t *testing.T, r registry.Replica, id, name, model string) {
		t.Helper()
		at := slices.Index(r.Flags, "-m")
		if r.ID != id || r.Name != name || r.ModelID != "file:"+model || r.ModelPath != model ||
			r.Engine != engine.LlamaCpp ||
			r.Provisioning != pool.ModeBinary || at < 0 || r.Flags[at+1] != model {
			t.Errorf("%+v, want %s, known as %s, with %s", r, id, name, model)
		}
	}
	scenario(t, "over_a_reload_that_starts_the_new_engine_beside", func(t *testing.T, w *world) {
		m, _, h := drainable(t, w)
		want(t, m.pool("a").Replicas[0], "r0", "r0", "/srv/models/a.gguf")
		h.n.Store(1)
		m.reload("b.gguf", time.Minute)
		w.passGate(besideOf("a"))
		m.wantState("a", registry.StateReady, true)
		both := m.pool("a").Replicas
		if len(both) != 2 {
			t.Fatalf("replicas %+v", both)
		}
		want(t, both[0], "r0", "r0", "/srv/models/a.gguf")
		want(t, both[1], "r0b", "r0", "/srv/models/b.gguf")
		h.n.Store(0)
		time.Sleep(time.Second)
		want(t, m.wantServed("r0b", "b.gguf"), "r0b", "r0", "/srv/models/b.gguf")
	})
	scenario(t, "an_engine_with_a_key_is_asked_with_it", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", func(p *pool.Pool) { p.APIKeyFile = "/etc/llm/key" }), llama("b")))
		w.passGate(unitOf("a"))
		w.passGate(unitOf("b"))
		m.wantState("a", registry.StateReady, true)
		m.wantState("b", registry.StateReady, true)
		host := strings.TrimPrefix(m.pool("a").Replicas[0].Endpoint, "http://")
		if w.called("key "+host) != 1 || w.called("key ") != 1 {
			t.Errorf("%d engines have a key, %d of them the right one", w.called("key "), w.called("key "+host))
		}
	})
	scenario(t, "arguments_are_those_of_what_runs_and_hide_secrets", func(t *testing.T, w *world) {
		w.stage = nil
		m := w.manage(t, pools(llama("a", func(p *pool.Pool) { p.Args = []string{"--api-key", "quite secret"} })))
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		r := m.pool("a").Replicas[0]
		if !slices.Contains(r.Flags, "[hidden]") || slices.Contains(r.Flags, "quite secret") {
			t.Errorf("flags %q", r.Flags)
		}
		w.stageHangs = true
		m.apply(pools(llama("a", func(p *pool.Pool) { p.Args = []string{"--mlock"} })))
		if r := m.pool("a").Replicas[0]; r.Flags != nil || !r.Ready {
			t.Errorf("ready %t, flags %q of an engine that does not run yet", r.Ready, r.Flags)
		}
	})
}
