package memory

import (
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/engine"
)

// claimed returns the need of an engine that takes a share of each GPU whatever the model. ok is
// false if it claims none or a target's size is unknown.
func claimed(claim engine.Claim, targets []devices.Target) (need Need, ok bool) {
	if claim.Share == 0 {
		return Need{}, false
	}
	bytes := make([]uint64, len(targets))
	for i, t := range targets {
		if t.Total == 0 {
			return Need{}, false
		}
		bytes[i] = uint64(float64(t.Total) * claim.Share)
	}
	need = onDevices(Claimed, targets, bytes)
	need.ClaimFlag = claim.Flag
	return need, len(targets) > 0
}
