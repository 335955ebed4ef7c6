package driver

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// videoGroup is the group that engines have besides their user: Debian's driver gives its nodes to
// it.
const videoGroup = "video"

// node is what is known of a device node.
type node struct {
	mode fs.FileMode
	gid  uint32
}

// nodeFaults returns the nodes that engines need and could not use: those that every CUDA program
// opens, and those of the devices. NVML itself opens the control node, so that where this process
// does not see that one it does not see the host's nodes, and nothing is known of the others.
func nodeFaults(devices []nvml.Device, look func(path string) (node, error),
	video func() (gid uint32, ok bool)) []nvml.NodeFault {
	if _, err := look(nvml.ControlNode); err != nil {
		return nil
	}
	paths := []string{nvml.ControlNode, nvml.MemoryNode}
	for _, d := range devices {
		paths = append(paths, d.Nodes...)
		for _, p := range d.Partitions {
			paths = append(paths, p.Nodes...)
		}
	}
	slices.Sort(paths)
	var faults []nvml.NodeFault
	for _, path := range slices.Compact(paths) {
		n, err := look(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			faults = append(faults, nvml.NodeFault{Path: path, Missing: true})
		case err != nil: // not known
		case n.mode.Type() != fs.ModeDevice|fs.ModeCharDevice:
			faults = append(faults, nvml.NodeFault{Path: path, Missing: true})
		case !usable(n, video):
			faults = append(faults, nvml.NodeFault{Path: path, Mode: uint32(n.mode.Perm())})
		}
	}
	return faults
}

// usable reports whether a user of the group video may read and write the node.
func usable(n node, video func() (gid uint32, ok bool)) bool {
	const all, group = 0o006, 0o060
	if n.mode&all == all {
		return true
	}
	gid, ok := video()
	return ok && gid == n.gid && n.mode&group == group
}

func lookAt(path string) (node, error) {
	info, err := os.Stat(path)
	if err != nil {
		return node{}, err
	}
	n := node{mode: info.Mode()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		n.gid = st.Gid
	}
	return n, nil
}

func videoGID() (gid uint32, ok bool) {
	g, err := user.LookupGroup(videoGroup)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(n), err == nil
}
