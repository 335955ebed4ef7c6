package supervise

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// withLog is a manager with one ready pool, a, in a world with a log of that run.
func withLog(t *testing.T, w *world, lines ...string) (*manager, *runLog) {
	l := &runLog{lines: map[string][]string{firstRun: lines}}
	m := w.manage(t, pools(llama("a")), func(o *Options) {
		o.Journal, o.Log = l, slog.New(slog.NewTextHandler(l, nil))
	})
	w.passGate(unitOf("a"))
	m.wantState("a", registry.StateReady, true)
	return m, l
}

const firstRun = "00000000000000000000000000000001"

// ends is a run's end, after three seconds, that PID 1 follows up with a restart.
func ends(result string, code, status int) func(*systemd.Status) {
	return func(st *systemd.Status) {
		st.ActiveState, st.SubState, st.Result, st.MainPID = "activating", "auto-restart", result, 0
		st.ExecMainCode, st.ExecMainStatus, st.MainRan, st.WasActive = code, status, 3*time.Second, true
		st.RestartUSec, st.StateChange = 60_000_000, time.Now()
	}
}

func TestCrashReport(t *testing.T) {
	cases := []struct {
		name    string
		lines   []string
		end     func(*systemd.Status)
		code    registry.Code
		message string
		ending  registry.Ending
	}{
		{"exit_status", []string{"loading", "terminate called: std::bad_alloc"}, ends("exit-code", cldExited, 7), registry.CodeEngineCrashed,
			"the engine exited with status 7; it had run for 3s; last log line: terminate called: std::bad_alloc",
			registry.Ending{Result: "exit-code", ExitStatus: 7, Lines: []string{"loading", "terminate called: std::bad_alloc"}}},
		{"signal_by_name", []string{"serving"}, ends("signal", cldKilled, 11), registry.CodeEngineCrashed,
			"the engine was killed by SIGSEGV; it had run for 3s",
			registry.Ending{Result: "signal", Signal: "SIGSEGV", Lines: []string{"serving"}}},
		{"core_dump", nil, ends("core-dump", cldDumped, 6), registry.CodeEngineCrashed,
			"the engine dumped core on SIGABRT; it had run for 3s",
			registry.Ending{Result: "core-dump", Signal: "SIGABRT", NoLines: "it logged nothing"}},
		{"cuda_out_of_memory", []string{"ggml_cuda: cudaMalloc failed: out of memory"}, ends("exit-code", cldExited, 1), registry.CodeCUDAOOM,
			"ggml_cuda: cudaMalloc failed: out of memory; the engine exited with status 1; it had run for 3s",
			registry.Ending{Result: "exit-code", ExitStatus: 1, Lines: []string{"ggml_cuda: cudaMalloc failed: out of memory"}}},
		{"cuda_error", []string{"CUDA error: an illegal memory access was encountered"}, ends("signal", cldKilled, 6), registry.CodeCUDAError,
			"CUDA error: an illegal memory access was encountered; the engine was killed by SIGABRT; it had run for 3s",
			registry.Ending{Result: "signal", Signal: "SIGABRT", Lines: []string{"CUDA error: an illegal memory access was encountered"}}},
		{"driver_error", []string{"CUDA driver version is insufficient for CUDA runtime version"}, ends("exit-code", cldExited, 1), registry.CodeDriverError,
			"CUDA driver version is insufficient for CUDA runtime version; the engine exited with status 1; it had run for 3s",
			registry.Ending{Result: "exit-code", ExitStatus: 1, Lines: []string{"CUDA driver version is insufficient for CUDA runtime version"}}},
		{"the_kernels_oom_kill_is_no_matter_of_the_log", []string{"CUDA error: out of memory"}, ends("oom-kill", cldKilled, 9), registry.CodeEngineOOM,
			"the kernel killed the engine because the host had no memory left; it had run for 3s; last log line: CUDA error: out of memory",
			registry.Ending{Result: "oom-kill", Signal: "SIGKILL", Lines: []string{"CUDA error: out of memory"}}},
		{"a_callers_words_explain_nothing", []string{"Received request x: prompt: 'CUDA error: out of memory'"}, ends("exit-code", cldExited, 1), registry.CodeEngineCrashed,
			"the engine exited with status 1; it had run for 3s",
			registry.Ending{Result: "exit-code", ExitStatus: 1}},
		{"secrets_are_hidden_and_the_gate_is_not_the_engine", []string{"error: GET https://u:p@h/m?token=abcdef: 403", "pool-gate: the engine is gone"},
			ends("exit-code", cldExited, 1), registry.CodeEngineCrashed,
			"the engine exited with status 1; it had run for 3s; last log line: error: GET https://[hidden]@h/m?token=[hidden] 403",
			registry.Ending{Result: "exit-code", ExitStatus: 1, Lines: []string{"error: GET https://[hidden]@h/m?token=[hidden] 403"}}},
	}
	for _, c := range cases {
		scenario(t, c.name, func(t *testing.T, w *world) {
			m, l := withLog(t, w, c.lines...)
			w.change(unitOf("a"), c.end)
			m.wantState("a", registry.StateBackoff, false) // at once, whatever the log has
			time.Sleep(time.Second)
			m.wantState("a", registry.StateBackoff, false)
			f := m.pool("a").LastError
			if f.Code != c.code || f.Message != c.message || f.Hint == "" {
				t.Errorf("%s: %s (%s)\nwant %s: %s, and a hint", f.Code, f.Message, f.Hint, c.code, c.message)
			}
			c.ending.Uptime, c.ending.EngineVersion = 3*time.Second, "b1"
			if diff := cmp.Diff(&c.ending, f.Ending); diff != "" {
				t.Error(diff)
			}
			noted, _ := m.reg.Events(0)
			noted = slices.DeleteFunc(noted, func(e registry.Event) bool { return e.Kind != registry.KindCrash })
			if len(noted) != 1 || noted[0].PoolID != "a" || noted[0].ReplicaID != "r0" ||
				noted[0].Failure.Error() != f.Error() || noted[0].State != registry.StateBackoff {
				t.Errorf("noted %+v, want one crash with the same words", noted)
			}
			level := "level=WARN"
			if c.code == registry.CodeEngineOOM {
				level = "level=ERROR"
			}
			lines := l.logged(level)
			if len(lines) != 1 || !strings.Contains(lines[0], "uptime_ms=3000") ||
				!strings.Contains(lines[0], "result="+c.ending.Result) ||
				!strings.Contains(lines[0], "backoff_ms=60000") || !strings.Contains(lines[0], "next_restart_ms=") ||
				!strings.Contains(lines[0], "engine_version=b1") {
				t.Errorf("want one warning with all of it, got %q", lines)
			}
		})
	}
}

