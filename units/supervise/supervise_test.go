package supervise

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// scenario runs f in virtual time.
func scenario(t *testing.T, name string, f func(t *testing.T, w *world)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, newWorld()) })
	})
}

func pools(p ...pool.Pool) Desired { return Desired{Pools: p} }

func bad(id string) registry.Problem {
	return registry.Problem{File: id + ".toml", PoolID: id, Text: id + ".toml:1:1: broken", Hint: "fix it"}
}

// serving is a manager with one ready pool, a.
func serving(t *testing.T, w *world) *manager {
	m := w.manage(t, pools(llama("a")))
	w.passGate(unitOf("a"))
	m.wantState("a", registry.StateReady, true)
	return m
}

func TestReadiness(t *testing.T) {
	scenario(t, "ready_only_after_gate_and_probe", func(t *testing.T, w *world) {
		w.ill(true)
		m := w.manage(t, pools(llama("a")))
		m.wantState("a", registry.StateStarting, false)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateProbing, false)
		w.ill(false)
		time.Sleep(5 * time.Second)
		m.wantState("a", registry.StateReady, true)
		if got := m.pool("a").SlotsTotal; got != 4 {
			t.Errorf("slots_total = %d, want the engine's own 4", got)
		}
	})
	scenario(t, "health_failures_past_the_threshold_flip_it", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.ill(true)
		time.Sleep(9 * time.Second)
		m.wantState("a", registry.StateReady, true)
		time.Sleep(7 * time.Second)
		m.wantState("a", registry.StateUnhealthy, false)
		m.wantCode("a", registry.CodeHealthFailed)
		w.ill(false)
		time.Sleep(5 * time.Second)
		m.wantState("a", registry.StateReady, true)
		if m.pool("a").LastError != nil {
			t.Errorf("last_error = %v after ready", m.pool("a").LastError)
		}
	})
	scenario(t, "missing_model_is_found_when_it_comes", func(t *testing.T, w *world) {
		w.stage = func(pool.Pool) error {
			return registry.Fail(registry.CodeModelNotFound, "no file", "copy it")
		}
		m := w.manage(t, pools(llama("a")))
		m.wantState("a", registry.StateFailed, false)
		m.wantCode("a", registry.CodeModelNotFound)
		w.with(func() { w.stage = nil })
		time.Sleep(retryFirst + time.Millisecond)
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "taken_port_is_left_for_another", func(t *testing.T, w *world) {
		w.portHeld[21000] = true
		m := w.manage(t, pools(llama("a", func(p *pool.Pool) { p.Port = 21000 })))
		m.wantState("a", registry.StateFailed, false)
		m.wantCode("a", registry.CodePortInUse)
		if w.called("start") != 0 {
			t.Error("started although its port is taken")
		}
	})
}

func TestCrash(t *testing.T) {
	scenario(t, "pid_1_restarts_and_the_manager_only_watches", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.change(unitOf("a"), func(st *systemd.Status) {
			st.ActiveState, st.SubState, st.Result = "activating", "auto-restart", "signal"
			st.ExecMainCode, st.ExecMainStatus, st.MainPID = cldKilled, 9, 0
		})
		m.wantState("a", registry.StateBackoff, false)
		m.wantCode("a", registry.CodeEngineCrashed)
		w.change(unitOf("a"), func(st *systemd.Status) {
			st.ActiveState, st.SubState, st.Result, st.NRestarts = "activating", "start-post", "success", 1
			st.InvocationID, st.MainPID = "second", 4321
		})
		m.wantState("a", registry.StateStarting, false)
		m.wantCode("a", registry.CodeEngineCrashed)
		w.change(unitOf("a"), func(st *systemd.Status) { st.ActiveState, st.SubState = "active", "running" })
		m.wantState("a", registry.StateReady, true)
		if p := m.pool("a"); p.RestartCount != 1 || p.LastError != nil {
			t.Errorf("restart_count = %d, last_error = %v", p.RestartCount, p.LastError)
		}
		if w.called("start") != 1 || w.called("stop") != 0 {
			t.Errorf("the manager meddled: %v", w.calls)
		}
	})
	scenario(t, "after_the_start_limit_it_is_tried_again_later", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.change(unitOf("a"), func(st *systemd.Status) {
			st.ActiveState, st.SubState, st.Result, st.MainPID = "failed", "failed", "start-limit-hit", 0
		})
		m.wantState("a", registry.StateFailed, false)
		time.Sleep(5*time.Minute - time.Second)
		if w.called("start") != 1 {
			t.Error("started before the breaker's time")
		}
		time.Sleep(2 * time.Second)
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "an_operators_stop_is_respected", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.change(unitOf("a"), func(st *systemd.Status) {
			st.ActiveState, st.SubState, st.MainPID = "inactive", "dead", 0
		})
		m.wantState("a", registry.StateStopped, false)
		time.Sleep(time.Hour)
		if w.called("start") != 1 {
			t.Error("started against the operator's will")
		}
	})
}

