package supervise

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/restarts"
)

// TestSightOf: what PID 1's states say of its counter.
func TestSightOf(t *testing.T) {
	for _, c := range []struct {
		name        string
		active, sub string
		result      string
		job         uint32
		want        restarts.Phase // -1: none
	}{
		{"running", "active", "running", "success", 0, restarts.PhaseRuns},
		{"loading", "activating", "start-post", "success", 7, restarts.PhaseRuns},
		{"being_stopped", "deactivating", "stop-sigterm", "success", 7, restarts.PhaseRuns},
		{"failed_on_its_way", "failed", "failed-before-auto-restart", "exit-code", 0, restarts.PhaseOver},
		{"waiting", "activating", "auto-restart", "exit-code", 0, restarts.PhaseFailed},
		{"queued", "activating", "auto-restart-queued", "exit-code", 7, restarts.PhaseQueued},
		{"queued_below_254", "activating", "auto-restart", "exit-code", 7, restarts.PhaseQueued},
		{"waiting_after_status_0", "activating", "auto-restart", "success", 0, restarts.PhaseFailed},
		{"queued_after_status_0_or_the_next_run_begins", "activating", "auto-restart-queued", "success", 7, -1},
		{"the_same_below_254", "inactive", "dead", "success", 7, -1},
		{"failed", "failed", "failed", "exit-code", 0, restarts.PhaseOver},
		{"at_its_start_limit", "failed", "failed", startLimitHit, 0, restarts.PhaseDown},
		{"stopped", "inactive", "dead", "success", 0, restarts.PhaseDown},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := SightOf(systemd.Status{InvocationID: "a", NRestarts: 3, ActiveState: c.active, SubState: c.sub,
				Result: c.result, JobID: c.job})
			want := restarts.Sight{Run: "a", Restarts: 3, Phase: c.want}
			if c.want < 0 {
				want = restarts.Sight{}
			}
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}