func TestCrashReportOverTime(t *testing.T) {
	scenario(t, "what_pid_1_tells_late_counts", func(t *testing.T, w *world) {
		m, l := withLog(t, w)
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		w.change(unitOf("a"), func(st *systemd.Status) {
			st.PostCode, st.PostStatus, st.WasActive = cldExited, exit.EngineGone, false
		})
		time.Sleep(time.Second)
		m.wantCode("a", registry.CodeEngineStartFailed)
		if got := l.logged("level=WARN"); len(got) != 1 || !strings.Contains(got[0], "while it loaded") {
			t.Errorf("logged %q", got)
		}
	})
	scenario(t, "the_start_limit_keeps_the_cause_and_its_lines", func(t *testing.T, w *world) {
		m, l := withLog(t, w, "CUDA error: out of memory")
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		time.Sleep(time.Second)
		w.change(unitOf("a"), func(st *systemd.Status) {
			st.ActiveState, st.SubState, st.Result = "failed", "failed", startLimitHit
		})
		m.wantState("a", registry.StateFailed, false)
		f := m.pool("a").LastError
		if f.Code != registry.CodeBreakerOpen || !strings.Contains(f.Message, "CUDA_OOM: "+gaveUp) ||
			len(f.Ending.Lines) != 1 {
			t.Errorf("%v with %v", f, f.Ending)
		}
		if got := l.reads(); len(got) != 1 {
			t.Errorf("the log of one run was read %d times", len(got))
		}
	})
	scenario(t, "an_engine_that_is_ready_again_has_no_last_error", func(t *testing.T, w *world) {
		m, l := withLog(t, w, "error: x")
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		w.again(unitOf("a"))
		w.change(unitOf("a"), func(st *systemd.Status) { st.ActiveState, st.SubState = "active", "running" })
		m.wantState("a", registry.StateReady, true)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateReady, true)
		if f := m.pool("a").LastError; f != nil {
			t.Errorf("last_error is %v", f)
		}
		if got := l.logged("error: x"); len(got) != 1 {
			t.Errorf("the crash is logged %d times, want once", len(got))
		}
	})
	scenario(t, "a_log_that_cannot_be_read_is_said_to_be", func(t *testing.T, w *world) {
		m, l := withLog(t, w)
		l.err = errors.New("no journal")
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		time.Sleep(time.Second)
		m.wantCode("a", registry.CodeEngineCrashed)
		if e := m.pool("a").LastError.Ending; e.NoLines != "could not read its log: no journal" {
			t.Errorf("no_lines %q", e.NoLines)
		}
	})
	scenario(t, "what_was_read_of_a_log_before_time_was_up_is_told", func(t *testing.T, w *world) {
		m, l := withLog(t, w, "error: no such tensor")
		l.err = context.DeadlineExceeded
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		time.Sleep(time.Second)
		m.wantCode("a", registry.CodeEngineCrashed)
		if e := m.pool("a").LastError.Ending; e.NoLines != "" ||
			!slices.Equal(e.Lines, []string{"error: no such tensor"}) {
			t.Errorf("lines %q (%s)", e.Lines, e.NoLines)
		}
	})
	scenario(t, "too_little_memory_is_no_crash", func(t *testing.T, w *world) {
		m, l := withLog(t, w)
		w.change(unitOf("a"), ends("exit-code", 0, 0))
		w.change(unitOf("a"), func(st *systemd.Status) { st.PreCode, st.PreStatus = cldExited, exit.InsufficientRAM })
		time.Sleep(time.Second)
		m.wantCode("a", registry.CodeInsufficientRAM)
		for _, line := range l.logged("level=WARN") {
			if strings.Contains(line, "ENGINE_CRASHED") {
				t.Errorf("it is reported as a crash: %q", line)
			}
		}
	})
	scenario(t, "a_process_that_the_manager_ends_has_its_reason", func(t *testing.T, w *world) {
		m, _ := withLog(t, w)
		f := registry.Fail(registry.CodeHealthFailed, "probes fail for 2m0s", "look")
		m.s.post(func() { m.s.replica(pool.Replica{Pool: "a"}).run.fault = f })
		w.change(unitOf("a"), ends("signal", cldKilled, 9))
		time.Sleep(time.Second)
		m.wantCode("a", registry.CodeHealthFailed)
		if got := m.pool("a").LastError.Message; !strings.HasPrefix(got,
			"probes fail for 2m0s; the engine was killed by SIGKILL") {
			t.Errorf("message %q", got)
		}
	})
}

