package supervise

import (
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/restarts"
)

// SightOf is what a status says of the unit's newest run, for the count of failed runs. What
// NRestarts is in each state was recorded on systemd 262 (test/restarttrace).
//
// It is empty while it is unknown whose state it is. A start gives the unit its next InvocationID
// and the result "success" before it leaves the state of the former run (seen on 262), and a run
// that ended with status 0 has this result, too.
func SightOf(st systemd.Status) restarts.Sight {
	if st.Result == "success" && st.JobID != 0 &&
		(st.SubState == "auto-restart-queued" || st.ActiveState == "inactive") {
		return restarts.Sight{}
	}
	return restarts.Sight{Run: st.InvocationID, Restarts: st.NRestarts, Phase: countedPhase(st)}
}

func countedPhase(st systemd.Status) restarts.Phase {
	switch st.SubState {
	case "auto-restart-queued":
		return restarts.PhaseQueued
	case "auto-restart":
		// Below systemd 254 a queued restart has no state of its own: its job shows.
		if st.JobID != 0 {
			return restarts.PhaseQueued
		}
		return restarts.PhaseFailed
	case "dead-before-auto-restart":
		return restarts.PhaseFailed
	case "failed-before-auto-restart":
		// Below systemd 254 it may be a unit at its start limit, until that is known.
		return restarts.PhaseOver
	}
	switch st.ActiveState {
	case "inactive":
		return restarts.PhaseDown
	case "failed", "maintenance":
		if st.Result == startLimitHit {
			return restarts.PhaseDown // the refused restart is counted, a refused start by hand is not
		}
		return restarts.PhaseOver // below 262 the start limit leaves the result of the last run
	}
	return restarts.PhaseRuns
}
