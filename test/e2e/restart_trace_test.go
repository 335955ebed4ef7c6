//go:build machine

package e2e

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/machine"
	"github.com/pool-managerd/pool-managerd/test/restarttrace"
)

var updateTraces = flag.Bool("update-traces", false,
	"write what PID 1 signals of restarts to test/restarttrace/testdata")

// TestRestartsAreCountedByRealSignals records what each systemd signals of units that fail again
// and again, and counts their runs by it.
func TestRestartsAreCountedByRealSignals(t *testing.T) {
	binary := machine.BuildTest(t, systemdPackage, "-tags", "machine")
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			m := machine.Start(t, machine.Config{Release: release})
			m.RunTestBinary(t.Context(), t, binary, "-machine", "-test.run=^TestRecordRestarts$", "-test.timeout=5m",
				"-trace=/run/restarts.jsonl")
			trace, err := m.ReadFile(t.Context(), "/run/restarts.jsonl")
			if err != nil {
				t.Fatal(err)
			}
			check := restarttrace.CheckLive
			if *updateTraces {
				check = restarttrace.Check
			}
			if err := check(trace); err != nil {
				t.Error(err)
			}
			if *updateTraces {
				path := filepath.Join("..", "restarttrace", "testdata", string(release)+".jsonl")
				if err := os.WriteFile(path, trace, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
