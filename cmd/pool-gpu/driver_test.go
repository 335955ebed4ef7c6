package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/test/fakenvml"
)

const gib = uint64(1) << 30

func TestDiscovery(t *testing.T) {
	t.Parallel()
	state := fakenvml.Default(2, 24*gib)
	state.GPUs[0].ECC = &fakenvml.ECC{On: true, Corrected: 3, Uncorrectable: 1}
	state.GPUs[0].Remap = &[4]int{1, 2, 1, 0}
	state.GPUs[0].Recovery = new(1)
	state.GPUs[0].MIG = new(false)
	state.GPUs[0].Processes = []fakenvml.Process{{PID: os.Getpid(), Used: gib}}
	// The second reports as little as a desktop card does.
	state.GPUs[1] = fakenvml.GPU{UUID: fakenvml.UUID(1), Name: "small", PCI: "00010000:65:00.0", Total: 8 * gib}
	s := start(t, built.library, &state).snapshot()
	want := nvml.Snapshot{
		Driver: nvml.Driver{Version: "550.54.14", CUDA: "12.4", Library: "12.550.54.14"},
		Devices: []nvml.Device{{
			UUID: fakenvml.UUID(0), Index: 0, PCI: "00000000:41:00.0", Minor: new(0), Name: "NVIDIA Fake GPU", ComputeCapability: "8.6",
			Memory:         &nvml.Memory{Total: 24 * gib, Free: 23*gib - 512<<20, Used: gib, Reserved: new(uint64(512 << 20))},
			UtilizationPct: new(0), TemperatureC: new(38), PowerState: new(8), PowerMilliwatts: new(21000),
			ECC:      &nvml.ECC{Enabled: true, Corrected: new(uint64(3)), Uncorrectable: new(uint64(1))},
			Remap:    &nvml.Remap{Corrected: 1, Uncorrectable: 2, Pending: true},
			Recovery: nvml.RecoveryReset, MIG: new(false), Nodes: []string{"/dev/nvidia0"},
			Processes: []nvml.Process{{PID: os.Getpid(), Used: new(gib)}}, Listed: true,
		}, {
			UUID: fakenvml.UUID(1), Index: 1, PCI: "00010000:65:00.0", Name: "small",
			Memory: &nvml.Memory{Total: 8 * gib, Free: 8 * gib, Reserved: new(uint64(0))}, Listed: true,
		}},
	}
	ignore := cmpopts.IgnoreFields(nvml.Snapshot{}, "Taken", "Session")
	if diff := cmp.Diff(want, *s, ignore, cmpopts.IgnoreFields(nvml.Process{}, "Unit")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if s.Session == "" || time.Since(s.Taken) > time.Minute {
		t.Errorf("session %q, taken %v", s.Session, s.Taken)
	}
}

func TestMIG(t *testing.T) {
	t.Parallel()
	state := fakenvml.Default(2, 40*gib)
	state.GPUs[0].Cut(4)
	state.GPUs[0].Partitions[1].Processes = []fakenvml.Process{{PID: os.Getpid(), Used: gib}}
	s := start(t, built.library, &state).snapshot()
	parent := s.Devices[0]
	if parent.MIG == nil || !*parent.MIG || len(parent.Partitions) != 4 || parent.UtilizationPct != nil {
		t.Fatalf("got %+v", parent)
	}
	p := parent.Partitions[1]
	if p.UUID != state.GPUs[0].Partitions[1].UUID || p.GI != 8 || p.CI != 0 || p.Profile != "1g.10gb" ||
		p.Memory == nil || p.Memory.Total != 10*gib || p.Memory.Used != gib || len(p.Processes) != 1 {
		t.Errorf("got %+v", p)
	}
	if got, want := p.Legacy(parent.UUID), "MIG-"+parent.UUID+"/8/0"; got != want {
		t.Errorf("legacy name %q, want %q", got, want)
	}
	if !p.Listed || !parent.Partitions[0].Listed || len(parent.Partitions[0].Processes) != 0 {
		t.Errorf("processes of the partitions: %+v", parent.Partitions)
	}
	if len(s.Devices[1].Partitions) != 0 || s.Devices[1].MIG != nil {
		t.Errorf("the other GPU has no such mode: %+v", s.Devices[1])
	}
}

// TestUnlisted: a list that the driver does not have is another thing than an empty one.
func TestUnlisted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		list   int
		listed bool
		want   int
	}{{"shown", fakenvml.Shown, true, 1}, {"hidden", fakenvml.Hidden, true, 0}, {"not_supported", 3, false, 0},
		{"no_permission", 4, false, 0}} {
		t.Run(c.name, func(t *testing.T) {
			state := fakenvml.Default(1, 24*gib)
			state.GPUs[0].List, state.GPUs[0].Processes = c.list, []fakenvml.Process{{PID: os.Getpid(), Used: gib}}
			d := start(t, built.library, &state).snapshot().Devices[0]
			if d.Listed != c.listed || len(d.Processes) != c.want || d.Problem != nil || d.Memory.Used != gib {
				t.Errorf("got %+v", d)
			}
		})
	}
}

