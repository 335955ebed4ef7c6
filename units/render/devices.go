package render

import (
	"fmt"
	"slices"

	"github.com/pool-managerd/pool-managerd/systemd"
)

// sharedNodes are the device nodes that every CUDA program opens.
var sharedNodes = []string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"}

// checkMask rejects a unit whose devices do not match its pool: the engine would run on the CPU or
// fail on a missing node.
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
			return fmt.Errorf("render %s: a device of its mask has no UUID or no device node", replica(in))
		}
	}
	return nil
}

// deviceLines allow the replica's own GPUs and no other device.
func deviceLines(devices []Device) []Line {
	lines := []Line{text("DevicePolicy", "closed",
		"no device except null, zero, random and the like, and those named here")}
	if len(devices) == 0 {
		return append(lines, yes("PrivateDevices", "a CPU replica: /dev has no hardware device nodes"))
	}
	lines = append(lines,
		no("PrivateDevices", "a private /dev has no GPU nodes; the device policy blocks the others"),
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

// neededNodes are those without which no CUDA program can use its devices.
func neededNodes(devices []Device) (nodes []string) {
	for _, d := range devices {
		for _, node := range d.Nodes {
			if !slices.Contains(nodes, node) {
				nodes = append(nodes, node)
			}
		}
	}
	if len(nodes) > 0 {
		nodes = append(nodes, sharedNodes[1])
	}
	return nodes
}

func deviceLine(node, why string) Line {
	return Line{Section: sectionService, Key: "DeviceAllow", Text: node + " rw", Why: why,
		Property: systemd.Property{Name: "DeviceAllow",
			Value: []systemd.DevicePermission{{Path: node, Permissions: "rw"}}}}
}