func TestAdoption(t *testing.T) {
	scenario(t, "a_new_manager_touches_nothing", func(t *testing.T, w *world) {
		serving(t, w).kill()
		w.with(func() { w.calls = nil })
		m := w.manage(t, pools(llama("a")))
		<-m.s.Adopted()
		m.wantState("a", registry.StateReady, true)
		time.Sleep(time.Minute)
		if n := w.called("start") + w.called("stop") + w.called("clear") + w.called("set"); n != 0 {
			t.Errorf("adoption touched the engine: %v", w.calls)
		}
		if w.called("adopt") != 1 {
			t.Errorf("no reference was taken: %v", w.calls)
		}
	})
	scenario(t, "an_engine_that_hangs_does_not_hold_adoption_up", func(t *testing.T, w *world) {
		serving(t, w).kill()
		w.ill(true)
		m := w.manage(t, pools(llama("a")))
		<-m.s.Adopted()
		m.wantState("a", registry.StateProbing, false)
	})
	scenario(t, "an_orphan_is_drained_then_stopped", func(t *testing.T, w *world) {
		serving(t, w).kill()
		w.working(1)
		m := w.manage(t, pools())
		m.wantState("a", registry.StateDraining, false)
		if w.called("stop") != 0 {
			t.Fatal("stopped while a request was under way")
		}
		w.working(0)
		time.Sleep(time.Second)
		synctest.Wait()
		if _, known := m.reg.Pool("a"); known || w.called("stop") != 1 {
			t.Errorf("known=%t, calls %v", known, w.calls)
		}
	})
	scenario(t, "a_bad_file_at_start_holds_what_runs", func(t *testing.T, w *world) {
		serving(t, w).kill()
		m := w.manage(t, Desired{Problems: []registry.Problem{bad("a")}})
		m.wantState("a", registry.StateReady, true)
		m.wantCode("a", registry.CodeConfigInvalid)
		time.Sleep(time.Hour)
		if w.called("stop") != 0 {
			t.Error("a bad file stopped its engine")
		}
	})
	scenario(t, "a_file_that_names_no_pool_may_be_any_pools", func(t *testing.T, w *world) {
		serving(t, w).kill()
		m := w.manage(t, Desired{Problems: []registry.Problem{{File: "x y.toml", Text: "x y.toml:1:1: broken",
			Hint: "fix it"}}})
		m.wantState("a", registry.StateReady, true)
		m.wantCode("a", registry.CodeConfigInvalid)
	})
}

