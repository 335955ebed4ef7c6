package supervise

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// How a main process ended, as ExecMainCode has it: si_code of waitid(2).
const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

// Diagnose names why a unit's last run ended, from what PID 1 recorded: Result first, since after
// an OOM kill ExecMainStatus may hold the signal of the clean-up. It returns nil for a run that
// ended well or has not ended.
func Diagnose(st systemd.Status, p pool.Pool) *registry.Failure {
	st = throughMonitor(st, p)
	logs := readLogs(st.Name)
	switch st.Result {
	case "":
		return nil
	case "success":
		return exitVerdict(st, logs)
	case "oom-kill":
		return oomVerdict(p)
	case "timeout":
		return timeoutVerdict(st, p, logs)
	case "watchdog":
		return registry.Fail(registry.CodeEngineCrashed, "the engine missed its watchdog", logs)
	case "resources":
		const message = "PID 1 could not set up the unit (a directory, a limit, or a process)"
		hint := fmt.Sprintf("Read systemctl status '%s'.", st.Name)
		if len(p.EnvFiles) > 0 { // of a missing one PID 1 reports this
			hint = "Check that env_file is there, which PID 1 reads at each start: poolctl check. " + hint
		}
		return registry.Fail(registry.CodeEngineStartFailed, message, hint)
	}
	f := gateVerdict(st, p, logs)
	switch {
	case f != nil:
	case st.Result == startLimitHit && st.WasActive && endedWell(st):
		f = exited(st, logs)
	default:
		f = registry.Fail(registry.CodeEngineCrashed, "the engine "+ending(st), logs)
	}
	if st.Result == startLimitHit {
		f.Message = gaveUp + f.Message
	}
	return f
}

// readLogs is the hint where a unit's log is: by fields that only the journal itself sets.
func readLogs(unit string) string {
	if r, ok := pool.ParseUnit(unit); ok {
		return "Run poolctl logs " + r.Pool + "."
	}
	return "Read journalctl _SYSTEMD_UNIT=" + unit + "."
}

// startLimitHit is the Result of a unit that PID 1 no longer starts; it takes the place of how the
// last run ended.
const (
	startLimitHit = "start-limit-hit"
	gaveUp        = "PID 1 gave up after too many failures in a short time, the last one: "
)

// oomVerdict reports a limit of the pool's own from a host that has no memory left.
func oomVerdict(p pool.Pool) *registry.Failure {
	if p.Limits.MemoryMaxBytes == 0 {
		return registry.Fail(registry.CodeEngineOOM, "the kernel killed the engine because the host had no memory left",
			"Lower ctx or slots, stop other processes, or set [limits] memory_max to bound each pool.")
	}
	return registry.Fail(registry.CodeEngineOOM,
		fmt.Sprintf("the kernel killed the engine because its cgroup ran out of memory (memory_max is %d bytes)",
			p.Limits.MemoryMaxBytes),
		"Raise [limits] memory_max, or lower ctx or slots.")
}

// timeoutVerdict reports a stop that took too long from a start: only an engine that had come as
// far as "active" can have been in a stop.
func timeoutVerdict(st systemd.Status, p pool.Pool, logs string) *registry.Failure {
	if !st.WasActive {
		return registry.Fail(registry.CodeEngineStartTimeout,
			"the engine did not finish loading before the unit's start timeout", logs)
	}
	within := ""
	if a, ok := engine.For(p.Engine); ok {
		within = fmt.Sprintf(" within %s", a.StopTimeout(p))
	}
	return registry.Fail(registry.CodeEngineStopTimeout, "the engine did not end"+within+
		" after SIGTERM, and was killed", "Requests that take longer are cut. "+logs)
}

// endedWell reports whether the main process ended in a way that PID 1 takes for a success: exit
// status 0, or one of the signals that ask a daemon to end (systemd.service(5), "Restart=").
func endedWell(st systemd.Status) bool {
	switch st.ExecMainCode {
	case cldExited:
		return st.ExecMainStatus == 0
	case cldKilled:
		return slices.Contains([]int{int(unix.SIGHUP), int(unix.SIGINT), int(unix.SIGTERM), int(unix.SIGPIPE)},
			st.ExecMainStatus)
	}
	return false
}

