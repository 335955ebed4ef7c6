package supervise

import (
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// threeFailures opens the breaker of the pool a.
func threeFailures(w *world) {
	for i := range 3 {
		w.crash()
		if i < 2 {
			w.restarted()
		}
	}
}

// TestTakenFromPID1: a unit whose next start the manager makes is one that PID 1 does not start,
// and its restarts count once.
func TestTakenFromPID1(t *testing.T) {
	broken := func(t *testing.T, w *world, n notes) (*manager, *runLog) {
		l := &runLog{}
		m := w.manage(t, pools(llama("a", failing)), withNotes(n), func(o *Options) {
			o.Log = slog.New(slog.NewTextHandler(l, nil))
		})
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		return m, l
	}
	// counted are the values of restart_count in the log, in order.
	counted := func(l *runLog) (out []int) {
		for _, line := range l.logged("restart_count=") {
			_, after, _ := strings.Cut(line, "restart_count=")
			n, _ := strconv.Atoi(strings.Fields(after)[0])
			out = append(out, n)
		}
		return out
	}
	scenario(t, "while_its_stop_goes_on_too", func(t *testing.T, w *world) {
		m, l := broken(t, w, notes{})
		threeFailures(w)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateFailed, false)
		if got := counted(l); !slices.IsSorted(got) || slices.Max(got) != 2 {
			t.Errorf("restart_count was %v, want it to grow to 2", got)
		}
	})
	scenario(t, "where_the_stop_fails_and_pid_1_starts_it", func(t *testing.T, w *world) {
		m, l := broken(t, w, notes{})
		w.with(func() { w.stopErr = errors.New("no") })
		threeFailures(w)
		time.Sleep(5 * time.Second) // the stop is tried again
		if p := m.pool("a"); p.RestartCount != 2 || w.called("stop") < 2 {
			t.Errorf("%d restarts, calls %v", p.RestartCount, w.calls)
		}
		w.restarted()
		w.with(func() { w.stopErr = nil })
		time.Sleep(20 * time.Second)
		if p := m.pool("a"); p.RestartCount != 3 || !p.Ready {
			t.Errorf("%d restarts, ready is %t", p.RestartCount, p.Ready)
		}
		w.crash()
		time.Sleep(time.Second)
		if p := m.pool("a"); p.RestartCount != 3 || p.Breaker != "open" ||
			!strings.Contains(p.LastError.Message, "4 failures in a row") {
			t.Errorf("%d restarts, breaker %s, last_error %v", p.RestartCount, p.Breaker, p.LastError)
		}
		if got := counted(l); slices.Max(got) != 3 {
			t.Errorf("restart_count was %v", got)
		}
	})
	scenario(t, "by_the_next_manager_where_this_one_dies_before", func(t *testing.T, w *world) {
		n := notes{}
		m, _ := broken(t, w, n)
		w.with(func() { w.stopErr = errors.New("no") })
		threeFailures(w)
		m.kill()
		w.with(func() { w.stopErr = nil })
		stops := w.called("stop")
		m = w.manage(t, pools(llama("a", failing)), withNotes(n))
		time.Sleep(time.Second)
		m.wantState("a", registry.StateFailed, false)
		if p := m.pool("a"); w.called("stop") != stops+1 || w.called("start") != 1 || p.RestartCount != 2 ||
			p.Breaker != "open" {
			t.Errorf("%d restarts, breaker %s, calls %v; want PID 1 kept from starting it", p.RestartCount, p.Breaker,
				w.calls)
		}
	})
}

// TestNextStartIsLogged: the line about the next start has its wait, its moment and the count,
// whether PID 1 makes that start or the manager puts it off.
func TestNextStartIsLogged(t *testing.T) {
	line := func(t *testing.T, l interface{ logged(string) []string }, text string, want ...string) {
		t.Helper()
		lines := l.logged(text)
		if len(lines) != 1 {
			t.Fatalf("logged %q, want one line", lines)
		}
		_, own, _ := strings.Cut(lines[0], "last_error=") // before it is what every line of a replica has
		for _, attr := range want {
			if !strings.Contains(own, " "+attr) {
				t.Errorf("%s is not in %s", attr, own)
			}
		}
	}
	scenario(t, "as_pid_1_makes_it", func(t *testing.T, w *world) {
		m, l := withLog(t, w, "error: x")
		w.change(unitOf("a"), func(st *systemd.Status) {
			ends("exit-code", cldExited, 1)(st)
			st.RestartUSec, st.RestartUSecNext = 1_000_000, 4_000_000
		})
		at := time.Now()
		time.Sleep(time.Second)
		line(t, l, "the next start is due in 1s", "backoff_ms=1000", "restart_count=0", "next_restart_ms=",
			"class=crash", "breaker=closed")
		if p := m.pool("a"); p.Backoff != 4*time.Second || !p.NextStart.Equal(at.Add(4*time.Second)) {
			t.Errorf("the API has a backoff of %s until %s, want PID 1's own 4 s", p.Backoff, p.NextStart)
		}
	})
	scenario(t, "put_off_by_what_the_log_tells", func(t *testing.T, w *world) {
		l := &runLog{lines: map[string][]string{firstRun: {"CUDA error: an illegal memory access was encountered"}}}
		m := w.manage(t, pools(llama("a", func(p *pool.Pool) { p.Restart.ClassFactor = 4 })), func(o *Options) {
			o.Journal, o.Log = l, slog.New(slog.NewTextHandler(l, nil))
		})
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		at := time.Now()
		w.change(unitOf("a"), func(st *systemd.Status) {
			ends("exit-code", cldExited, 1)(st)
			st.RestartUSec = 1_000_000
		})
		time.Sleep(time.Second)
		line(t, l, "the next start is delayed", "backoff_ms=3700", "restart_count=0",
			"next_restart_ms="+strconv.FormatInt(at.Add(4*time.Second).UnixMilli(), 10), "class=cuda")
	})
}