// TestOldLibrary is one from before 470: calls to what it lacks would end the process.
func TestOldLibrary(t *testing.T) {
	t.Parallel()
	state := fakenvml.Default(1, 24*gib)
	state.GPUs[0].Processes = []fakenvml.Process{{PID: os.Getpid(), Used: gib}}
	h := start(t, built.old, &state)
	s := h.snapshot()
	d := s.Devices[0]
	if d.Memory == nil || d.Memory.Used != gib+512<<20 || d.Memory.Reserved != nil {
		t.Errorf("memory by the first version: %+v", d.Memory)
	}
	if len(d.Processes) != 1 || d.Processes[0].PID != os.Getpid() {
		t.Errorf("processes by the first version: %+v", d.Processes)
	}
	if d.Remap != nil || d.Recovery != "" {
		t.Errorf("a fact that it does not have is reported: %+v %q", d.Remap, d.Recovery)
	}
	want := []string{"nvmlDeviceGetFieldValues", "nvmlDeviceGetMPSComputeRunningProcesses_v3",
		"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetRemappedRows"}
	if diff := cmp.Diff(want, s.Driver.Missing); diff != "" {
		t.Errorf("missing: -want +got\n%s", diff)
	}
}

func TestNoNVML(t *testing.T) {
	t.Parallel()
	p := start(t, built.empty, nil).snapshot().Driver.Problem
	if p == nil || p.Kind != nvml.ProblemOther || !strings.Contains(p.Text, "is not a usable NVML library") {
		t.Errorf("got %+v", p)
	}
}

func TestInitCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code int
		kind nvml.ProblemKind
	}{{9, nvml.ProblemNoDriver}, {18, nvml.ProblemMismatch}, {4, nvml.ProblemNoPermission}, {999, nvml.ProblemOther}} {
		t.Run(fmt.Sprintf("code_%d", c.code), func(t *testing.T) {
			t.Parallel()
			state := fakenvml.Default(1, 24*gib)
			state.Init = c.code
			h := start(t, built.library, &state)
			updates := h.follow()
			u := until(t, updates, "problem", func(u nvml.Update) bool {
				return u.Snapshot != nil && u.Snapshot.Driver.Problem != nil
			})
			if p := u.Snapshot.Driver.Problem; p.Kind != c.kind || p.Code != c.code || len(u.Snapshot.Devices) != 0 {
				t.Errorf("got %+v and %d devices", p, len(u.Snapshot.Devices))
			}
			state.Init = 0
			h.set(state)
			until(t, updates, "GPU in the same process", func(u nvml.Update) bool {
				return u.Snapshot != nil && len(u.Snapshot.Devices) == 1
			})
		})
	}
	t.Run("code_12", func(t *testing.T) {
		t.Parallel()
		p := start(t, t.TempDir()+"/libnvidia-ml.so.1", nil).snapshot().Driver.Problem
		if p == nil || p.Kind != nvml.ProblemNoLibrary || p.Code != 12 {
			t.Errorf("got %+v", p)
		}
	})
}

