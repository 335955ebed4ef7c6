//go:build machine

package render_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// filterLines are the lines of the sandbox for which PID 1 loads seccomp programs
// (systemd.exec(5)).
var filterLines = []string{
	"ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectClock", "RestrictNamespaces", "RestrictRealtime",
	"RestrictSUIDSGID", "LockPersonality", "MemoryDenyWriteExecute", "SystemCallArchitectures", "SystemCallFilter",
	"RestrictAddressFamilies", "PrivateDevices",
}

// mostFilters is what an engine carries at most on amd64, with its three architectures:
// MemoryDenyWriteExecute= needs three where the kernel or PID 1 does not have PR_SET_MDWE (systemd
// 252).
const mostFilters = 31

// TestMachineFilters counts the seccomp programs of an engine, and what each line adds to them: the
// kernel runs all of them at each system call, and frees all of them when the engine ends.
func TestMachineFilters(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	r := w.start(t, input())
	props := r.unit.Properties()
	engine := r.filters(r.unit.Name)
	r.stop()
	// The machine itself may have filters, which its units inherit.
	bare := w.filtersOf(t, slices.DeleteFunc(slices.Clone(props), func(p systemd.Property) bool {
		return !slices.Contains([]string{"ExecStart", "ExecStartEx", "Environment", "Type"}, p.Name)
	}))
	if engine-bare > mostFilters {
		t.Errorf("an engine carries %d seccomp programs, want at most %d", engine-bare, mostFilters)
	}
	t.Logf("an engine: %d", engine-bare)
	for _, line := range append(filterLines, "DynamicUser") {
		without := w.filtersOf(t, slices.DeleteFunc(slices.Clone(props), func(p systemd.Property) bool {
			return p.Name == line || line == "DynamicUser" && p.Name == "User" // there is no such user then
		}))
		t.Logf("%-24s %d", line, engine-without)
	}
}

// filtersOf starts a unit of these properties and counts its seccomp programs.
func (w world) filtersOf(t *testing.T, props []systemd.Property) int {
	t.Helper()
	const name = "pool-engine@filters.r0.service"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	job, err := w.client.StartTransient(ctx, name, props)
	if err != nil {
		t.Fatal(err)
	}
	r := running{w, t, input(), render.Unit{Name: name}}
	defer r.stop() // one that failed too: PID 1 would start it again beside other tests
	if err := job.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	return r.filters(name)
}

// filters reads Seccomp_filters of the main process (proc_pid_status(5), Linux 5.9).
func (r running) filters(unit string) int {
	r.t.Helper()
	st, err := r.client.Unit(r.t.Context(), unit)
	if err != nil {
		r.t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", st.MainPID))
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "Seccomp_filters:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				r.t.Fatal(err)
			}
			return n
		}
	}
	r.t.Skip("this kernel does not count seccomp programs")
	return 0
}
