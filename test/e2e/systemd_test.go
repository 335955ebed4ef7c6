//go:build machine

package e2e

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestSystemd runs the client of PID 1 under every systemd that is supported: jobs and their results, updates in
// order, a bus that is killed or hangs, a PID 1 that executes itself again or reloads, forged signals, and a quiet
// minute without a single call.
func TestSystemd(t *testing.T) {
	binary := machine.BuildTest(t, "github.com/pool-managerd/pool-managerd/systemd", "-tags", "machine")
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			m := machine.Start(t, machine.Config{Release: release})
			m.RunTestBinary(t.Context(), t, binary, "-machine", "-test.run=^TestMachine", "-test.timeout=10m")
		})
	}
}