// exitVerdict is why a unit without an error is about to be started again: its process ended by
// itself. It is nil for a unit that was stopped, runs, or is about to begin its next run, whose
// result is not that of the run before.
func exitVerdict(st systemd.Status, logs string) *registry.Failure {
	waits := phaseOf(st) == reconcile.Backoff && st.SubState != "auto-restart-queued"
	if !endedWell(st) || !waits && !st.EndedFirst {
		return nil
	}
	return exited(st, logs)
}

// exited is the failure of an engine that ended without an error while no one had asked for it.
func exited(st systemd.Status, logs string) *registry.Failure {
	if st.ExecMainCode == cldKilled {
		return registry.Fail(registry.CodeEngineExited,
			"the engine was ended by "+signalName(st.ExecMainStatus)+" of another program, which is not a stop",
			"Find what sent the signal (earlyoom, a script, kill); systemctl stop stops an engine. "+logs)
	}
	return registry.Fail(registry.CodeEngineExited, "the engine exited with status 0 without a request to stop",
		"Its log shows why; an engine must serve until it is stopped, and a start script must stay in the foreground "+
			"(exec, without &). "+logs)
}

// loadVerdict reports an engine that ended while it loaded. One that ended without an error is
// often a script that left the server running in the background.
func loadVerdict(st systemd.Status, logs string) *registry.Failure {
	message := "the engine " + ending(st) + " while it loaded"
	switch well := st.ExecMainCode == cldExited && st.ExecMainStatus == 0; {
	case well && st.PostStatus == exit.Background:
		return registry.Fail(registry.CodeEngineStartFailed, message+" and left a process in the background",
			"A start script must stay in the foreground: end it with exec and the server's command, without &. "+logs)
	case well:
		return registry.Fail(registry.CodeEngineStartFailed, message,
			"An engine must stay in the foreground: let a start script end with exec and the server's command. "+logs)
	}
	return registry.Fail(registry.CodeEngineStartFailed, message, logs)
}

// gateVerdict reads what the readiness gate of a failed start said by its exit status.
func gateVerdict(st systemd.Status, p pool.Pool, logs string) *registry.Failure {
	if st.ExecMainCode == cldExited && st.ExecMainStatus >= 200 && st.ExecMainStatus <= 245 {
		return registry.Fail(registry.CodeEngineStartFailed,
			fmt.Sprintf("PID 1 could not execute the engine (%s)", execStep(st.ExecMainStatus)), logs)
	}
	if f := cmp.Or(memoryVerdict(st, logs), containerVerdict(st, p, logs)); f != nil {
		return f
	}
	if st.PostCode != cldExited {
		return nil
	}
	base, heard := exit.Parse(st.PostStatus)
	switch base {
	case exit.EngineGone, exit.Background:
		return loadVerdict(st, logs)
	case exit.Stalled, exit.Late:
		return slowVerdict(base, heard, p, logs)
	case exit.NoGPU:
		return registry.Fail(registry.CodeGPUUnavailable, "the engine runs on the CPU although the pool gives it a GPU",
			"Its log shows why CUDA could not be used. To run on the CPU, set devices = []. "+logs)
	case exit.HoldsNoGPU:
		return registry.Fail(registry.CodeGPUUnavailable,
			"the engine answers, and does not use every GPU that the pool gives it: NVML lists no process of it there",
			"Its log shows why CUDA could not be used. To run on the CPU, set devices = []; for an engine that uses "+
				`fewer devices, or takes GPU memory with its first request, set gpu_proof = "any" or "off". `+logs)
	case exit.PartOnCPU:
		return registry.Fail(registry.CodeGPUUnavailable,
			"the engine left a part of the model to the CPU, and [policy] vram_only of the host is true",
			"Free memory of the GPU (poolctl fit shows what the model needs), lower ctx or slots, or ask for a part "+
				`in the pool's args ("-ngl", "20"). `+logs)
	case exit.ForeignPort:
		return registry.Fail(registry.CodePortInUse, "another process uses the engine's port",
			"Stop that process (ss -ltnp shows it), or give the pool another port.")
	}
	return nil
}

