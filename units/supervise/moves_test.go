package supervise

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/restarts"
)

// taken is the end of a start whose gate found another process on the engine's port.
func taken(st *systemd.Status) {
	ends("exit-code", 0, 0)(st)
	st.PostCode, st.PostStatus, st.WasActive = cldExited, exit.ForeignPort, false
}

// atLimit is a unit that PID 1 starts no longer.
func atLimit(st *systemd.Status) {
	st.ActiveState, st.SubState, st.Result = "failed", "failed", startLimitHit
}

// TestPortsInUse: a port of another process costs no failed run and no wait. A port that the pool's
// file names is not left.
func TestPortsInUse(t *testing.T) {
	// unharmed wants the engine serving on a port, with no failure counted.
	unharmed := func(t *testing.T, w *world, m *manager, endpoint string) {
		t.Helper()
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		if got := m.pool("a").Replicas[0]; got.Endpoint != endpoint || got.Breaker != string(restarts.Closed) {
			t.Errorf("it serves on %s, breaker %s; want %s", got.Endpoint, got.Breaker, endpoint)
		}
		m.s.post(func() {
			r := m.s.replica(pool.Replica{Pool: "a"})
			if n := r.past.State.Failures; n != 0 || r.wait.on || r.unit.moves != 0 {
				t.Errorf("%d failures counted, waiting: %t, moves %d", n, r.wait.on, r.unit.moves)
			}
		})
		time.Sleep(time.Millisecond)
	}
	scenario(t, "seven_taken_ports_cost_no_time", func(t *testing.T, w *world) {
		for port := 21000; port < 21007; port++ {
			w.portHeld[port] = true
		}
		began := time.Now()
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}))
		m.wantState("a", registry.StateStarting, false)
		if took := time.Since(began); took > time.Second || w.called("start") != 1 {
			t.Errorf("started %d times, after %s", w.called("start"), took)
		}
		unharmed(t, w, m, "http://127.0.0.1:21007")
	})
	scenario(t, "a_stranger_was_faster_than_the_engine", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}))
		for range 5 { // the breaker opens at three failures
			w.change(unitOf("a"), taken)
			time.Sleep(10 * time.Millisecond)
			m.wantState("a", registry.StateStarting, false)
			m.wantCode("a", registry.CodePortInUse)
		}
		unharmed(t, w, m, "http://127.0.0.1:21005")
	})
	scenario(t, "a_stranger_took_the_port_of_an_engine_that_crashed", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}))
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		w.change(unitOf("a"), ends("signal", cldKilled, 9))
		m.wantState("a", registry.StateBackoff, false)
		if got := m.pool("a").Replicas[0].Endpoint; got != "" {
			t.Errorf("the endpoint of an engine that has ended is %s", got)
		}
		time.Sleep(time.Second)
		w.again(unitOf("a"))
		w.change(unitOf("a"), taken)
		time.Sleep(10 * time.Millisecond)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		if got := m.pool("a").Replicas[0].Endpoint; got != "http://127.0.0.1:21001" {
			t.Errorf("it serves on %s", got)
		}
	})
	scenario(t, "what_pid_1_reports_late_takes_the_failure_back", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}))
		for range 5 {
			w.change(unitOf("a"), func(st *systemd.Status) {
				ends("exit-code", cldExited, 1)(st)
				st.WasActive = false
			})
			w.change(unitOf("a"), taken)
			time.Sleep(time.Second)
			m.wantState("a", registry.StateStarting, false)
		}
		unharmed(t, w, m, "http://127.0.0.1:21005")
	})
	scenario(t, "pid_1_gives_up_after_a_start_that_costs_nothing", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", func(p *pool.Pool) { failing(p); p.Restart.BreakerFailures = 2 })),
			withNotes(notes{}))
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		w.change(unitOf("a"), ends("signal", cldKilled, 9))
		m.wantState("a", registry.StateBackoff, false)
		time.Sleep(time.Second)
		w.again(unitOf("a"))
		w.change(unitOf("a"), taken)
		w.change(unitOf("a"), atLimit) // the second start of this unit: there is no third
		time.Sleep(10 * time.Millisecond)
		m.wantState("a", registry.StateStarting, false)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		if got := m.pool("a"); got.Breaker != string(restarts.Closed) ||
			got.Replicas[0].Endpoint != "http://127.0.0.1:21001" {
			t.Errorf("it serves on %s, breaker %s", got.Replicas[0].Endpoint, got.Breaker)
		}
	})
	scenario(t, "the_engines_log_says_that_its_second_port_is_taken", func(t *testing.T, w *world) {
		m, _ := withLog(t, w, "loading", "error: bind: Address already in use (os error 98)")
		w.change(unitOf("a"), func(st *systemd.Status) {
			ends("exit-code", cldExited, 1)(st)
			st.PostCode, st.PostStatus, st.WasActive = cldExited, exit.EngineGone, false
		})
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStarting, false)
		m.wantCode("a", registry.CodePortInUse)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
	})
	scenario(t, "one_that_takes_each_port_is_a_failure_in_the_end", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}))
		for range mostMoves {
			w.change(unitOf("a"), taken)
			time.Sleep(10 * time.Millisecond)
		}
		m.wantState("a", registry.StateStarting, false)
		w.change(unitOf("a"), taken)
		time.Sleep(10 * time.Millisecond)
		m.wantState("a", registry.StateBackoff, false)
		m.wantCode("a", registry.CodePortInUse)
	})
	scenario(t, "a_port_that_the_file_names", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", func(p *pool.Pool) { p.Port = 21000 })))
		w.change(unitOf("a"), taken)
		m.wantState("a", registry.StateBackoff, false)
		m.wantCode("a", registry.CodePortInUse)
		if w.called("stop") != 0 {
			t.Errorf("stopped: %v", w.calls)
		}
	})
}

// TestEndpointIsPublishedLate: not before the manager's own probe has succeeded, and not after the
// process has ended.
func TestEndpointIsPublishedLate(t *testing.T) {
	scenario(t, "over_a_life", func(t *testing.T, w *world) {
		var seen []string
		look := func(m *manager) {
			p := m.pool("a")
			seen = append(seen, strings.TrimSpace(string(p.Replicas[0].State)+" "+p.Replicas[0].Endpoint))
		}
		m := w.manage(t, pools(llama("a")))
		look(m)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		look(m)
		w.change(unitOf("a"), ends("signal", cldKilled, 9))
		m.wantState("a", registry.StateBackoff, false)
		look(m)
		want := []string{"starting", "ready http://127.0.0.1:21000", "backoff"}
		if !slices.Equal(seen, want) {
			t.Errorf("seen %q, want %q", seen, want)
		}
	})
}
