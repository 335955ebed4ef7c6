package supervise

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// schedules keeps the reasons of restarts that were scheduled.
type schedules struct {
	counts
	of []string
}

func (c *schedules) RestartScheduled(_ registry.Pool, reason string, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of = append(c.of, reason)
}

func (c *schedules) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.of)
}

const cudaLine = "CUDA error: an illegal memory access was encountered"

// TestClassIsReported: what a run's log shows of its class is the reason of the scheduled restart
// and in the breaker's line.
func TestClassIsReported(t *testing.T) {
	scenario(t, "cuda", func(t *testing.T, w *world) {
		c, l := &schedules{}, &runLog{}
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}), func(o *Options) {
			o.Journal, o.Observer, o.Log = &promptLog{line: cudaLine}, c, slog.New(slog.NewTextHandler(l, nil))
		})
		w.passGate(unitOf("a"))
		for i := range 3 {
			w.crash()
			time.Sleep(time.Second)
			switch i {
			case 0: // PID 1's own first delay is too short
				time.Sleep(5 * time.Second)
				w.passGate(unitOf("a"))
			case 1: // the delay of the unit that the manager started is not
				w.restarted()
			}
		}
		m.wantState("a", registry.StateFailed, false)
		if got := c.all(); !slices.Equal(got, []string{"cuda", "cuda"}) {
			t.Errorf("scheduled for %q, want twice cuda: the third opens the breaker", got)
		}
		lines := l.logged("the breaker changed from closed to open")
		if len(lines) != 1 {
			t.Fatalf("logged %q", lines)
		}
		for _, want := range []string{"old_state=closed", "new_state=open", "failures=3", "class=cuda", "level=WARN"} {
			if !strings.Contains(lines[0], want) {
				t.Errorf("%s is not in %s", want, lines[0])
			}
		}
		if f := m.pool("a").LastError; !strings.Contains(f.Message, "3 failures in a row, 3 by cuda") {
			t.Errorf("last_error %v", f)
		}
	})
}

// TestStormIsAnError: it is logged at error priority, with the window and the count.
func TestStormIsAnError(t *testing.T) {
	scenario(t, "of_oom_kills", func(t *testing.T, w *world) {
		l := &runLog{}
		w.manage(t, pools(llama("a", func(p *pool.Pool) {
			p.Restart.StormRestarts, p.Restart.StormWindow, p.Restart.BreakerFailures = 2, time.Minute, 100
		})), withNotes(notes{}), func(o *Options) { o.Log = slog.New(slog.NewTextHandler(l, nil)) })
		w.passGate(unitOf("a"))
		for i := range 3 {
			w.change(unitOf("a"), ends("oom-kill", cldKilled, 9))
			time.Sleep(time.Second)
			if i < 2 {
				w.restarted()
			}
		}
		lines := l.logged("3 failures within 1m0s, mostly by oom")
		if len(lines) != 1 || !strings.Contains(lines[0], "level=ERROR") ||
			!strings.Contains(lines[0], "window_ms=60000") || !strings.Contains(lines[0], " count=3") {
			t.Errorf("logged %q", lines)
		}
		kills := l.logged("had no memory left")
		kills = slices.DeleteFunc(kills, func(line string) bool { return !strings.Contains(line, "result=oom-kill") })
		if len(kills) != 3 || !strings.Contains(kills[2], "level=ERROR") || !strings.Contains(kills[2], " count=3") ||
			!strings.Contains(kills[2], "window_ms=") {
			t.Errorf("logged %q", kills)
		}
	})
}

// TestNextRunBeginsInTheStateOfTheFormer: PID 1 gives a unit its next InvocationID before it leaves
// the state in which the former run waited. That is no second failure.
func TestNextRunBeginsInTheStateOfTheFormer(t *testing.T) {
	scenario(t, "queued", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}))
		w.passGate(unitOf("a"))
		for range 2 {
			w.crash()
			w.change(unitOf("a"), func(st *systemd.Status) {
				st.NRestarts++
				st.SubState, st.JobID = "auto-restart-queued", 7
			})
			w.change(unitOf("a"), func(st *systemd.Status) {
				w.runs++
				st.InvocationID, st.Result = strings.Repeat("0", 31)+string(rune('a'+w.runs)), "success"
			})
			w.change(unitOf("a"), func(st *systemd.Status) {
				st.ActiveState, st.SubState, st.JobID = "active", "running", 0
			})
			time.Sleep(time.Second)
			m.wantState("a", registry.StateReady, true)
		}
		if p := m.pool("a"); p.Breaker != "closed" || p.RestartCount != 2 || p.RestartsSinceStable != 2 {
			t.Errorf("breaker %s, %d restarts, %d since it was stable", p.Breaker, p.RestartCount,
				p.RestartsSinceStable)
		}
	})
}

// TestRestartCountIsATotal: it does not go back, over a stable run, a reset, and a stop and resume;
// restarts_since_stable does.
func TestRestartCountIsATotal(t *testing.T) {
	scenario(t, "total", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a")), withNotes(notes{}))
		w.passGate(unitOf("a"))
		want := func(when string, total, since int) {
			t.Helper()
			if p := m.pool("a"); p.RestartCount != total || p.RestartsSinceStable != since {
				t.Errorf("%s: %d restarts, %d since it was stable; want %d and %d", when, p.RestartCount,
					p.RestartsSinceStable, total, since)
			}
		}
		again := func() {
			w.crash()
			w.restarted()
			time.Sleep(time.Second)
		}
		again()
		want("after a crash", 1, 1)
		time.Sleep(11 * time.Minute)
		want("after a stable run", 1, 0)
		again()
		want("after another crash", 2, 1)
		m.drain(time.Minute)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStopped, false)
		want("stopped", 2, 1)
		m.resume()
		time.Sleep(time.Second)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		want("resumed", 2, 1)
		if err := m.s.Reset(t.Context(), "a", "uid:0"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		want("reset", 2, 0)
		w.crash()
		time.Sleep(time.Second) // the unit was started after failures, and PID 1 would wait for two
		w.passGate(unitOf("a"))
		want("after the last crash", 3, 1)
	})
}

// TestPolicyIsMadeOnce: it is computed again only where the file's table changed.
func TestPolicyIsMadeOnce(t *testing.T) {
	r := &replica{}
	r.wish.known, r.wish.pool = true, llama("a", failing)
	if got := r.policy(); got.BreakerFailures != 3 {
		t.Fatalf("%+v", got)
	}
	r.past.policy.policy.BreakerFailures = 99
	if got := r.policy(); got.BreakerFailures != 99 {
		t.Errorf("made again for the same file: %+v", got)
	}
	r.wish.pool.Restart.BreakerFailures = 7
	if got := r.policy(); got.BreakerFailures != 7 {
		t.Errorf("not made again for another file: %+v", got)
	}
}
