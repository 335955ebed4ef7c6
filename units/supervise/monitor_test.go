package supervise

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestDiagnoseThroughMonitor: the statuses of podman and of its monitor are read as what they stand
// for, and those of an engine without podman are not.
func TestDiagnoseThroughMonitor(t *testing.T) {
	podman := pool.Provisioning{Mode: pool.ModeContainer, Runtime: pool.RuntimePodman}
	for name, c := range map[string]struct {
		of     pool.Provisioning
		status int
		code   registry.Code
		says   string
	}{
		"a_signal":                 {podman, 139, registry.CodeEngineCrashed, "killed by SIGSEGV"},
		"an_error_of_the_engine":   {podman, 3, registry.CodeEngineCrashed, "exited with status 3"},
		"podman_cannot":            {podman, 125, registry.CodeEngineStartFailed, "podman could not make the container"},
		"no_program":               {podman, 127, registry.CodeEngineStartFailed, "podman could not execute"},
		"a_number_above_signals":   {podman, 190, registry.CodeEngineCrashed, "exited with status 190"},
		"without_podman":           {pool.Provisioning{Mode: pool.ModeContainer}, 139, registry.CodeEngineCrashed, "status 139"},
		"podmans_number_otherwise": {pool.Provisioning{Mode: pool.ModeBinary}, 125, registry.CodeEngineCrashed, "status 125"},
	} {
		t.Run(name, func(t *testing.T) {
			st := systemd.Status{Name: "pool-engine@a.r0.service", Result: "exit-code", ExecMainCode: cldExited,
				ExecMainStatus: c.status}
			f := Diagnose(st, pool.Pool{ID: "a", Provisioning: c.of})
			if f == nil || f.Code != c.code || !strings.Contains(f.Message, c.says) {
				t.Errorf("%+v, want %s with %q", f, c.code, c.says)
			}
		})
	}
}
