package supervise

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// slowLog is a journal that takes its time, and then has one line.
type slowLog struct {
	runLog
	line string
}

func (l *slowLog) Read(ctx context.Context, q systemd.JournalQuery, _ int) ([]systemd.JournalEntry, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(4 * time.Second):
	}
	return lineOf(q, l.line), nil
}

// promptLog is a journal that has one line at once.
type promptLog struct {
	runLog
	line string
}

func (l *promptLog) Read(_ context.Context, q systemd.JournalQuery, _ int) ([]systemd.JournalEntry, error) {
	return lineOf(q, l.line), nil
}

// limited is a unit at PID 1's start limit.
func limited(st *systemd.Status) {
	st.NRestarts++ // of the restart that was refused
	st.ActiveState, st.SubState, st.Result, st.MainPID = "failed", "failed", "start-limit-hit", 0
	st.ExecMainCode, st.ExecMainStatus = cldKilled, 11
}

// lineOf is one line of the one run that is asked for.
func lineOf(q systemd.JournalQuery, line string) []systemd.JournalEntry {
	field, run, _ := strings.Cut(q.Matches[0], "=")
	return []systemd.JournalEntry{{Fields: map[string]string{"MESSAGE": line, field: run}}}
}

func TestTrialIsOne(t *testing.T) {
	scenario(t, "however_long_its_log_takes_to_read", func(t *testing.T, w *world) {
		n := notes{}
		m := w.manage(t, pools(llama("a", failing)), withNotes(n), func(o *Options) {
			o.Journal = &slowLog{line: "CUDA error: out of memory"}
		})
		w.passGate(unitOf("a"))
		for i := range 3 {
			w.crash()
			time.Sleep(5 * time.Second)
			if i < 2 {
				w.restarted()
			}
		}
		m.wantState("a", registry.StateFailed, false)
		time.Sleep(70 * time.Second)
		m.wantState("a", registry.StateStarting, false)
		stops := w.called("stop")
		w.crash()
		if w.called("stop") != stops+1 {
			t.Fatalf("PID 1 would start it again while its log is read: %v", w.calls)
		}
		if p := m.pool("a"); p.Breaker != "open" {
			t.Errorf("the breaker is %s", p.Breaker)
		}
		m.kill()
		m = w.manage(t, pools(llama("a", failing)), withNotes(n), func(o *Options) {
			o.Journal = &slowLog{line: "CUDA error: out of memory"}
		})
		time.Sleep(100 * time.Second)
		m.wantState("a", registry.StateFailed, false)
	})
	scenario(t, "how_it_failed_may_be_told_late", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}))
		w.passGate(unitOf("a"))
		for i := range 3 {
			w.crash()
			if i < 2 {
				w.restarted()
			}
		}
		time.Sleep(70 * time.Second)
		m.wantState("a", registry.StateStarting, false)
		w.change(unitOf("a"), crashed)
		w.change(unitOf("a"), func(st *systemd.Status) { st.PostCode, st.PostStatus = cldExited, exit.EngineGone })
		time.Sleep(time.Second)
		if f := m.pool("a").LastError; f.Code != registry.CodeBreakerOpen ||
			!strings.Contains(f.Message, "ENGINE_START_FAILED") || !strings.Contains(f.Message, "while it loaded") {
			t.Errorf("last_error %v", f)
		}
	})
	scenario(t, "its_log_tells_the_remedy", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}), func(o *Options) {
			o.Journal = &slowLog{line: "CUDA error: out of memory"}
		})
		w.passGate(unitOf("a"))
		for range 2 {
			w.crash()
			time.Sleep(5 * time.Second)
			w.restarted()
		}
		w.crash()
		time.Sleep(5 * time.Second)
		hint := m.pool("a").LastError.Hint
		time.Sleep(70 * time.Second)
		w.crash()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if f := m.pool("a").LastError; f.Code != registry.CodeBreakerOpen || f.Hint != hint {
			t.Errorf("last_error %v, hint %q; before the trial it was %q", f, f.Hint, hint)
		}
	})
}

