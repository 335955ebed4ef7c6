package supervise

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func model(name string) func(*pool.Pool) {
	return func(p *pool.Pool) { p.Model = pool.Model("file:/srv/models/" + name) }
}

func missing(only string) func(pool.Pool) error {
	return func(p pool.Pool) error {
		if p.Model == pool.Model("file:/srv/models/"+only) {
			return registry.Fail(registry.CodeModelNotFound, "no file", "copy it")
		}
		return nil
	}
}

// TestChangedAgain is about wishes that change while the former wish is being carried out.
func TestChangedAgain(t *testing.T) {
	scenario(t, "new_health_keys_are_probed_by_at_once", func(t *testing.T, w *world) {
		m := serving(t, w)
		m.apply(pools(llama("a", func(p *pool.Pool) { p.Health.Interval = time.Second })))
		w.ill(true)
		time.Sleep(4 * time.Second)
		m.wantState("a", registry.StateUnhealthy, false)
		if w.called("stop") != 0 {
			t.Errorf("a new interval cost the engine: %v", w.calls)
		}
	})
	scenario(t, "a_second_change_that_fails_ends_the_reload_to_the_first", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.working(1)
		w.with(func() { w.stage = missing("third.gguf") })
		m.apply(pools(llama("a", model("second.gguf"))))
		w.passGate(besideOf("a"))
		m.wantState("a", registry.StateReady, true)
		m.apply(pools(llama("a", model("third.gguf"))))
		m.wantState("a", registry.StateReady, true)
		m.wantCode("a", registry.CodeModelNotFound)
		time.Sleep(time.Hour)
		m.wantState("a", registry.StateReady, true)
		if w.called("stop "+unitOf("a")) != 0 || w.called("stop "+besideOf("a")) != 1 {
			t.Errorf("stopped for a model that is not there: %v", w.calls)
		}
	})
	scenario(t, "an_orphans_file_that_comes_broken_ends_its_drain", func(t *testing.T, w *world) {
		serving(t, w).kill()
		w.working(1)
		m := w.manage(t, pools())
		m.wantState("a", registry.StateDraining, false)
		m.apply(Desired{Problems: []registry.Problem{bad("a")}})
		m.wantState("a", registry.StateReady, true)
		time.Sleep(time.Hour)
		if w.called("stop") != 0 {
			t.Errorf("a held engine was stopped: %v", w.calls)
		}
	})
	scenario(t, "removed_and_added_while_staging_stages_again", func(t *testing.T, w *world) {
		w.stageHangs = true
		m := w.manage(t, pools(llama("a"), llama("b")))
		w.with(func() { w.stageHangs = false })
		// Both reloads are in the queue before the cancelled staging can answer.
		done := make(chan struct{})
		m.s.events <- func() { m.s.apply(pools(llama("b"))); m.s.apply(pools(llama("a"), llama("b"))); close(done) }
		<-done
		synctest.Wait()
		if err := m.pool("a").LastError; err != nil {
			t.Errorf("last_error = %v, want none: nobody's fault", err)
		}
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "a_drain_that_was_ended_does_not_end_the_next", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.working(1)
		m.apply(pools())
		done := make(chan struct{})
		m.s.events <- func() { m.s.apply(pools(llama("a"))); m.s.apply(pools()); close(done) }
		<-done
		time.Sleep(20 * time.Second)
		m.wantState("a", registry.StateDraining, false)
		if w.called("stop") != 0 {
			t.Errorf("stopped while a request was under way: %v", w.calls)
		}
	})
	scenario(t, "the_api_names_the_model_that_is_served", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.with(func() { w.stage = missing("second.gguf") })
		m.apply(pools(llama("a", model("second.gguf"))))
		m.wantState("a", registry.StateReady, true)
		if got := m.pool("a").ModelID; got != "file:/srv/models/a.gguf" {
			t.Errorf("model_id = %s although the engine serves a.gguf", got)
		}
	})
	scenario(t, "replicas_lowered_and_raised_while_a_start_job_lingers", func(t *testing.T, w *world) {
		two := llama("a", func(p *pool.Pool) { p.Replicas, p.Devices = 2, [][]string{nil, nil} })
		second := pool.Replica{Pool: "a", Index: 1}.Unit()
		w.late = make(chan struct{})
		m := w.manage(t, pools(two))
		first := w.late
		w.passGate(unitOf("a"))
		w.passGate(second)
		w.with(func() { w.late = nil })
		synctest.Wait()
		m.apply(pools(llama("a")))
		time.Sleep(time.Second)
		m.apply(pools(two))
		synctest.Wait()
		w.passGate(second)
		close(first) // the first start's end is reported only now
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(m.pool("a").Replicas); n != 2 || !m.pool("a").Replicas[1].Ready {
			t.Errorf("%d replicas: %+v", n, m.pool("a").Replicas)
		}
		if w.called("stop "+second) != 1 {
			t.Errorf("a late result touched the new engine: %v", w.calls)
		}
	})
}

