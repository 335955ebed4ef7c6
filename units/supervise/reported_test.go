package supervise

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
)

// gated is an end that the readiness gate of a load has a verdict on.
func gated(end func(*systemd.Status), verdict int) func(*systemd.Status) {
	return func(st *systemd.Status) {
		end(st)
		st.WasActive, st.PostCode, st.PostStatus = false, cldExited, verdict
	}
}

// TestLogExplainsAnEnd: the log names why a process ended that no one ended from outside, in a load
// as in a run, with that cause's hint. An end that the gate or PID 1 brought about keeps their
// cause.
func TestLogExplainsAnEnd(t *testing.T) {
	const short, broke = "cudaMalloc failed: out of memory", "CUDA error: an illegal memory access was encountered"
	cases := []struct {
		name string
		line string
		end  func(*systemd.Status)
		code registry.Code
		says string
		hint string
	}{
		{"of_a_load", short, gated(ends("exit-code", cldExited, 1), exit.EngineGone), registry.CodeCUDAOOM,
			short + "; the engine exited with status 1 while it loaded", "lower ctx"},
		{"of_a_run", short, ends("exit-code", cldExited, 1), registry.CodeCUDAOOM, short + "; the engine exited with status 1", "lower ctx"},
		{"that_dumped_core", broke, ends("core-dump", cldDumped, 6), registry.CodeCUDAError, broke + "; the engine dumped core on SIGABRT", ""},
		{"without_the_secrets_of_the_line", "token=abcdefgh " + broke, ends("exit-code", cldExited, 1), registry.CodeCUDAError, "token=[hidden] " + broke, ""},
		{"that_the_watchdog_brought_about", broke, ends("watchdog", cldKilled, 6), registry.CodeEngineCrashed, "the engine missed its watchdog", "poolctl logs a"},
		{"that_a_stalled_load_came_to", broke, gated(ends("exit-code", cldKilled, 15), exit.Stalled), registry.CodeEngineStartTimeout,
			"the load made no progress", "start_timeout"},
		{"that_the_gate_refused_for_the_cpu", broke, gated(ends("exit-code", cldKilled, 15), exit.NoGPU), registry.CodeGPUUnavailable,
			"the engine runs on the CPU", "devices = []"},
	}
	for _, c := range cases {
		scenario(t, c.name, func(t *testing.T, w *world) {
			m, _ := withLog(t, w, c.line)
			w.change(unitOf("a"), c.end)
			time.Sleep(time.Second)
			f := m.pool("a").LastError
			if f.Code != c.code || !strings.HasPrefix(f.Message, c.says) || !strings.Contains(f.Hint, c.hint) {
				t.Errorf("%s: %s (%s)\nwant %s: %s (%s)", f.Code, f.Message, f.Hint, c.code, c.says, c.hint)
			}
		})
	}
	scenario(t, "that_pid_1_gave_up_after", func(t *testing.T, w *world) {
		m, _ := withLog(t, w, short)
		w.change(unitOf("a"), limited)
		w.change(unitOf("a"), limited)
		time.Sleep(time.Second)
		w.change(unitOf("a"), limited)
		m.wantState("a", registry.StateFailed, false)
		if f := m.pool("a").LastError; !strings.Contains(f.Message, "CUDA_OOM: "+short+"; "+gaveUp) ||
			strings.Count(f.Message, gaveUp) != 1 {
			t.Errorf("%v", f)
		}
	})
	scenario(t, "that_pid_1_tells_in_parts", func(t *testing.T, w *world) {
		m, _ := withLog(t, w, short)
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		w.change(unitOf("a"), limited)
		w.change(unitOf("a"), limited)
		time.Sleep(time.Second)
		if f := m.pool("a").LastError; !strings.Contains(f.Message, "exited with status 1") ||
			strings.Count(f.Message, gaveUp) != 1 {
			t.Errorf("%v", f)
		}
	})
}