// TestHoldThatIsOver: a manager that comes late finds a unit that PID 1 has started again. What
// held that start back must not shorten the next.
func TestHoldThatIsOver(t *testing.T) {
	scenario(t, "the_next_crash_waits_its_time", func(t *testing.T, w *world) {
		n := notes{}
		m := w.manage(t, pools(llama("a")), withNotes(n))
		w.passGate(unitOf("a"))
		w.crash()
		m.kill()
		w.restarted()
		m = w.manage(t, pools(llama("a")), withNotes(n))
		m.wantState("a", registry.StateReady, true)
		time.Sleep(time.Minute)
		w.crash()
		m.wantState("a", registry.StateBackoff, false)
		if w.called("start") != 1 {
			t.Errorf("it was started without a wait: %v", w.calls)
		}
	})
}

// TestPID1IsFasterThanTheLog: the failure counts, and what it says of the next start comes too late
// to hold back the one after.
func TestPID1IsFasterThanTheLog(t *testing.T) {
	scenario(t, "the_run_after_waits_its_time", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}), func(o *Options) {
			o.Journal = &slowLog{line: "CUDA error: an illegal memory access was encountered"}
		})
		w.passGate(unitOf("a"))
		w.crash()
		w.restarted()
		time.Sleep(5 * time.Second)
		m.wantState("a", registry.StateReady, true)
		time.Sleep(time.Minute)
		w.crash()
		m.wantState("a", registry.StateBackoff, false)
		if w.called("stop") != 0 || w.called("start") != 1 {
			t.Errorf("calls: %v", w.calls)
		}
	})
}

func TestRestartsAreCountedOverUnits(t *testing.T) {
	scenario(t, "a_unit_at_its_start_limit_is_made_anew", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}))
		w.passGate(unitOf("a"))
		w.crash()
		w.restarted()
		w.change(unitOf("a"), limited)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateFailed, false)
		time.Sleep(70 * time.Second)
		m.wantState("a", registry.StateStarting, false)
		if n := m.pool("a").RestartCount; n != 2 {
			t.Errorf("%d restarts, want PID 1's and the manager's", n)
		}
	})
}

// TestShortBackoff: what PID 1 would do before the log of a run is read is decided without it.
func TestShortBackoff(t *testing.T) {
	// fall ends the engine; PID 1 waits so long.
	fall := func(w *world, wait time.Duration) {
		w.change(unitOf("a"), func(st *systemd.Status) {
			crashed(st)
			st.RestartUSec, st.StateChange = uint64(wait.Microseconds()), time.Now()
		})
		synctest.Wait()
	}
	scenario(t, "a_storm_is_held_back", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", func(p *pool.Pool) {
			p.Restart.StormRestarts, p.Restart.StormWindow, p.Restart.Initial, p.Restart.Max = 2, 5*time.Minute,
				200*time.Millisecond, 200*time.Millisecond
		})), withNotes(notes{}), func(o *Options) { o.Journal = &slowLog{line: "error: out of luck"} })
		w.passGate(unitOf("a"))
		for i := range 3 {
			fall(w, 200*time.Millisecond)
			if i < 2 {
				w.restarted()
			}
		}
		m.wantState("a", registry.StateBackoff, false)
		starts := w.called("start")
		time.Sleep(4 * time.Minute)
		if w.called("start") != starts {
			t.Errorf("started within the storm: %v", w.calls)
		}
		time.Sleep(2 * time.Minute)
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "a_slow_class_that_the_log_tells_in_time_waits_longer", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", func(p *pool.Pool) {
			p.Restart.Initial, p.Restart.Factor, p.Restart.Max, p.Restart.ClassFactor = time.Second, 1, time.Second, 4
		})), withNotes(notes{}), func(o *Options) {
			o.Journal = &promptLog{line: "CUDA error: an illegal memory access was encountered"}
		})
		w.passGate(unitOf("a"))
		fall(w, time.Second)
		stops, starts := w.called("stop"), w.called("start")
		time.Sleep(600 * time.Millisecond)
		if w.called("stop") != stops+1 {
			t.Fatalf("PID 1 starts it after a second: %v", w.calls)
		}
		m.wantState("a", registry.StateBackoff, false)
		time.Sleep(3 * time.Second)
		if w.called("start") != starts {
			t.Errorf("started before its time: %v", w.calls)
		}
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStarting, false)
	})
}
