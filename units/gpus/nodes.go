package gpus

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/devices"
)

// NoNode says which device node a new process with this mask could not open; nil: none is known. It
// concerns starts alone, since what runs has its nodes open.
func (b *Board) NoNode(mask []devices.Target) *registry.Failure {
	if b.snapshot == nil || len(mask) == 0 {
		return nil
	}
	for _, f := range b.snapshot.Driver.NodeFaults {
		shared := f.Path == nvml.ControlNode || f.Path == nvml.MemoryNode
		own := slices.IndexFunc(mask, func(t devices.Target) bool { return slices.Contains(t.Nodes, f.Path) })
		if !shared && own < 0 {
			continue
		}
		if f.Missing {
			return registry.Fail(registry.CodeGPUUnavailable, "the device node "+f.Path+" does not exist",
				"Run "+nodeMaker(f.Path)+", and have it run at each boot; the engine starts when the node appears.")
		}
		return registry.Fail(registry.CodeGPUUnavailable,
			fmt.Sprintf("the device node %s has mode %04o, and engines may not open it", f.Path, f.Mode),
			fmt.Sprintf("Run chmod 0666 %s, or give it to the group video with mode 0660 (NVreg_DeviceFileMode= of "+
				"the nvidia module); the engine starts then.", f.Path))
	}
	return nil
}

// nodeMaker is the command that makes a device node (nvidia-modprobe(1)).
func nodeMaker(path string) string {
	number, isGPU := strings.CutPrefix(path, "/dev/nvidia")
	switch {
	case path == nvml.MemoryNode:
		return "nvidia-modprobe -u -c0"
	case isGPU && strings.Trim(number, "0123456789") == "":
		return "nvidia-modprobe -c" + number
	case strings.HasPrefix(path, "/dev/nvidia-caps/nvidia-cap"):
		return "nvidia-modprobe -f /proc/driver/nvidia/capabilities/mig/config"
	}
	return "nvidia-modprobe"
}