// memoryVerdict reads what the step before the engine said by its exit status.
func memoryVerdict(st systemd.Status, logs string) *registry.Failure {
	if st.PreCode != cldExited {
		return nil
	}
	switch st.PreStatus {
	case exit.InsufficientVRAM:
		return registry.Fail(registry.CodeInsufficientVRAM, "a GPU had too little free memory for the engine to start",
			"Run poolctl devices --processes to list its users, and poolctl fit for what the model needs. "+logs)
	case exit.NoNode:
		return registry.Fail(registry.CodeGPUUnavailable,
			"a device node of its GPUs did not exist when the engine was to start",
			"Run nvidia-modprobe -u -c0, and have it run at each boot; the engine starts when the node appears. "+logs)
	case exit.InsufficientRAM:
		return registry.Fail(registry.CodeInsufficientRAM,
			"the host had too little free memory for the engine to start",
			"Stop other processes, or lower ctx or slots. "+logs)
	}
	if st.PreStatus != 0 {
		return registry.Fail(registry.CodeEngineStartFailed,
			fmt.Sprintf("the memory check before the start (pool-gate memory) exited with status %d", st.PreStatus),
			logs)
	}
	return nil
}

// ending says how the main process ended.
func ending(st systemd.Status) string {
	switch st.ExecMainCode {
	case cldExited:
		return fmt.Sprintf("exited with status %d", st.ExecMainStatus)
	case cldKilled:
		return "was killed by " + signalName(st.ExecMainStatus)
	case cldDumped:
		return "dumped core on " + signalName(st.ExecMainStatus)
	}
	return "ended (" + st.Result + ")"
}

func signalName(n int) string {
	if name := unix.SignalName(unix.Signal(n)); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", n)
}

// execStep names the most frequent of the exit statuses that PID 1 uses when it cannot execute
// (systemd.exec(5), "Process Exit Codes").
func execStep(status int) string {
	switch status {
	case 200:
		return "200/CHDIR: its working directory"
	case 203:
		return "203/EXEC: the binary is missing, not executable, or its interpreter is, or it is on a file system " +
			"that is mounted noexec"
	case 217:
		return "217/USER: its dynamic user"
	case 226:
		return "226/NAMESPACE: a path that its sandbox needs"
	case 228:
		return "228/SECCOMP: its system call filter"
	case 242:
		return "242/NUMA_POLICY: [limits] numa_policy and numa_nodes"
	case 243:
		return "243/CREDENTIALS: api_key_file, which PID 1 reads at each start"
	case 238, 239:
		return "its state or cache directory"
	}
	return fmt.Sprintf("status %d of systemd.exec(5)", status)
}

// containerFailed is the status of podman's or docker's client that could not make the container
// (podman-run(1), docker-run(1)).
const containerFailed = 125

// throughMonitor returns the end of the engine itself where podman's monitor or docker's client is
// the main process: it ends with 128 and the number of the signal that ended the engine.
func throughMonitor(st systemd.Status, p pool.Pool) systemd.Status {
	signal := st.ExecMainStatus - 128
	if containerEngine(p) != "" && st.ExecMainCode == cldExited && signal > 0 && signal <= int(unix.SIGSYS) {
		st.ExecMainCode, st.ExecMainStatus = cldKilled, signal
	}
	return st
}

// containerEngine is podman or docker, if one of them runs the pool's engine.
func containerEngine(p pool.Pool) string {
	r := p.Provisioning.Runtime
	if p.Provisioning.Mode == pool.ModeContainer && (r == pool.RuntimePodman || r == pool.RuntimeDocker) {
		return r
	}
	return ""
}

// containerVerdict reports a podman or docker that did not start the engine.
func containerVerdict(st systemd.Status, p pool.Pool, logs string) *registry.Failure {
	by := containerEngine(p)
	if by == "" || st.ExecMainCode != cldExited {
		return nil
	}
	switch st.ExecMainStatus {
	case containerFailed:
		return registry.Fail(registry.CodeEngineStartFailed, by+" could not make the container",
			"Its error is in the log; "+by+" info shows what "+by+" finds on this host. "+logs)
	case containerFailed + 1, containerFailed + 2:
		return registry.Fail(registry.CodeEngineStartFailed, by+" could not execute the engine in the container",
			"Its error is in the log. "+logs)
	}
	return nil
}