// TestCrashIsLogged: the line in the log has the end by name, its last words or why there are none,
// the hint, the count and the next start.
func TestCrashIsLogged(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		end   func(*systemd.Status)
		want  []string
	}{
		{"signal", []string{"loading", "error: no such tensor"}, ends("signal", cldKilled, 11),
			[]string{"result=signal", "signal=SIGSEGV", `lines="loading\nerror: no such tensor"`}},
		{"exit_status", []string{"error: x"}, ends("exit-code", cldExited, 7), []string{"result=exit-code", "exit_status=7", `lines="error: x"`}},
		{"silent", nil, ends("core-dump", cldDumped, 6), []string{"result=core-dump", "signal=SIGABRT", `no_lines="it logged nothing"`}},
	} {
		scenario(t, c.name, func(t *testing.T, w *world) {
			m, l := withLog(t, w, c.lines...)
			at := time.Now()
			w.change(unitOf("a"), func(st *systemd.Status) {
				c.end(st)
				st.NRestarts = 4
			})
			time.Sleep(time.Second)
			lines := l.logged("uptime_ms=")
			if len(lines) != 1 {
				t.Fatalf("logged %q, want one warning", lines)
			}
			want := append(c.want, "pool_id=a", "replica_id=r0", "last_error=", "hint=\"Run poolctl logs",
				"restart_count=4 ", "uptime_ms=3000", "engine_version=b1",
				"backoff_ms=60000", fmt.Sprint("next_restart_ms=", at.Add(time.Minute).UnixMilli()), "invocation_id="+
					firstRun)
			for _, attr := range want {
				if !strings.Contains(lines[0], attr) {
					t.Errorf("%s is not in %s", attr, lines[0])
				}
			}
			if e := m.pool("a").LastError.Ending; e.RestartCount != 4 {
				t.Errorf("the ending has %d restarts", e.RestartCount)
			}
		})
	}
	scenario(t, "no_next_start_where_pid_1_gave_up", func(t *testing.T, w *world) {
		_, l := withLog(t, w, "error: x")
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		w.change(unitOf("a"), limited)
		time.Sleep(time.Second)
		lines := l.logged("result=exit-code")
		if len(lines) != 1 || strings.Contains(lines[0], "next_restart_ms") {
			t.Errorf("logged %q, want one line without a next start", lines)
		}
	})
}

// TestTooLittleGPUMemoryIsNoCrash: a run that turns out never to have begun is withdrawn, before
// its log is reported.
func TestTooLittleGPUMemoryIsNoCrash(t *testing.T) {
	scenario(t, "told_in_parts", func(t *testing.T, w *world) {
		m, l := withLog(t, w, "error: x")
		w.change(unitOf("a"), ends("exit-code", 0, 0))
		w.change(unitOf("a"), func(st *systemd.Status) { st.PreCode, st.PreStatus = cldExited, exit.InsufficientVRAM })
		time.Sleep(time.Second)
		m.wantCode("a", registry.CodeInsufficientVRAM)
		noted, _ := m.reg.Events(0)
		for _, e := range noted {
			if e.Kind == registry.KindCrash {
				t.Errorf("noted as a crash: %+v", e)
			}
		}
		if got := l.logged("error: x"); len(got) != 0 {
			t.Errorf("logged as a crash: %q", got)
		}
	})
}

// TestExplained: a GPU error explains the end of the run that it hit, for a minute.
func TestExplained(t *testing.T) {
	at := time.Now()
	end := *registry.Fail(registry.CodeEngineCrashed, "the engine was killed by SIGABRT", "look")
	r := &replica{last: lastEnd{fault: &fault{failure: registry.Fail(registry.CodeDriverError, "Xid 79 https://u:p@h/",
		"reset"), run: "one", at: at}}}
	for _, c := range []struct {
		name string
		run  string
		at   time.Duration
		want registry.Code
	}{
		{"at_once", "one", time.Second, registry.CodeDriverError},
		{"a_minute_later", "one", faultMemory, registry.CodeDriverError},
		{"later_than_that", "one", faultMemory + 1, registry.CodeEngineCrashed},
		{"another_run", "two", time.Second, registry.CodeEngineCrashed},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := r.explained(c.run, end, at.Add(c.at))
			if f.Code != c.want || !strings.HasSuffix(f.Message, end.Message) || strings.Contains(f.Message, "u:p") {
				t.Errorf("%v, want %s", f, c.want)
			}
		})
	}
}