// TestStopTimeoutOfTheManagersOwnStop: the pool goes where the stop was to bring it, and neither
// the log nor the API reports a crash.
func TestStopTimeoutOfTheManagersOwnStop(t *testing.T) {
	scenario(t, "it_is_told_and_changes_nothing", func(t *testing.T, w *world) {
		m, l := withLog(t, w)
		m.s.post(func() {
			r := m.s.replica(pool.Replica{Pool: "a"})
			r.job.action = reconcile.Stop
			st := r.unit.status
			ends("timeout", cldKilled, 9)(&st)
			st.ActiveState, st.SubState, st.WasActive = "failed", "failed", false
			m.s.observe(r, st)
			if r.last.crash != nil {
				t.Errorf("a stop is kept as the crash %v", r.last.crash)
			}
		})
		time.Sleep(time.Second)
		got := l.logged("level=WARN")
		if len(got) != 1 || !strings.Contains(got[0],
			"ENGINE_STOP_TIMEOUT: the engine did not end within 35s after SIGTERM") {
			t.Errorf("logged %q", got)
		}
	})
}

// TestCrashLoopReadsEachLog: of a replica that ends again before its log is read, both logs are
// read at once: each run has its own class.
func TestCrashLoopReadsEachLog(t *testing.T) {
	scenario(t, "again_within_the_settling_time", func(t *testing.T, w *world) {
		m, l := withLog(t, w)
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		w.again(unitOf("a"))
		w.change(unitOf("a"), ends("exit-code", cldExited, 2))
		time.Sleep(time.Second)
		if got := l.reads(); len(got) != 1 || !strings.HasPrefix(got[0], "_SYSTEMD_INVOCATION_ID="+firstRun+" _") ||
			strings.Count(got[0], invocationField) != 2 || !strings.HasSuffix(got[0], " _SYSTEMD_UNIT="+unitOf("a")) {
			t.Errorf("asked for %q, want both runs in one reading", got)
		}
		if e := m.pool("a").LastError.Ending; e.ExitStatus != 2 || e.NoLines != "it logged nothing" {
			t.Errorf("reported for the newest run: %+v", e)
		}
		if got := l.logged("level=WARN"); len(got) != 2 || !strings.Contains(got[0]+got[1], "exit_status=1") ||
			!strings.Contains(got[0]+got[1], "exit_status=2") {
			t.Errorf("logged %q, want both ends", got)
		}
	})
}

