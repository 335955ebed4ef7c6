//go:build machine

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// rare makes restarts rare enough to look at what a crash has left.
func (p poolFile) rare() poolFile {
	return p.table("health", `interval = "500ms"`, `timeout = "500ms"`, `start_timeout = "2s"`).
		table("restart", `initial = "60s"`, `max = "60s"`, `jitter = 0.0`)
}

// reported is a failure with a complete report: the log of the run was read, or could not be read.
var reported = condition{"with details that are complete", func(p host.Pool) bool {
	return p.Details != nil && (len(p.Details.Lines) > 0 || p.Details.NoLines != "")
}}

// ending is a way for an engine to end, and how it is to be reported.
type ending struct {
	name   string
	pool   poolFile
	end    []string // requests to the engine, once it is ready; none: it ends while it loads
	code   string
	says   string // in last_error
	result string // PID 1's word
	signal string
	status int    // where there is no signal
	line   string // among its last lines, "" for any
}

// endings are those that need no controller.
func endings() []ending {
	say := func(line string) string { return "/stub/say?line=" + strings.ReplaceAll(line, " ", "%20") }
	return []ending{
		{name: "exit-status", pool: stub().rare(), end: []string{say("error: the last words token=hunter2"), "/stub/exit?code=7"},
			code: "ENGINE_CRASHED", says: "exited with status 7", result: "exit-code", status: 7, line: "error: the last words token=[hidden]"},
		{name: "signal", pool: stub().rare(), end: []string{"/stub/crash?signal=KILL"},
			code: "ENGINE_CRASHED", says: "killed by SIGKILL", result: "signal", signal: "SIGKILL"},
		{name: "cuda-oom", pool: stub().rare(), end: []string{say("ggml: cudaMalloc failed: out of memory"), "/stub/exit?code=1"},
			code: "CUDA_OOM", says: "cudaMalloc failed: out of memory; the engine exited with status 1", result: "exit-code", status: 1, line: "cudaMalloc failed"},
		{name: "cuda-error", pool: stub().rare(), end: []string{say("CUDA error: an illegal memory access was encountered"), "/stub/crash?signal=KILL"},
			code: "CUDA_ERROR", says: "illegal memory access was encountered; the engine was killed by SIGKILL", result: "signal", signal: "SIGKILL"},
		{name: "status-0", pool: stub().rare(), end: []string{say("EngineDeadError: the core has died"), "/stub/exit?code=0"},
			code: "ENGINE_EXITED", says: "exited with status 0 without a request to stop", result: "success", line: "EngineDeadError"},
		{name: "driver-error", pool: stub().rare(), end: []string{say("CUDA driver version is insufficient for CUDA runtime version"), "/stub/exit?code=1"},
			code: "DRIVER_ERROR", says: "driver version is insufficient", result: "exit-code", status: 1},
		{name: "load-failure", pool: stub("--load", "1h", "--crash-after", "300ms", "--exit-code", "3").rare(),
			code: "ENGINE_START_FAILED", says: "exited with status 3 while it loaded", result: "exit-code", status: 3, line: "ending with status 3 as asked"},
		{name: "gate-timeout", pool: stub("--load", "1h", "--load-mode", "stall").rare(),
			code: "ENGINE_START_TIMEOUT", says: "no progress for 2s", result: "exit-code"},
	}
}

// TestCrashIsTold: under every systemd, each way in which an engine ends is classified, in
// last_error, in its details and in the log.
func TestCrashIsTold(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) { crashIsReported(t, release) })
	}
}

// crashIsReported is TestCrashIsTold under one systemd.
func crashIsReported(t *testing.T, release machine.Release) {
	t.Parallel()
	h := installed(t, release)
	all := endings()
	for _, c := range all {
		h.pool(c.name, c.pool)
	}
	h.write("/run/systemd/system/"+host.EngineUnit("watched")+".d/50-watchdog.conf", "[Service]\nWatchdogSec=2s\n")
	h.must("systemctl", "daemon-reload")
	// Other tests use the machine; with drop-ins, a missing library does not stop a start.
	defer h.shell("rm -r /run/systemd/system/" + host.EngineUnit("watched") + ".d; systemctl daemon-reload")
	h.pool("itself", stub().table("restart", `on_exit = "stop"`))
	h.pool("byhand", stub().rare())
	h.pool("deaf", command("--ignore-term").rare())
	h.reload()
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			if len(c.end) > 0 {
				h.wait(c.name, isReady)
			}
			for _, request := range c.end {
				h.control(c.name, request)
			}
			h.isReported(c)
		})
	}
	t.Run("poolctl_shows_the_last_words", func(t *testing.T) {
		if out := h.in(t).must("poolctl", "status", "exit-status"); !strings.Contains(out,
			"error: the last words token=[hidden]") {
			t.Errorf("poolctl status:\n%s", out)
		}
	})
	t.Run("watchdog", func(t *testing.T) {
		h := h.in(t)
		// Without a trace: the runtime was once seen to die of SIGSEGV while it wrote one.
		h.pool("watched", stub().with(`env = { GOTRACEBACK = "none" }`).rare())
		h.reload()
		h.isReported(ending{name: "watched", code: "ENGINE_CRASHED", says: "missed its watchdog", result: "watchdog",
			status: 2})
	})
	t.Run("an_end_with_status_0_is_a_stop_where_its_file_says_so", func(t *testing.T) {
		h := h.in(t)
		h.wait("itself", isReady)
		h.control("itself", "/stub/exit?code=0")
		h.stoppedBecause("itself", "ended by itself")
	})
	t.Run("a_stop_by_hand_is_one", func(t *testing.T) {
		h := h.in(t)
		h.wait("byhand", isReady)
		h.must("systemctl", "stop", host.EngineUnit("byhand"))
		h.stoppedBecause("byhand", "the engine was stopped")
	})
	t.Run("a_stop_that_it_ignores_is_no_start_timeout", func(t *testing.T) {
		h := h.in(t)
		h.wait("deaf", isReady)
		h.must("systemctl", "stop", host.EngineUnit("deaf"))
		h.isReported(ending{name: "deaf", code: "ENGINE_STOP_TIMEOUT", says: "did not end within 30s after SIGTERM",
			result: "timeout", signal: "SIGKILL"})
		h.stoppedBecause("deaf", "the engine was stopped")
	})
}