// TestReplacedDriver: the library in the process is the old one, so that another process must take
// over.
func TestReplacedDriver(t *testing.T) {
	t.Parallel()
	state := fakenvml.Default(1, 24*gib)
	h := start(t, built.library, &state)
	updates := h.follow()
	until(t, updates, "GPU", func(u nvml.Update) bool { return u.Snapshot != nil && len(u.Snapshot.Devices) == 1 })
	state.Generation++
	h.set(state)
	until(t, updates, "mismatch", func(u nvml.Update) bool {
		return u.Snapshot != nil && u.Snapshot.Driver.Problem != nil &&
			u.Snapshot.Driver.Problem.Kind == nvml.ProblemMismatch
	})
	if status := h.status(); status != exitReplaced {
		t.Errorf("exit status %d\n%s", status, h.stderr)
	}
}

func TestLostGPU(t *testing.T) {
	t.Parallel()
	state := fakenvml.Default(8, 24*gib)
	h := start(t, built.library, &state)
	updates := h.follow()
	until(t, updates, "GPUs", func(u nvml.Update) bool { return u.Snapshot != nil && len(u.Snapshot.Devices) == 8 })
	state.GPUs[3].Problem = 15
	h.set(state)
	lost := func(u nvml.Update) bool { return u.Snapshot != nil && u.Snapshot.Devices[3].Problem != nil }
	check := func(u nvml.Update) {
		t.Helper()
		for i, d := range u.Snapshot.Devices {
			if d.UUID != fakenvml.UUID(i) || d.Name == "" || d.Nodes == nil || (d.Problem != nil) != (i == 3) {
				t.Errorf("GPU %d: %+v", i, d)
			}
		}
		if p := u.Snapshot.Devices[3].Problem; p.Kind != nvml.ProblemLost || p.Code != 15 {
			t.Errorf("got %+v", p)
		}
	}
	check(until(t, updates, "lost GPU", lost))
	// A new session cannot even get a handle of it, and it keeps its name.
	until(t, updates, "new session", func(nvml.Update) bool {
		return strings.Contains(h.stderr.String(), "restarting NVML")
	})
	until(t, updates, "sample", lost) // may have been on its way
	check(until(t, updates, "lost GPU in a new session", lost))
	state.GPUs[3].Problem = 0
	h.set(state)
	until(t, updates, "GPU that is back", func(u nvml.Update) bool {
		return u.Snapshot != nil && u.Snapshot.Devices[3].Problem == nil
	})
}

func TestEvents(t *testing.T) {
	t.Parallel()
	state := fakenvml.Default(2, 40*gib)
	state.GPUs[1].Cut(2)
	h := start(t, built.library, &state)
	updates := h.follow()
	until(t, updates, "snapshot", func(u nvml.Update) bool { return u.Snapshot != nil })
	for _, c := range []struct {
		event fakenvml.Event
		want  nvml.Event
	}{
		{fakenvml.Event{Kind: "xid", UUID: fakenvml.UUID(0), Data: 79, GI: -1, CI: -1}, nvml.Event{Kind: nvml.EventXid, Device: fakenvml.UUID(0), Code: 79}},
		{fakenvml.Event{Kind: "xid", UUID: fakenvml.UUID(1), Data: 31, GI: 7, CI: 0},
			nvml.Event{Kind: nvml.EventXid, Device: fakenvml.UUID(1), Code: 31, GI: new(7), CI: new(0)}},
		{fakenvml.Event{Kind: "ecc", UUID: fakenvml.UUID(0), GI: -1, CI: -1}, nvml.Event{Kind: nvml.EventECCDouble, Device: fakenvml.UUID(0)}},
		{fakenvml.Event{Kind: "unavailable", UUID: fakenvml.UUID(0), GI: -1, CI: -1}, nvml.Event{Kind: nvml.EventUnavailable, Device: fakenvml.UUID(0)}},
		{fakenvml.Event{Kind: "recovery", UUID: fakenvml.UUID(0), Data: 2, GI: -1, CI: -1},
			nvml.Event{Kind: nvml.EventRecovery, Device: fakenvml.UUID(0), Code: 2, Text: "reboot"}},
	} {
		if err := c.event.Append(h.dir); err != nil {
			t.Fatal(err)
		}
		u := until(t, updates, c.event.Kind, func(u nvml.Update) bool { return u.Event != nil })
		if diff := cmp.Diff(c.want, *u.Event, cmpopts.IgnoreFields(nvml.Event{}, "At")); diff != "" {
			t.Errorf("%s: -want +got\n%s", c.event.Kind, diff)
		}
	}
}