// TestUnhappyEnds is about calls that fail, and engines that end in the midst of something.
func TestUnhappyEnds(t *testing.T) {
	scenario(t, "a_stop_that_fails_is_tried_again_with_patience", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.with(func() { w.stopErr = errors.New("access denied") })
		m.s.events <- func() { m.s.apply(pools()) }
		time.Sleep(time.Minute)
		if n := w.called("stop"); n < 2 || n > 10 {
			t.Fatalf("%d stops in a minute, want a few", n)
		}
		m.wantCode("a", registry.CodeEngineStartFailed)
		w.with(func() { w.stopErr = nil })
		time.Sleep(retryMax + time.Second)
		synctest.Wait()
		if _, known := m.reg.Pool("a"); known {
			t.Error("the engine was never stopped")
		}
	})
	scenario(t, "a_stop_whose_answer_was_lost_is_no_failure", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.with(func() { w.stopErr = fmt.Errorf("stop job: %w", systemd.ErrDisconnected) })
		m.s.events <- func() { m.s.apply(pools()) }
		time.Sleep(time.Minute)
		if n := w.called("stop"); n < 2 || n > 61 {
			t.Fatalf("%d stops in a minute, want one a second at most", n)
		}
		if f := m.pool("a").LastError; f != nil {
			t.Errorf("last_error %v", f)
		}
		w.with(func() { w.stopErr = nil })
		time.Sleep(2 * reconnecting)
		synctest.Wait()
		if _, known := m.reg.Pool("a"); known {
			t.Error("the engine was never stopped")
		}
	})
	scenario(t, "a_failed_stop_of_a_replaced_engine_is_tried_again_with_patience", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.with(func() { w.stopErr = errors.New("access denied") })
		m.s.events <- func() { m.s.apply(pools(llama("a", model("second.gguf")))) }
		synctest.Wait()
		w.passGate(besideOf("a"))
		time.Sleep(time.Minute)
		if n := w.called("stop"); n < 2 || n > 10 {
			t.Fatalf("%d stops in a minute, want a few", n)
		}
		m.wantState("a", registry.StateReady, true)
		w.with(func() { w.stopErr = nil })
		time.Sleep(retryMax + time.Second)
		if list := m.pool("a").Replicas; len(list) != 1 || list[0].ID != "r0b" {
			t.Errorf("replicas: %+v", list)
		}
	})
	scenario(t, "an_engine_that_was_restarted_unseen_is_drained_anew", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.working(1)
		m.apply(pools())
		m.wantState("a", registry.StateDraining, false)
		w.with(func() { w.send(systemd.Update{Kind: systemd.Lost, Err: errors.New("bus gone")}) })
		synctest.Wait()
		w.with(func() { st := w.units[unitOf("a")]; st.InvocationID, st.NRestarts = "second", 1 })
		w.sync()
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, known := m.reg.Pool("a"); known || w.called("stop") != 1 {
			t.Errorf("known=%t, calls %v, want it stopped after the deadline", known, w.calls)
		}
	})
	scenario(t, "an_operators_stop_during_the_load_is_respected", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a")))
		w.change(unitOf("a"), func(st *systemd.Status) {
			st.ActiveState, st.SubState, st.MainPID = "inactive", "dead", 0
		})
		synctest.Wait()
		w.ended[unitOf("a")] <- &systemd.JobError{Unit: unitOf("a"), Type: "start", Result: "canceled"}
		m.wantState("a", registry.StateStopped, false)
		time.Sleep(time.Hour)
		if w.called("start") != 1 {
			t.Errorf("started against the operator's will: %v", w.calls)
		}
	})
	scenario(t, "a_unit_whose_job_never_ran_is_started_again", func(t *testing.T, w *world) {
		w.neverRun = &systemd.JobError{Unit: unitOf("a"), Type: "start", Result: "dependency"}
		m := w.manage(t, pools(llama("a")))
		m.wantState("a", registry.StateFailed, false)
		m.wantCode("a", registry.CodeEngineStartFailed)
		w.with(func() { w.neverRun = nil })
		time.Sleep(retryFirst + time.Millisecond)
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "a_start_whose_answer_was_lost_is_no_failure", func(t *testing.T, w *world) {
		w.neverRun = fmt.Errorf("start job: %w", systemd.ErrDisconnected)
		m := w.manage(t, pools(llama("a")))
		if f := m.pool("a").LastError; f != nil || m.pool("a").State == registry.StateFailed {
			t.Errorf("state %s, last_error %v", m.pool("a").State, f)
		}
		w.with(func() { w.neverRun = nil })
		time.Sleep(reconnecting + time.Millisecond)
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "a_panic_in_a_probe_is_a_failed_probe", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.with(func() { w.probeDies = true })
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateUnhealthy, false)
		w.with(func() { w.probeDies = false })
		time.Sleep(5 * time.Second)
		m.wantState("a", registry.StateReady, true)
	})
	scenario(t, "one_lost_answer_does_not_cut_held_work", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.with(func() { w.deaf = errors.New("reset") })
		m.apply(pools())
		time.Sleep(5 * time.Second)
		m.wantState("a", registry.StateDraining, false)
		if w.called("stop") != 0 {
			t.Fatal("stopped although it is unknown whether leases are held")
		}
		w.with(func() { w.deaf = nil })
		time.Sleep(time.Second)
		if w.called("stop") != 1 {
			t.Errorf("calls %v, want a stop when it says that it is idle", w.calls)
		}
	})
	scenario(t, "an_engine_that_cannot_tell_is_waited_for_up_to_the_deadline", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.with(func() { w.deaf = errors.New("status 401") })
		m.apply(pools())
		time.Sleep(29 * time.Second)
		if w.called("stop") != 0 {
			t.Errorf("calls %v, want no stop before the deadline", w.calls)
		}
		time.Sleep(2 * time.Second)
		if w.called("stop") != 1 {
			t.Errorf("calls %v, want a stop at the deadline", w.calls)
		}
	})
}

// TestRunTellsItsCause: a daemon that ends with nothing in its log is no one's friend.
func TestRunTellsItsCause(t *testing.T) {
	scenario(t, "connection_given_up", func(t *testing.T, w *world) {
		m, gone := serving(t, w), errors.New("no such bus")
		w.with(func() { w.send(systemd.Update{Err: gone}) })
		<-m.done
		if !errors.Is(m.err, gone) || errors.Is(m.err, context.Canceled) {
			t.Errorf("Run = %v, want %v", m.err, gone)
		}
	})
}

// TestPreview is what poolctl render shows of a pool that is not prepared.
func TestPreview(t *testing.T) {
	scenario(t, "shows_the_port_that_the_file_names", func(t *testing.T, w *world) {
		w.stageHangs = true
		m := w.manage(t, pools(llama("a", func(p *pool.Pool) { p.Port = 8080 })))
		text, err := m.s.RenderUnit(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text, "127.0.0.1:8080") {
			t.Errorf("no port 8080 in\n%s", text)
		}
	})
}