// TestFailedOnTheWayToARestart: a unit that failed and is on its way to a restart opens no breaker;
// below systemd 254 it may turn out to stay failed.
func TestFailedOnTheWayToARestart(t *testing.T) {
	failed := func(sub string) func(*systemd.Status) {
		return func(st *systemd.Status) {
			ends("exit-code", cldExited, 1)(st)
			st.ActiveState, st.SubState, st.EndedFirst = "failed", sub, true
		}
	}
	scenario(t, "passing", func(t *testing.T, w *world) {
		m, _ := withLog(t, w)
		w.change(unitOf("a"), failed("failed-before-auto-restart"))
		m.wantState("a", registry.StateBackoff, false)
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		time.Sleep(time.Second)
		m.wantState("a", registry.StateBackoff, false)
		m.wantCode("a", registry.CodeEngineCrashed)
		if b := m.pool("a").Breaker; b != "closed" || w.called("stop") != 0 {
			t.Errorf("the breaker is %s, %d stops", b, w.called("stop"))
		}
	})
	scenario(t, "staying", func(t *testing.T, w *world) {
		m, _ := withLog(t, w)
		w.change(unitOf("a"), failed("failed-before-auto-restart"))
		w.change(unitOf("a"), failed("failed"))
		time.Sleep(time.Second)
		m.wantState("a", registry.StateFailed, false)
		m.wantCode("a", registry.CodeBreakerOpen)
	})
}

// TestStopByHandIsRespected: an engine that takes too long over a stop, or ends badly of it, is
// stopped and not started again.
func TestStopByHandIsRespected(t *testing.T) {
	for _, c := range []struct {
		name, result string
		code, status int
		want         registry.Code
	}{
		{"in_vain", "timeout", cldKilled, 9, registry.CodeEngineStopTimeout},
		{"with_an_error", "exit-code", cldExited, 1, registry.CodeEngineCrashed},
	} {
		scenario(t, c.name, func(t *testing.T, w *world) {
			m, _ := withLog(t, w)
			w.change(unitOf("a"), func(st *systemd.Status) {
				ends(c.result, c.code, c.status)(st)
				st.ActiveState, st.SubState = "failed", "failed"
			})
			m.wantState("a", registry.StateStopped, false)
			m.wantCode("a", c.want)
			time.Sleep(time.Hour)
			m.wantState("a", registry.StateStopped, false)
			if w.called("start") != 1 {
				t.Error("it was started again")
			}
		})
	}
	scenario(t, "an_end_of_its_own_is_none", func(t *testing.T, w *world) {
		m, _ := withLog(t, w)
		w.change(unitOf("a"), func(st *systemd.Status) {
			ends("exit-code", cldExited, 1)(st)
			st.ActiveState, st.SubState, st.EndedFirst = "failed", "failed", true
		})
		m.wantState("a", registry.StateFailed, false)
	})
}

