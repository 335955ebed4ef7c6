package chaos

import (
	"context"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

// Kind is a fault: what it takes, what it hits, and what it may change.
type Kind struct {
	Name   string
	Weight int      // how often it is chosen, compared with the others
	Takes  []string // what no other step of a round may take

	Shortest, Longest time.Duration // how long it lasts; 0: it is over at once

	Of   []string // pools that it may hit
	Hits int      // how many of them at most; 0: all
	// Runs is how many new processes each pool that it hits may have. With 0 none may be touched.
	Runs int
	// Unchecked: while it lasts, no one may answer for the memory of the GPUs.
	Unchecked bool
	// Lines is how many lines more than usual the manager may log.
	Lines int
	// Refuses allows STATE_NOT_SAVED while it lasts.
	Refuses bool

	// OnlyIn is the kind of machine that permits it, "" for both.
	OnlyIn machine.Kind
	// Begin makes the fault, End undoes it; nil: nothing is to be done.
	Begin, End action
}

// action is a part of a fault.
type action func(ctx context.Context, s *site, step Step) error

// What steps take.
var (
	everything = []string{"manager", "helper", "bus", "pid1", "journal", "disk", "config", "operate", "clock"}
	ofGPU      = []string{"helper"} // no memory check without the helper
	ofConfig   = []string{"config", "manager", "pid1", "disk"}
)

// Kinds is the table of faults.
func Kinds() []Kind {
	sec := time.Second
	return []Kind{
		{Name: "manager-kill", Weight: 6, Takes: []string{"manager"}, Begin: shell(kill("pool-managerd.service"))},
		{Name: "manager-stop", Weight: 4, Takes: []string{"manager"}, Shortest: sec / 2, Longest: 8 * sec,
			Begin: shell(pause("manager", "pool-managerd.service")), End: shell(resume("manager"))},
		// When its watchdog ends it, it logs the stack of each goroutine.
		{Name: "manager-hang", Weight: 1, Takes: []string{"manager"}, Lines: 5000, Begin: managerHang},
		{Name: "manager-restart", Weight: 2, Takes: []string{"manager"}, Begin: shell("systemctl restart pool-managerd.service")},
		{Name: "helper-kill", Weight: 3, Takes: []string{"helper"}, Unchecked: true, Begin: shell(kill("pool-gpu.service"))},
		{Name: "helper-stop", Weight: 2, Takes: []string{"helper"}, Shortest: sec, Longest: 10 * sec, Unchecked: true,
			Begin: shell(pause("helper", "pool-gpu.service")), End: shell(resume("helper"))},
		{Name: "gate-kill", Weight: 3, Takes: []string{"gate"}, Of: slow, Hits: 1, Runs: 3, Begin: shell(gate("KILL"))},
		{Name: "gate-stop", Weight: 2, Takes: []string{"gate"}, Of: slow, Hits: 1, Runs: 3, Shortest: sec, Longest: 5 * sec,
			Begin: shell(gate("STOP")), End: shell(resume("gate"))},
		{Name: "bus-kill", Weight: 3, Takes: []string{"bus"},
			Begin: shell(kill("dbus.service") + "; systemctl start dbus.service")},
		// In a reload PID 1 subscribes again, and waits for the bus (seen with systemd 262).
		{Name: "bus-stop", Weight: 2, Takes: []string{"bus", "pid1"}, Shortest: sec, Longest: 8 * sec,
			Begin: shell(pause("bus", "dbus.service")), End: shell(resume("bus"))},
		{Name: "journal-kill", Weight: 2, Takes: []string{"journal"}, Begin: shell(kill("systemd-journald.service"))},
		{Name: "journal-stop", Weight: 2, Takes: []string{"journal"}, Shortest: sec, Longest: 8 * sec,
			Begin: shell(pause("journal", "systemd-journald.service")), End: shell(resume("journal"))},
		{Name: "daemon-reload", Weight: 2, Takes: []string{"pid1"}, Begin: shell("systemctl daemon-reload")},
		{Name: "daemon-reexec", Weight: 2, Takes: []string{"pid1"}, Begin: shell("systemctl daemon-reexec")},

		{Name: "state-full", Weight: 2, Takes: []string{"disk"}, Shortest: 2 * sec, Longest: 8 * sec, Refuses: true,
			Begin: shell(fill(stateDir)), End: shell("rm -f " + stateDir + "/.filler")},
		{Name: "run-full", Weight: 2, Takes: []string{"disk"}, Shortest: 2 * sec, Longest: 8 * sec, Refuses: true,
			Begin: shell(fill(runDir)), End: shell("rm -f " + runDir + "/.filler")},
		{Name: "state-read-only", Weight: 1, Takes: []string{"disk", "manager"}, Shortest: 2 * sec, Longest: 8 * sec, Refuses: true,
			Begin: shell(readOnly(stateDir)), End: shell("mount -o remount,rw " + stateDir)},
		{Name: "run-read-only", Weight: 1, Takes: []string{"disk", "manager"}, Shortest: 2 * sec, Longest: 8 * sec, Refuses: true,
			Begin: shell(readOnly(runDir)), End: shell("mount -o remount,rw " + runDir)},
		// The manager's own writes wait: its cgroup has a limit for the disk of its state.
		{Name: "state-slow", Weight: 2, Takes: []string{"disk"}, Shortest: 4 * sec, Longest: 12 * sec, Refuses: true, OnlyIn: machine.VM,
			Begin: shell(slowDisk), End: shell(quickDisk)},
		// A container has the clock of the host of the tests.
		{Name: "clock-jump", Weight: 2, Takes: []string{"clock"}, Shortest: 2 * sec, Longest: 10 * sec, OnlyIn: machine.VM,
			Begin: clockJump(false), End: clockJump(true)},
		{Name: "memory-pressure", Weight: 2, Takes: []string{"manager"}, Shortest: 2 * sec, Longest: 10 * sec, OnlyIn: machine.VM,
			Begin: shell("systemctl set-property --runtime pool-managerd.service MemoryHigh=14M"),
			End:   shell("systemctl set-property --runtime pool-managerd.service MemoryHigh=infinity")},

		{Name: "crash", Weight: 6, Of: quick, Hits: 3, Runs: 1, Begin: shell(killEngines)},
		{Name: "crash-storm", Weight: 3, Takes: ofGPU, Of: everyone(), Hits: 20, Runs: 1, Begin: shell(killEngines)},
		{Name: "engine-exit", Weight: 2, Of: quick, Hits: 2, Runs: 1, Begin: exits},
		{Name: "engine-stop", Weight: 3, Takes: []string{"stopped"}, Of: quick, Hits: 2, Shortest: sec, Longest: 5 * sec,
			Begin: shell(pause("engines", engineUnits)), End: shell(resume("engines"))},
		{Name: "gpu0-lost", Weight: 2, Takes: ofGPU, Of: contenders, Runs: 2, Shortest: 2 * sec, Longest: 6 * sec,
			Begin: gpu("lose 0"), End: gpu("restore 0")},
		{Name: "gpu1-lost", Weight: 2, Takes: ofGPU, Of: alone, Runs: 2, Shortest: 2 * sec, Longest: 6 * sec,
			Begin: gpu("lose 1"), End: gpu("restore 1")},
		{Name: "driver-hang", Weight: 1, Takes: ofGPU, Shortest: 2 * sec, Longest: 6 * sec, Unchecked: true,
			Begin: gpu("hang nvmlDeviceGetUtilizationRates"), End: gpu("unhang")},

		hostile("idle"), hostile("slow"), hostile("endless"), hostile("streams"), hostile("expect"), hostile("junk"),
		hostile("denied"), hostile("all"),
		{Name: "config-bad", Weight: 3, Takes: ofConfig, Of: quick, Hits: 2, Shortest: sec, Longest: 4 * sec,
			Begin: shell(configBad), End: shell(configBack)},
		{Name: "config-limits", Weight: 2, Takes: ofConfig, Of: quick, Hits: 2, Shortest: sec, Longest: 3 * sec,
			Begin: shell(configLimits), End: shell(configBack)},
		{Name: "config-args", Weight: 2, Takes: ofConfig, Of: quick, Hits: 1, Runs: 4, Shortest: 5 * sec, Longest: 10 * sec,
			Begin: shell(configArgs), End: shell(configBack)},
		{Name: "config-add", Weight: 2, Takes: ofConfig, Of: []string{"extra"}, Runs: 1, Shortest: 2 * sec, Longest: 6 * sec,
			Begin: configAdd, End: shell("rm -f /etc/pool-managerd/pools.d/extra.toml; systemctl reload pool-managerd.service")},
		{Name: "drain", Weight: 2, Takes: []string{"operate", "disk"}, Of: quick, Hits: 2, Runs: 1, Shortest: sec, Longest: 6 * sec,
			Begin: operate("drain", `{"deadline_ms":2000}`), End: operate("resume", `{}`)},
		{Name: "restart", Weight: 2, Takes: []string{"operate", "disk"}, Of: quick, Hits: 2, Runs: 1, Begin: operate("restart", `{}`)},
		{Name: "model", Weight: 2, Takes: []string{"operate", "disk"}, Of: quick, Hits: 1, Runs: 4, Shortest: 3 * sec, Longest: 8 * sec,
			Begin: operate("reload", `{"new_model_ref":"file:/srv/models/b.gguf"}`),
			End:   operate("reload", `{"new_model_ref":"file:/srv/models/tiny.gguf"}`)},
		{Name: "package", Weight: 1, Takes: everything, Unchecked: true, Shortest: 2 * sec, Longest: 5 * sec, Begin: install(true), End: install(false)},
	}
}

// hostile is an unprivileged user that misuses the API, in a way that test/chaos/witness knows.
func hostile(way string) Kind {
	return Kind{Name: "hostile-" + way, Weight: 1, Takes: []string{"clients"}, Shortest: 3 * time.Second,
		Longest: 10 * time.Second, Begin: hostileClients(way),
		End: shell("systemctl stop test-hostile.service 2>/dev/null || true")}
}
