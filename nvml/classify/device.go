package classify

import (
	"fmt"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// Event classifies a driver event.
func Event(e nvml.Event) Verdict {
	var v Verdict
	switch e.Kind {
	case nvml.EventXid:
		v = classifyXid(SourceEvent, e.Code, e.Text)
	case nvml.EventECCDouble:
		v = rowECC.verdict("an uncorrectable double bit ECC error")
	case nvml.EventUnavailable:
		v = rowUnavailable.verdict("the driver reports that the GPU is unavailable")
	case nvml.EventRecovery:
		r, ok := recoveryRow(e.Code)
		if !ok {
			r = rowUnknownEvent
		}
		v = r.verdict(fmt.Sprintf("the driver's recovery action has changed: %s", r.when))
		v.Source = SourceEvent
	case nvml.EventMissed:
		v = rowMissed.verdict("driver events may have been missed")
	default:
		v = rowUnknownEvent.verdict(fmt.Sprintf("a driver event of the unknown kind %q", e.Kind))
	}
	v.Device = e.Device
	return v.in(e.GI, e.CI)
}

// Device classifies the facts of a GPU itself, by the worst of them. ok is false if nothing is
// wrong.
func Device(d nvml.Device) (v Verdict, ok bool) {
	r, text, ok := deviceRow(d)
	if !ok {
		return Verdict{}, false
	}
	v = r.verdict(text)
	v.Device, v.PCI = d.UUID, d.PCI
	return v, true
}

func deviceRow(d nvml.Device) (row, string, bool) {
	if r, ok := recoveryRows[d.Recovery]; ok && r.class == ClassHost {
		return r, "the driver asks for a reboot of the host", true
	}
	if p := d.Problem; p != nil {
		switch p.Kind {
		case nvml.ProblemLost:
			return rowLost, p.Text, true
		case nvml.ProblemReset:
			return rowResetRequired, p.Text, true
		}
	}
	if r, ok := recoveryRows[d.Recovery]; ok && r.class == ClassReset {
		return r, "the driver asks for a reset of the GPU (" + string(d.Recovery) + ")", true
	}
	switch {
	case d.Problem != nil:
		return rowNoAnswer, d.Problem.Text, true
	case d.Remap != nil && d.Remap.Failed:
		return rowRemapFailed, "a bad row of the GPU's memory could not be replaced", true
	case d.Recovery == nvml.RecoveryDrainP2P:
		return rowRecoveryP2P, "the driver asks that traffic between GPUs be stopped", true
	case d.Recovery != "" && d.Recovery != nvml.RecoveryNone:
		return rowRecoveryOther, "the driver asks for an unknown action (" + string(d.Recovery) + ")",
			true
	case d.Remap != nil && d.Remap.Pending:
		return rowRemapPending, "a bad row of the GPU's memory will be replaced at the next reset", true
	}
	return row{}, "", false
}

// recoveryRows classify nvml.Device.Recovery.
var recoveryRows = map[nvml.Recovery]row{
	nvml.RecoveryNone: rowRecoveryNone, nvml.RecoveryReset: rowRecoveryReset, nvml.RecoveryReboot: rowRecoveryReboot,
	nvml.RecoveryDrainP2P: rowRecoveryP2P, nvml.RecoveryDrainAndReset: rowRecoveryDrain,
}

// recoveryRow returns the row of a recovery action's number, NVML_GPU_RECOVERY_ACTION_* of nvml.h.
// 5 to 7 (recover the IMEX domain, reset the bus, reboot the system) are newer, and are reported as
// the older action that contains them.
func recoveryRow(n int) (row, bool) {
	byNumber := []nvml.Recovery{nvml.RecoveryNone, nvml.RecoveryReset, nvml.RecoveryReboot, nvml.RecoveryDrainP2P, nvml.RecoveryDrainAndReset,
		nvml.RecoveryDrainAndReset, nvml.RecoveryReset, nvml.RecoveryReboot}
	if n < 0 || n >= len(byNumber) {
		return row{}, false
	}
	return recoveryRows[byNumber[n]], true
}
