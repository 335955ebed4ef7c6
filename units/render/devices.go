package render

import (
	"fmt"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
)

// device is one entry of a mask, resolved.
type device struct {
	Visible string
	Nodes   []string
}

// sharedNodes are what every CUDA program opens, whatever its GPU.
var sharedNodes = []string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"}

// maskOf resolves the replica's device mask. An entry that is neither known to the host nor a plain
// index is refused: its node cannot be told, and opening them all would break the promise that an
// engine reaches no GPU but its own.
func maskOf(in Input) ([]device, error) {
	if in.Replica >= len(in.Pool.Devices) {
		return nil, nil
	}
	mask := in.Pool.Devices[in.Replica]
	devices := make([]device, len(mask))
	for i, entry := range mask {
		switch known, ok := in.Host.Devices[entry]; {
		case ok:
			devices[i] = device(known)
		case entry != "" && strings.Trim(entry, "0123456789") == "":
			devices[i] = device{Visible: entry, Nodes: []string{"/dev/nvidia" + entry}}
		default:
			return nil, registry.Fail(registry.CodeConfigInvalid,
				fmt.Sprintf("device %q of replica %s cannot be matched to a device node on this host", entry, replica(in).Name()),
				"Name the GPU by its index, as nvidia-smi prints it.")
		}
	}
	return devices, nil
}

// deviceLines open the replica's own GPUs and nothing else.
func deviceLines(devices []device) []Line {
	lines := []Line{text("DevicePolicy", "closed", "no device but the harmless ones (null, zero, random) and those named here")}
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
				lines = append(lines, deviceLine(node, "a GPU of the device mask; a plain index is taken as the driver's minor number, and a wrong one shuts the GPU out instead of opening another engine's"))
			}
		}
	}
	return lines
}

func deviceLine(node, why string) Line {
	return Line{Section: sectionService, Key: "DeviceAllow", Text: node + " rw", Why: why,
		Property: systemd.Property{Name: "DeviceAllow", Value: []systemd.DevicePermission{{Path: node, Permissions: "rw"}}}}
}
