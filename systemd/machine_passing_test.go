//go:build machine

package systemd

import (
	"fmt"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// TestMachineFailedOnTheWayToARestart: PID 1 below systemd 254 signals units as "failed" that it
// restarts. No update shows them so, no answer of PID 1 ever does, and one that stays failed is
// shown.
func TestMachineFailedOnTheWayToARestart(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	const units, burst = 8, 4
	limit := []Property{{"StartLimitIntervalUSec", uint64(60_000_000)}, {"StartLimitBurst", uint32(burst)}}
	always := []Property{{"StartLimitIntervalUSec", uint64(0)}}
	// The start job is under way when the process ends: its end has PID 1 signal the state before.
	props := func(more []Property) []Property {
		gate := []ExecCommand{{Path: "/bin/sleep", Args: []string{"sleep", "10"}}}
		return service("sleep 0.05; exit 1", append([]Property{{"Restart", "on-failure"},
			{"RestartUSec", uint64(100_000)}, {"ExecStartPostEx", gate}}, more...)...)
	}
	begin := func(unit string, more []Property) {
		f.cleanup(unit)
		if _, err := f.StartTransient(timeout(t), unit, props(more)); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for i := range units {
		names = append(names, fmt.Sprintf("pmd-test@passing%d.service", i))
		begin(names[i], always)
	}
	answered := make(map[string]int)
	end := time.Now().Add(5 * time.Second)
	raw := rawBus(t)
	for time.Now().Before(end) {
		for _, unit := range names {
			var state dbus.Variant
			if err := raw.Object(busName, unitPath(unit)).Call(propsInterface+".Get", 0, unitInterface,
				"ActiveState").Store(&state); err != nil {
				t.Fatal(err)
			}
			text, _ := state.Value().(string)
			answered[text]++
		}
	}
	const stays = "pmd-test@staying.service"
	begin(stays, limit)
	st := f.awaitUnit(stays, "failed for good", func(s Status) bool { return s.SubState == "failed" })
	if st.ActiveState != "failed" || st.NRestarts < burst-1 {
		t.Errorf("the unit at its start limit: %s", brief(st))
	}
	passed, restarts := 0, 0
	for _, unit := range names {
		for _, st := range statuses(f.all(), unit) {
			switch st.SubState {
			case "failed":
				t.Errorf("shown as failed on its way to a restart: %s", brief(st))
			case failedBeforeRestart, "auto-restart", "auto-restart-queued":
				passed++ // the first is over where why the start failed was read by then
			}
			restarts = max(restarts, st.NRestarts)
		}
	}
	if !f.awaitSynced(1).Features.Has("RestartMode") && answered["failed"] > 0 {
		t.Errorf("PID 1 answers that a unit failed that it restarts: %v", answered)
	}
	if passed == 0 || restarts == 0 {
		t.Errorf("%d times seen before a restart, %d restarts: nothing was tried", passed, restarts)
	}
	t.Logf("answers %v; %d times on the way to a restart", answered, passed)
}
