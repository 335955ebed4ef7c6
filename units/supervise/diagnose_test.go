package supervise

import (
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func TestDiagnose(t *testing.T) {
	ended := func(result string, code, status int) systemd.Status {
		return systemd.Status{Name: "pool-engine@a.r0.service", Result: result, ExecMainCode: code,
			ExecMainStatus: status}
	}
	gated := func(st systemd.Status, verdict int) systemd.Status {
		st.PostCode, st.PostStatus = cldExited, verdict
		return st
	}
	waiting := func(st systemd.Status) systemd.Status {
		st.LoadState, st.ActiveState, st.SubState, st.WasActive = "loaded", "activating", "auto-restart", true
		return st
	}
	short := func(verdict int) systemd.Status {
		st := ended("exit-code", 0, 0)
		st.PreCode, st.PreStatus = cldExited, verdict
		return st
	}
	cases := []struct {
		name string
		st   systemd.Status
		code registry.Code
		says string
	}{
		{"exit_status", ended("exit-code", cldExited, 7), registry.CodeEngineCrashed, "exited with status 7"},
		{"signal_by_name", ended("signal", cldKilled, 9), registry.CodeEngineCrashed, "killed by SIGKILL"},
		{"core_dump", ended("core-dump", cldDumped, 11), registry.CodeEngineCrashed, "dumped core on SIGSEGV"},
		{"oom_kill_whatever_the_status_says", ended("oom-kill", cldKilled, 15), registry.CodeEngineOOM, "memory_max is 1024 bytes"},
		{"not_executable", ended("exit-code", cldExited, 203), registry.CodeEngineStartFailed, "203/EXEC"},
		{"sandbox", ended("exit-code", cldExited, 226), registry.CodeEngineStartFailed, "226/NAMESPACE"},
		{"died_while_loading", gated(ended("exit-code", cldExited, 1), exit.EngineGone), registry.CodeEngineStartFailed, "status 1 while it loaded"},
		{"stalled", gated(ended("exit-code", cldKilled, 15), exit.Stalled), registry.CodeEngineStartTimeout, "no progress for 3s"},
		{"stalled_at_another_path", gated(ended("exit-code", cldKilled, 15), exit.With(exit.Stalled, exit.NotFound)), registry.CodeEngineStartTimeout,
			"no progress for 3s: no log line, no CPU time and no input; status 404 at /health"},
		{"late", gated(ended("exit-code", cldKilled, 15), exit.Late), registry.CodeEngineStartTimeout, "not ready within 1m0s ([health] start_deadline)"},
		{"late_with_a_key", gated(ended("exit-code", cldKilled, 15), exit.With(exit.Late, exit.Unauthorized)), registry.CodeEngineStartTimeout, "; status 401 or 403 at /health"},
		{"foreign_listener", gated(ended("exit-code", 0, 0), exit.ForeignPort), registry.CodePortInUse, "another process uses the engine's port"},
		{"no_memory_of_its_gpu", gated(ended("exit-code", cldKilled, 15), exit.HoldsNoGPU), registry.CodeGPUUnavailable, "NVML lists no process of it"},
		{"a_part_on_the_cpu", gated(ended("exit-code", cldKilled, 15), exit.PartOnCPU), registry.CodeGPUUnavailable, "[policy] vram_only"},
		{"silent_cpu_fallback", gated(ended("exit-code", cldKilled, 15), exit.NoGPU), registry.CodeGPUUnavailable, "runs on the CPU"},
		{"too_little_gpu_memory", short(exit.InsufficientVRAM), registry.CodeInsufficientVRAM, "GPU had too little"},
		{"too_little_main_memory", short(exit.InsufficientRAM), registry.CodeInsufficientRAM, "host had too little"},
		{"the_step_before_cannot_be_executed", short(203), registry.CodeEngineStartFailed, "(pool-gate memory) exited with status 203"},
		{"the_step_before_went_well", func() systemd.Status {
			st := ended("exit-code", cldExited, 7)
			st.PreCode = cldExited
			return st
		}(), registry.CodeEngineCrashed, "exited with status 7"},
		{"start_limit", ended("start-limit-hit", cldKilled, 9), registry.CodeEngineCrashed, "gave up after too many failures in a short time, the last one: the engine was killed by SIGKILL"},
		{"start_limit_of_loads", gated(ended("start-limit-hit", cldExited, 1), exit.EngineGone), registry.CodeEngineStartFailed, "gave up"},
		{"start_limit_of_ends_without_an_error", func() systemd.Status {
			st := ended("start-limit-hit", cldExited, 0)
			st.WasActive = true
			return st
		}(), registry.CodeEngineExited, "the last one: the engine exited with status 0 without a request to stop"},
		{"status_0", waiting(ended("success", cldExited, 0)), registry.CodeEngineExited, "exited with status 0 without a request"},
		{"a_stray_signal", waiting(ended("success", cldKilled, 15)), registry.CodeEngineExited, "ended by SIGTERM of another program"},
		{"a_gate_that_was_killed", func() systemd.Status {
			st := waiting(ended("exit-code", cldKilled, 15))
			st.WasActive = false
			return st
		}(), registry.CodeEngineCrashed, "killed by SIGTERM"},
		{"status_0_while_loading", gated(ended("exit-code", cldExited, 0), exit.EngineGone), registry.CodeEngineStartFailed, "exited with status 0 while it loaded"},
		{"a_server_in_the_background", gated(ended("exit-code", cldExited, 0), exit.Background), registry.CodeEngineStartFailed, "while it loaded and left a process in the background"},
		{"a_worker_that_is_left", gated(ended("exit-code", cldExited, 1), exit.Background), registry.CodeEngineStartFailed, "exited with status 1 while it loaded"},
		{"start_timeout", ended("timeout", cldKilled, 9), registry.CodeEngineStartTimeout, "did not finish loading"},
		{"stop_timeout", func() systemd.Status {
			st := ended("timeout", cldKilled, 9)
			st.WasActive = true
			return st
		}(), registry.CodeEngineStopTimeout, "did not end within 35s after SIGTERM"},
		{"watchdog", ended("watchdog", cldKilled, 6), registry.CodeEngineCrashed, "missed its watchdog"},
		{"a_result_that_is_not_known", ended("protocol", 0, 0), registry.CodeEngineCrashed, "ended (protocol)"},
		{"no_directory", ended("resources", 0, 0), registry.CodeEngineStartFailed, "set up the unit"},
	}
	f := Diagnose(ended("resources", 0, 0), pool.Pool{EnvFiles: []string{"/env"}})
	if !strings.Contains(f.Hint, "env_file") {
		t.Errorf("with files of variables: %+v", f)
	}
	p := pool.Pool{ID: "a", Engine: "llamacpp",
		Health: pool.Health{StartTimeout: 3 * time.Second, StartDeadline: time.Minute},
		Limits: pool.Limits{MemoryMaxBytes: 1024}}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := Diagnose(c.st, p)
			if f == nil || f.Code != c.code || !strings.Contains(f.Message, c.says) || f.Hint == "" {
				t.Errorf("Diagnose = %+v, want %s with %q and a hint", f, c.code, c.says)
			}
		})
	}
	host := p
	host.Limits.MemoryMaxBytes = 0
	if f := Diagnose(ended("oom-kill", cldKilled, 9), host); f.Code != registry.CodeEngineOOM ||
		!strings.Contains(f.Message, "the host had no memory left") {
		t.Errorf("an OOM kill without a limit of the pool is reported as %v", f)
	}
	for _, result := range []string{"", "success"} {
		if f := Diagnose(ended(result, cldExited, 0), p); f != nil {
			t.Errorf("result %q is diagnosed as %v", result, f)
		}
	}
}
