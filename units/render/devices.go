package render

import (
	"fmt"

	"github.com/pool-managerd/pool-managerd/systemd"
)

// sharedNodes are what every CUDA program opens, whatever its GPU.
var sharedNodes = []string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"}

// checkMask refuses a unit whose devices are not those that its pool asks for: without them it
// would be given none, and an engine on the CPU, or, where a node is missing, others than its own.
func checkMask(in Input) error {
	asked := 0
	if in.Replica < len(in.Pool.Devices) {
		asked = len(in.Pool.Devices[in.Replica])
	}
	if len(in.Mask) != asked {
		return fmt.Errorf("render %s: %d devices for a mask of %d", replica(in), len(in.Mask), asked)
	}
	for _, d := range in.Mask {
		if d.Visible == "" || len(d.Nodes) == 0 {
			return fmt.Errorf("render %s: a device of its mask has no name or no device node", replica(in))
		}
	}
	return nil
}

// deviceLines open the replica's own GPUs and nothing else.
func deviceLines(devices []Device) []Line {
	lines := []Line{text("DevicePolicy", "closed",
		"no device but the harmless ones (null, zero, random) and those named here")}
	if len(devices) == 0 {
		return append(lines, yes("PrivateDevices", "no device node is even there: a CPU replica"))
	}
	lines = append(lines,
		no("PrivateDevices", "a private /dev has no GPU nodes; the device policy shuts the rest"),
		list("SupplementaryGroups", "video", "Debian's driver gives its nodes to root:video, mode 0660"))
	for _, node := range sharedNodes {
		lines = append(lines, deviceLine(node, "what every CUDA program opens"))
	}
	seen := map[string]bool{}
	for _, d := range devices {
		for _, node := range d.Nodes {
			if !seen[node] {
				seen[node] = true
				lines = append(lines, deviceLine(node, "a GPU of the device mask"))
			}
		}
	}
	return lines
}

func deviceLine(node, why string) Line {
	return Line{Section: sectionService, Key: "DeviceAllow", Text: node + " rw", Why: why,
		Property: systemd.Property{Name: "DeviceAllow",
			Value: []systemd.DevicePermission{{Path: node, Permissions: "rw"}}}}
}
