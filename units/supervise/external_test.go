package supervise

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// elsewhere is a pool whose engine another program runs, where the world's first engine listens.
func elsewhere(id string) pool.Pool {
	return llama(id, func(p *pool.Pool) {
		p.Provisioning = pool.Provisioning{Mode: pool.ModeExternal, URL: endpoint}
		p.Model = ""
	})
}

func TestExternal(t *testing.T) {
	managed := func(t *testing.T, w *world) (*manager, *shelf, *held) {
		s, h := &shelf{kept: make(map[string]keep.Intent)}, &held{}
		m := w.manage(t, pools(elsewhere("a")), with(s, h))
		return m, s, h
	}
	untouched := func(t *testing.T, w *world) {
		t.Helper()
		for _, call := range []string{"start", "stop", "kill", "clear", "stage", "set", "adopt"} {
			if w.called(call) != 0 {
				t.Errorf("an external engine got %s: %v", call, w.calls)
			}
		}
	}
	scenario(t, "ready_when_it_answers", func(t *testing.T, w *world) {
		w.ill(true)
		m, _, _ := managed(t, w)
		m.wantState("a", registry.StateProbing, false)
		w.ill(false)
		time.Sleep(6 * time.Second)
		m.wantState("a", registry.StateReady, true)
		p := m.pool("a")
		if r := p.Replicas[0]; r.Endpoint != endpoint || r.Unit != "" || p.SlotsTotal != 4 {
			t.Errorf("%+v", p)
		}
		untouched(t, w)
	})
	scenario(t, "not_ready_when_it_fails_and_ready_again", func(t *testing.T, w *world) {
		m, _, _ := managed(t, w)
		m.wantState("a", registry.StateReady, true)
		w.ill(true)
		time.Sleep(20 * time.Second)
		m.wantState("a", registry.StateUnhealthy, false)
		m.wantCode("a", registry.CodeHealthFailed)
		time.Sleep(time.Hour)
		w.ill(false)
		time.Sleep(10 * time.Second)
		m.wantState("a", registry.StateReady, true)
		untouched(t, w)
	})
	scenario(t, "drained_and_resumed", func(t *testing.T, w *world) {
		m, s, h := managed(t, w)
		m.wantState("a", registry.StateReady, true)
		h.n.Store(1)
		m.drain(time.Minute)
		m.wantState("a", registry.StateDraining, false)
		h.n.Store(0)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStopped, false)
		m.kill()
		m = w.manage(t, pools(elsewhere("a")), with(s, h))
		m.wantState("a", registry.StateStopped, false)
		m.resume()
		m.wantState("a", registry.StateReady, true)
		untouched(t, w)
	})
	scenario(t, "another_url_is_another_engine", func(t *testing.T, w *world) {
		m, _, _ := managed(t, w)
		m.wantState("a", registry.StateReady, true)
		moved := elsewhere("a")
		moved.Provisioning.URL = "http://127.0.0.1:21007"
		m.apply(pools(moved))
		time.Sleep(time.Second)
		m.wantState("a", registry.StateReady, true)
		if got := m.pool("a").Replicas[0].Endpoint; got != moved.Provisioning.URL {
			t.Errorf("endpoint %s", got)
		}
		untouched(t, w)
	})
	scenario(t, "a_new_listing_of_units_changes_nothing", func(t *testing.T, w *world) {
		m, _, _ := managed(t, w)
		m.wantState("a", registry.StateReady, true)
		w.sync()
		m.wantState("a", registry.StateReady, true)
	})
	scenario(t, "removed", func(t *testing.T, w *world) {
		m, _, _ := managed(t, w)
		m.wantState("a", registry.StateReady, true)
		m.apply(pools())
		time.Sleep(time.Second)
		synctest.Wait()
		if _, known := m.reg.Pool("a"); known {
			t.Error("the pool is still there")
		}
		untouched(t, w)
	})
	scenario(t, "neither_reloaded_nor_rendered", func(t *testing.T, w *world) {
		m, _, _ := managed(t, w)
		m.wantState("a", registry.StateReady, true)
		var f *registry.Failure
		if err := m.s.Reload(t.Context(), "a", ReloadRequest{Model: "file:/b"}); !errors.As(err, &f) ||
			f.Code != registry.CodeInvalidParams {
			t.Errorf("reload: %v", err)
		}
		if _, err := m.s.RenderUnit(t.Context(), "a"); !errors.As(err, &f) {
			t.Errorf("render: %v", err)
		}
	})
}
