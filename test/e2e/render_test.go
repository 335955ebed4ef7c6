//go:build machine

package e2e_test

import (
	"os"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

// renderTests is the package whose tests run inside of machines: they render units and let a real
// PID 1 check them.
const renderTests = "github.com/pool-managerd/pool-managerd/units/render"

// TestRender runs rendered units under every systemd that is supported: arguments arrive as they
// were written, the sandbox hides and forbids what it promises, the printed unit file is the same
// unit.
func TestRender(t *testing.T) {
	binary := machine.BuildTest(t, renderTests, "-tags", "machine")
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			m := machine.Start(t, machine.Config{Release: release})
			m.RunTestBinary(t.Context(), t, binary, "-machine", "-test.run=^TestMachine", "-test.timeout=5m")
		})
	}
}

// TestRenderRealEngine serves a model with the real llama-server in the sandbox that the pool file
// leads to.
func TestRenderRealEngine(t *testing.T) {
	t.Parallel()
	binary := machine.BuildTest(t, renderTests, "-tags", "machine")
	m := machine.Start(t, machine.Config{Release: machine.Forky})
	m.RunTestBinary(t.Context(), t, binary, "-machine", "-test.run=^TestRealLlamaServer$", "-test.timeout=5m")
}

// TestRenderEnforced runs what only a machine with controllers and BPF can show: nothing but the
// loopback is reached, no device but the replica's own is opened, limits are kept, and each line of
// docs/sandbox.md that takes a kernel is true on every release. With RENDER_PROMISES=all the other
// lines are tried there too, which takes minutes more where there is no KVM; TestRender tries them
// in containers.
func TestRenderEnforced(t *testing.T) {
	t.Parallel() // but one machine after the other: each takes a core where there is no KVM
	promises := "^TestMachinePromises$/^by_a_kernel$"
	if os.Getenv("RENDER_PROMISES") == "all" {
		promises = "^TestMachinePromises$"
	}
	binary := machine.BuildTest(t, renderTests, "-tags", "machine")
	for release, tests := range map[machine.Release][]string{
		machine.Forky: {"^TestEnforced", promises}, machine.Trixie: {promises}, machine.Bookworm: {promises}} {
		t.Run(string(release), func(t *testing.T) {
			m := machine.Start(t, machine.Config{Release: release, Backend: machine.VM})
			m.Require(t, machine.Controllers("cpu", "cpuset", "io", "memory", "pids"), machine.BPF())
			for _, run := range tests {
				m.RunTestBinary(t.Context(), t, binary, "-machine", "-test.run="+run, "-test.timeout=10m")
			}
		})
	}
}