func TestReload(t *testing.T) {
	scenario(t, "an_unchanged_pool_is_not_touched", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.with(func() { w.calls = nil })
		m.apply(pools(llama("a"), llama("b")))
		m.wantState("b", registry.StateStarting, false)
		if w.called("stage a") != 0 || w.called("stop") != 0 || m.pool("a").State != registry.StateReady {
			t.Errorf("pool a was touched: %v", w.calls)
		}
	})
	scenario(t, "what_failed_is_tried_again_at_once", func(t *testing.T, w *world) {
		w.stage = func(pool.Pool) error { return registry.Fail(registry.CodePolicyDenied, "denied", "allow it") }
		m := w.manage(t, pools(llama("a")))
		time.Sleep(3 * retryMax) // by now the wait is the longest
		m.wantState("a", registry.StateFailed, false)
		w.with(func() { w.stage = nil })
		m.apply(pools(llama("a")))
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "a_change_is_prepared_before_the_former_is_touched", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.with(func() {
			w.stage = func(pool.Pool) error { return registry.Fail(registry.CodeModelNotFound, "no file", "copy it") }
		})
		m.apply(pools(llama("a", func(p *pool.Pool) { p.Model = "file:/srv/models/new.gguf" })))
		m.wantState("a", registry.StateReady, true)
		m.wantCode("a", registry.CodeModelNotFound)
		if w.called("stop") != 0 {
			t.Fatal("the former engine was stopped for a model that is not there")
		}
		w.with(func() { w.stage = nil })
		time.Sleep(retryFirst + time.Millisecond)
		synctest.Wait()
		if w.called("stop") != 0 || w.called("start "+besideOf("a")) != 1 {
			t.Errorf("calls %v, want a start beside what runs", w.calls)
		}
		m.wantState("a", registry.StateReady, true)
		w.passGate(besideOf("a"))
		m.wantState("a", registry.StateReady, true)
		if w.called("stop "+unitOf("a")) != 1 || w.called("stop") != 1 {
			t.Errorf("calls %v, want the former stopped", w.calls)
		}
	})
	scenario(t, "a_change_during_a_load_starts_the_new_version", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a")))
		m.wantState("a", registry.StateStarting, false)
		m.apply(pools(llama("a", func(p *pool.Pool) { p.Slots = 3 })))
		synctest.Wait()
		if w.called("stop") != 1 || w.called("start") != 2 {
			t.Fatalf("calls %v, want the former stopped and the new one started", w.calls)
		}
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
	})
	scenario(t, "changed_limits_are_set_on_the_running_engine_once", func(t *testing.T, w *world) {
		m := serving(t, w)
		m.apply(pools(llama("a", func(p *pool.Pool) { p.Limits.MemoryMaxBytes = 1 << 30 })))
		time.Sleep(time.Minute)
		synctest.Wait()
		if w.called("set") != 1 || w.called("stop") != 0 {
			t.Errorf("calls %v, want one set and no stop", w.calls)
		}
	})
	scenario(t, "a_bad_file_keeps_the_former_version", func(t *testing.T, w *world) {
		m := serving(t, w)
		m.apply(Desired{Problems: []registry.Problem{bad("a"), bad("c")}})
		m.wantState("a", registry.StateReady, true)
		m.wantCode("a", registry.CodeConfigInvalid)
		m.wantState("c", registry.StateInvalid, false)
		m.apply(pools(llama("a")))
		if p := m.pool("a"); p.LastError != nil || w.called("stop") != 0 {
			t.Errorf("last_error = %v, calls %v after the file was fixed", p.LastError, w.calls)
		}
	})
	scenario(t, "removed_is_drained_to_the_deadline_then_stopped", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.working(2)
		m.apply(pools())
		m.wantState("a", registry.StateDraining, false)
		time.Sleep(29 * time.Second)
		if w.called("stop") != 0 {
			t.Error("stopped before the deadline")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if w.called("stop") != 1 {
			t.Errorf("calls %v, want a stop at the deadline", w.calls)
		}
	})
	scenario(t, "wanted_again_ends_the_drain", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.working(1)
		m.apply(pools())
		m.apply(pools(llama("a")))
		m.wantState("a", registry.StateReady, true)
		time.Sleep(time.Minute)
		if w.called("stop") != 0 {
			t.Error("stopped although wanted again")
		}
	})
	scenario(t, "a_policy_refuses_with_its_reason", func(t *testing.T, w *world) {
		refuse := func(pool.Pool) *registry.Failure {
			return registry.Fail(registry.CodePolicyDenied, "no device", "name one")
		}
		m := w.manage(t, Desired{Pools: []pool.Pool{llama("a")}, Refuse: refuse})
		m.wantState("a", registry.StateRefused, false)
		m.wantCode("a", registry.CodePolicyDenied)
		if w.called("stage") != 0 {
			t.Error("a refused pool was staged")
		}
	})
}

func TestOneFaultOnePool(t *testing.T) {
	scenario(t, "a_panic_is_one_pools_failure", func(t *testing.T, w *world) {
		w.stage = func(p pool.Pool) error {
			if p.ID == "a" {
				panic("broken model")
			}
			return nil
		}
		m := w.manage(t, pools(llama("a"), llama("b")))
		m.wantState("a", registry.StateFailed, false)
		m.wantState("b", registry.StateStarting, false)
	})
	scenario(t, "a_call_that_pid_1_never_answers_delays_one_pool", func(t *testing.T, w *world) {
		w.hang[unitOf("a")] = true
		m := w.manage(t, pools(llama("a"), llama("b")))
		w.passGate(unitOf("b"))
		m.wantState("b", registry.StateReady, true)
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "the_watchdog_is_fed_by_the_loop", func(t *testing.T, w *world) {
		serving(t, w)
		before := 0
		w.with(func() { before = w.beats })
		time.Sleep(time.Minute)
		synctest.Wait()
		w.with(func() {
			if w.beats-before < 5 {
				t.Errorf("%d beats in a minute, want at least 5", w.beats-before)
			}
		})
	})
}

func TestLostConnection(t *testing.T) {
	scenario(t, "nothing_is_started_before_the_units_are_known_again", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.with(func() { w.send(systemd.Update{Kind: systemd.Lost, Err: errors.New("bus gone")}) })
		synctest.Wait()
		m.apply(pools(llama("a"), llama("b")))
		if w.called("start "+unitOf("b")) != 0 {
			t.Fatal("started although PID 1's units are not known")
		}
		w.sync()
		m.wantState("b", registry.StateStarting, false)
		m.wantState("a", registry.StateReady, true)
	})
}

func TestStatusLine(t *testing.T) {
	got := statusLine(3, map[registry.State]int{registry.StateReady: 2, registry.StateStaging: 1})
	if want := "3 pools, 2 ready, 1 staging"; got != want {
		t.Errorf("statusLine = %q, want %q", got, want)
	}
}