func TestHang(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"nvmlInit_v2", "nvmlDeviceGetMemoryInfo_v2"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			state := fakenvml.Default(1, 24*gib)
			hanging := state
			hanging.Hang = call
			if call == "nvmlInit_v2" {
				state.Hang = call
			}
			h := start(t, built.library, &state)
			updates := h.follow()
			if state.Hang == "" {
				until(t, updates, "snapshot", func(u nvml.Update) bool { return u.Snapshot != nil })
				h.set(hanging)
			}
			u := until(t, updates, "stall", func(u nvml.Update) bool {
				return u.Stale != nil && u.Stale.Problem.Kind == nvml.ProblemHung
			})
			if u.Stale.Problem.Call != call {
				t.Errorf("got %+v", u.Stale.Problem)
			}
			if r, err := h.ask(wire.Request{Op: wire.OpSnapshot}); err == nil || !strings.Contains(err.Error(), call) {
				t.Errorf("a question meanwhile: %+v, %v", r, err)
			}
			state.Hang = ""
			h.set(state)
			until(t, updates, "snapshot", func(u nvml.Update) bool {
				return u.Snapshot != nil && len(u.Snapshot.Devices) == 1
			})
		})
	}
	t.Run("signal_ends_it_all_the_same", func(t *testing.T) {
		t.Parallel()
		state := fakenvml.Default(1, 24*gib)
		state.Hang = "nvmlInit_v2"
		h := start(t, built.library, &state)
		until(t, h.follow(), "stall", func(u nvml.Update) bool {
			return u.Stale != nil && u.Stale.Problem.Kind == nvml.ProblemHung
		})
		if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if status := h.status(); status != exitOK {
			t.Errorf("exit status %d", status)
		}
	})
}

func TestReserve(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may hold memory for a unit")
	}
	state := fakenvml.Default(1, 24*gib)
	h := start(t, built.library, &state)
	reserve := func(unit string, bytes uint64) wire.Reply {
		t.Helper()
		r, err := h.ask(wire.Request{Op: wire.OpReserve, Unit: unit, Needs: map[string]uint64{fakenvml.UUID(0): bytes}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := reserve("a.service", 20*gib); !r.Granted {
		t.Fatalf("a: %+v", r)
	}
	r := reserve("b.service", 20*gib)
	want := []wire.Short{{Device: fakenvml.UUID(0), Need: 20 * gib, Free: 24*gib - 512<<20, Reserved: 20 * gib,
		Total:   24 * gib,
		Holders: []wire.Holder{{Unit: "a.service", Reserved: 20 * gib}}}}
	if diff := cmp.Diff(want, r.Short); diff != "" || r.Granted {
		t.Fatalf("b: granted %v, -want +got\n%s", r.Granted, diff)
	}
	if _, err := h.ask(wire.Request{Op: wire.OpRelease, Unit: "a.service"}); err != nil {
		t.Fatal(err)
	}
	if r := reserve("b.service", 20*gib); !r.Granted {
		t.Errorf("b, after a gave it back: %+v", r)
	}
}