// TestCrashNeedsAKernel: what only a kernel of its own does to an engine.
func TestCrashNeedsAKernel(t *testing.T) {
	t.Parallel()
	h := lend(t, kind{release: machine.Trixie, backend: machine.VM})
	h.M.Require(t, machine.Controllers("memory"))
	// A core dump goes to a program regardless of the limit of the process: that is how
	// systemd-coredump gets them.
	former := h.must("cat", "/proc/sys/kernel/core_pattern")
	h.shell(`echo '|/bin/true' >/proc/sys/kernel/core_pattern`)
	defer h.shell(`echo '` + former + `' >/proc/sys/kernel/core_pattern`)
	h.pool("swollen", stub().rare().table("limits", `memory_max = "64M"`))
	h.pool("dumps", stub().with(`env = { GOTRACEBACK = "crash" }`).rare())
	h.reload()
	for _, c := range []ending{
		{name: "swollen", end: []string{"/stub/alloc?bytes=268435456"},
			code: "ENGINE_OOM", says: "its cgroup ran out of memory (memory_max is 67108864 bytes)", result: "oom-kill", signal: "SIGKILL"},
		{name: "dumps", end: []string{"/stub/crash?signal=SEGV"},
			code: "ENGINE_CRASHED", says: "dumped core on SIGABRT", result: "core-dump", signal: "SIGABRT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			h.wait(c.name, isReady)
			for _, request := range c.end {
				h.control(c.name, request)
			}
			h.isReported(c)
		})
	}
}

// stoppedBecause waits until a pool is stopped, for that reason, and with an error only where it
// ignored the stop or was not asked for it.
func (s *site) stoppedBecause(id, reason string) {
	s.t.Helper()
	p := s.wait(id, inState("stopped"))
	if failed := p.LastError != ""; failed != (id != "byhand") || !strings.Contains(p.Replicas[0].Reason, reason) {
		s.t.Errorf("want the reason %q, and an error but of a stop by hand: %s", reason, p)
	}
}

// isReported checks what the API and the log have of an end.
func (s *site) isReported(c ending) {
	s.t.Helper()
	p := s.wait(c.name, failsWith(c.code), reported)
	if !strings.Contains(p.LastError, c.says) {
		s.t.Errorf("last_error lacks %q: %s", c.says, p)
	}
	d := p.Details
	if d.Result != c.result || d.Signal != c.signal || d.EngineVersion == "" && c.name != "deaf" {
		s.t.Errorf("details %+v, want %s, signal %q and a version", d, c.result, c.signal)
	}
	if c.result == "exit-code" && c.code != "ENGINE_START_TIMEOUT" &&
		(d.ExitStatus == nil || *d.ExitStatus != c.status) {
		s.t.Errorf("exit_status %v, want %d", d.ExitStatus, c.status)
	}
	if d.UptimeMS <= 0 || !strings.Contains(p.LastError, "it had run for") {
		s.t.Errorf("uptime_ms %d: %s", d.UptimeMS, p)
	}
	if len(d.Lines) == 0 || !slices.ContainsFunc(d.Lines, func(l string) bool { return strings.Contains(l, c.line) }) {
		s.t.Errorf("lines %q (%s), want one with %q", d.Lines, d.NoLines, c.line)
	}
	if slices.ContainsFunc(d.Lines, func(l string) bool { return strings.Contains(l, "pool-gate") }) {
		s.t.Errorf("the gate's lines are reported as the engine's: %q", d.Lines)
	}
	s.eventually(func(ctx context.Context) error { return s.logHas(ctx, c) })
}

// logHas looks for the manager's line of an end.
func (s *site) logHas(ctx context.Context, c ending) error {
	out, err := s.Host.Run(ctx, "journalctl", "--no-pager", "-o", "json", "-u", host.ManagerUnit, "POOL_ID="+c.name,
		"RESULT="+c.result)
	if err != nil {
		return err
	}
	var e struct {
		Priority  string `json:"PRIORITY"`
		LastError string `json:"LAST_ERROR"`
		Signal    string `json:"SIGNAL"`
		Status    string `json:"EXIT_STATUS"`
		Uptime    string `json:"UPTIME_MS"`
		Restarts  string `json:"RESTART_COUNT"`
		Hint      string `json:"HINT"`
		Lines     any    `json:"LINES"`
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 1 {
		return fmt.Errorf("%d lines of %s in the manager's log, want one:\n%s", len(lines), c.name, out)
	}
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil {
		return fmt.Errorf("%w: %q", err, lines[0])
	}
	status := c.result != "exit-code" || c.code == "ENGINE_START_TIMEOUT" || e.Status == fmt.Sprint(c.status)
	priority := "4"
	if c.code == "ENGINE_OOM" {
		priority = "3" // an administrator must act
	}
	says := strings.HasPrefix(e.LastError, c.code+": ") && strings.Contains(e.LastError, c.says)
	if e.Priority != priority || !says || e.Signal != c.signal || !status ||
		e.Uptime == "" || e.Restarts != "0" || e.Hint == "" || e.Lines == nil {
		return fmt.Errorf("the manager's log has %+v", e)
	}
	return nil
}
