package supervise

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/probe"
)

// TestFrozenEngines: an engine whose unit someone froze is unready, shown as frozen and never
// restarted for it. After it was thawed it has the whole of escalate_after.
func TestFrozenEngines(t *testing.T) {
	serving := func(t *testing.T, w *world, frozen *atomic.Bool) *manager {
		m := w.manage(t, pools(withGeneration("a", func(p *pool.Pool) {
			p.Health.GenerateInterval, p.Health.EscalateLimit = 0, 10*time.Minute
		})), func(o *Options) {
			o.Activity = func(string) (Activity, bool) { return Activity{Frozen: frozen.Load()}, true }
		})
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		frozen.Store(true)
		w.illWith(probe.ReasonTimeout)
		time.Sleep(time.Hour)
		m.wantState("a", registry.StateUnhealthy, false)
		f := m.pool("a").LastError
		if f.Code != registry.CodeHealthFailed || !strings.HasSuffix(f.Message, isFrozen) ||
			!strings.HasPrefix(f.Hint, "systemctl thaw '"+unitOf("a")+"'") {
			t.Errorf("%s (%s)", f, f.Hint)
		}
		if n := w.called("kill"); n != 0 {
			t.Fatalf("%d kills of a frozen engine", n)
		}
		frozen.Store(false)
		return m
	}
	scenario(t, "thawed_and_well", func(t *testing.T, w *world) {
		m := serving(t, w, new(atomic.Bool))
		w.illWith("")
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateReady, true)
		if n := w.called("kill"); n != 0 || m.pool("a").LastError != nil {
			t.Errorf("%d kills, %v", n, m.pool("a").LastError)
		}
	})
	scenario(t, "thawed_and_hung", func(t *testing.T, w *world) {
		m := serving(t, w, new(atomic.Bool))
		time.Sleep(90 * time.Second)
		if n := w.called("kill"); n != 0 {
			t.Errorf("%d kills before escalate_after", n)
		}
		if f := m.pool("a").LastError; strings.Contains(f.Message, "frozen") {
			t.Errorf("shown as frozen: %s", f)
		}
		time.Sleep(time.Minute)
		if n := w.called("kill"); n != 1 {
			t.Errorf("%d kills past escalate_after", n)
		}
	})
}

// TestDroppedRestart: a unit whose process ended while it was frozen waits for a restart that PID
// 1 no longer makes. The manager makes it; where PID 1 does not let it, the pool has failed, with
// what to do, until PID 1 does.
func TestDroppedRestart(t *testing.T) {
	dropped := func(t *testing.T, w *world) *manager {
		m := w.manage(t, pools(withGeneration("a")))
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		w.change(unitOf("a"), ends("signal", cldKilled, 9))
		m.wantState("a", registry.StateBackoff, false)
		w.change(unitOf("a"), func(st *systemd.Status) {
			st.SubState, st.JobID, st.NRestarts = "auto-restart-queued", 7, 1
		})
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateBackoff, false)
		w.change(unitOf("a"), func(st *systemd.Status) { st.JobID = 0 })
		return m
	}
	scenario(t, "is_made_by_the_manager", func(t *testing.T, w *world) {
		m := dropped(t, w)
		time.Sleep(10 * time.Second)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
	})
	scenario(t, "of_a_unit_that_stays_frozen", func(t *testing.T, w *world) {
		w.stopErr = fmt.Errorf("stop: %w", systemd.ErrFrozen)
		m := dropped(t, w)
		time.Sleep(10 * time.Minute)
		m.wantState("a", registry.StateFailed, false)
		f := m.pool("a").LastError
		if f.Code != registry.CodeEngineStartFailed || !strings.Contains(f.Hint, "systemctl thaw pool-engines.slice") {
			t.Errorf("%s (%s)", f, f.Hint)
		}
		w.with(func() { w.stopErr = nil })
		time.Sleep(2 * time.Minute)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
	})
	scenario(t, "is_not_taken_from_a_pid_1_that_is_slow", func(t *testing.T, w *world) {
		m := dropped(t, w)
		time.Sleep(time.Second)
		w.change(unitOf("a"), func(st *systemd.Status) { st.JobID = 8 })
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateBackoff, false)
		if n := w.called("stop-waiting"); n != 0 {
			t.Errorf("%d stops", n)
		}
	})
}

// TestUnitsWithoutTheirFile: an engine whose unit PID 1 has without its file serves on, is shown
// with what that means, and can be drained. When it ends, the manager starts it again.
func TestUnitsWithoutTheirFile(t *testing.T) {
	lost := func(t *testing.T, w *world, loadState string) *manager {
		m := w.manage(t, pools(llama("a")))
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		w.change(unitOf("a"), func(st *systemd.Status) { st.LoadState, st.LogFields = loadState, nil })
		time.Sleep(10 * time.Minute)
		m.wantState("a", registry.StateReady, true)
		m.wantCode("a", registry.CodeUnitFileMissing)
		if n := w.called("stop") + w.called("kill"); n != 0 {
			t.Errorf("%d stops", n)
		}
		return m
	}
	for state, hint := range map[string]string{"not-found": "poolctl restart a", "stub": "poolctl restart a",
		"bad-setting": "poolctl restart a", "masked": "systemctl unmask '" + unitOf("a") + "'"} {
		scenario(t, state, func(t *testing.T, w *world) {
			m := lost(t, w, state)
			if f := m.pool("a").LastError; !strings.Contains(f.Message, state) || !strings.Contains(f.Hint, hint) {
				t.Errorf("%s (%s)", f, f.Hint)
			}
			if err := m.s.Drain(t.Context(), "a", time.Second, "uid:0"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			m.wantState("a", registry.StateStopped, false)
		})
	}
	scenario(t, "crash", func(t *testing.T, w *world) {
		m := lost(t, w, "not-found")
		w.change(unitOf("a"), func(st *systemd.Status) {
			ends("signal", cldKilled, 11)(st)
			st.ActiveState, st.SubState, st.EndedFirst, st.RestartUSec = "failed", "failed", true, 0
		})
		time.Sleep(time.Minute)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
	})
}
