package driver

import (
	"encoding/binary"
	"strconv"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// hostUint32 reads the unsigned int in nvmlValue_t, a C union in the byte order of this host.
func hostUint32(value [8]byte) uint32 { return binary.NativeEndian.Uint32(value[:4]) }

// recoveryOf names the action of field 230 (nvml.h, nvmlDeviceGpuRecoveryAction_t). The newer
// numbers are reported as the older action that contains them: a reset of the bus is done by
// resetting the GPU, one of the system by a reboot. An unknown number is kept as a number: without
// one the GPU would appear healthy.
func recoveryOf(action uint32) nvml.Recovery {
	switch gonvml.DeviceGpuRecoveryAction(action) {
	case gonvml.GPU_RECOVERY_ACTION_NONE:
		return nvml.RecoveryNone
	case gonvml.GPU_RECOVERY_ACTION_GPU_RESET, gonvml.GPU_RECOVERY_ACTION_BUS_RESET:
		return nvml.RecoveryReset
	case gonvml.GPU_RECOVERY_ACTION_DRAIN_P2P:
		return nvml.RecoveryDrainP2P
	case gonvml.GPU_RECOVERY_ACTION_DRAIN_AND_RESET, gonvml.GPU_RECOVERY_ACTION_RECOVER_IMEX_DOMAIN:
		return nvml.RecoveryDrainAndReset
	case gonvml.GPU_RECOVERY_ACTION_NODE_REBOOT, gonvml.GPU_RECOVERY_ACTION_SYSTEM_REBOOT:
		return nvml.RecoveryReboot
	default:
		return nvml.Recovery("action-" + strconv.FormatUint(uint64(action), 10))
	}
}