// TestEndsByItself: an engine that ends without an error, and was not asked to, has failed, once.
// With on_exit = "stop" it is stopped, for a reason of its own. A stop through systemd is one, also
// in the wait before a restart.
func TestEndsByItself(t *testing.T) {
	stopped := func(first bool, code int) func(*systemd.Status) {
		return func(st *systemd.Status) {
			st.ActiveState, st.SubState, st.MainPID, st.Result = "inactive", "dead", 0, "success"
			st.ExecMainCode, st.EndedFirst = code, first
			if code == cldKilled {
				st.ExecMainStatus = 15
			}
		}
	}
	const itself = "the engine ended by itself, and [restart] on_exit is \"stop\""
	for _, c := range []struct {
		name   string
		onExit string
		end    func(*systemd.Status)
		reason string
		code   registry.Code
	}{
		{"status_0", pool.ExitStops, stopped(true, cldExited), itself, registry.CodeEngineExited},
		{"a_stray_signal", pool.ExitStops, stopped(true, cldKilled), itself, registry.CodeEngineExited},
		{"stopped_through_systemd", pool.ExitStops, stopped(false, cldExited), "the engine was stopped", ""},
		{"stopped_while_it_waits", pool.ExitRestarts, stopped(true, cldExited), "the engine was stopped", ""},
	} {
		scenario(t, c.name, func(t *testing.T, w *world) {
			m := w.manage(t, pools(llama("a", func(p *pool.Pool) { p.Restart.OnExit = c.onExit })))
			w.passGate(unitOf("a"))
			m.wantState("a", registry.StateReady, true)
			w.change(unitOf("a"), c.end)
			time.Sleep(time.Second)
			m.wantState("a", registry.StateStopped, false)
			p := m.pool("a")
			if p.Replicas[0].Reason != c.reason || (p.LastError == nil) != (c.code == "") {
				t.Errorf("reason %q, last_error %v; want %q and %q", p.Replicas[0].Reason, p.LastError, c.reason,
					c.code)
			}
			if c.code != "" {
				m.wantCode("a", c.code)
			}
			time.Sleep(time.Hour)
			m.wantState("a", registry.StateStopped, false)
			if w.called("start") != 1 {
				t.Errorf("it was started again: %v", w.calls)
			}
		})
	}
	scenario(t, "it_failed", func(t *testing.T, w *world) {
		m, l := withLog(t, w)
		w.change(unitOf("a"), func(st *systemd.Status) {
			ends("success", cldExited, 0)(st)
			st.EndedFirst = true
		})
		time.Sleep(time.Second)
		m.wantState("a", registry.StateBackoff, false)
		m.wantCode("a", registry.CodeEngineExited)
		queued := func(st *systemd.Status) { st.SubState, st.JobID, st.NRestarts = "auto-restart-queued", 7, 1 }
		w.change(unitOf("a"), queued)
		m.wantCode("a", registry.CodeEngineExited)
		w.again(unitOf("a"))
		w.passGate(unitOf("a"))
		time.Sleep(time.Second)
		if got := m.pool("a").RestartCount; got != 1 || len(l.logged("level=WARN")) != 1 {
			t.Errorf("%d failed runs are counted, logged %q", got, l.logged("level=WARN"))
		}
	})
}
