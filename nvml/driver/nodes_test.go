package driver

import (
	"io/fs"
	"slices"
	"testing"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// TestNodeFaults: what engines need of /dev, by what the driver's packages and administrators make
// of it.
func TestNodeFaults(t *testing.T) {
	const char = fs.ModeDevice | fs.ModeCharDevice
	devices := []nvml.Device{{Nodes: []string{"/dev/nvidia0"}}, {Nodes: []string{"/dev/nvidia1"},
		Partitions: []nvml.Partition{{Nodes: []string{"/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap12"}}}}}
	whole := func() map[string]node {
		return map[string]node{"/dev/nvidiactl": {char | 0o666, 0}, "/dev/nvidia-uvm": {char | 0o666, 0},
			"/dev/nvidia0": {char | 0o666, 0}, "/dev/nvidia1": {char | 0o660, 44},
			"/dev/nvidia-caps/nvidia-cap12": {char | 0o666, 0}}
	}
	for _, c := range []struct {
		name   string
		change func(map[string]node)
		noLook bool // the group video is unknown
		want   []nvml.NodeFault
	}{
		{"all_there", func(map[string]node) {}, false, nil},
		{"after_a_boot", func(n map[string]node) { delete(n, "/dev/nvidia-uvm") }, false,
			[]nvml.NodeFault{{Path: "/dev/nvidia-uvm", Missing: true}}},
		{"one_gpu", func(n map[string]node) { delete(n, "/dev/nvidia1") }, false,
			[]nvml.NodeFault{{Path: "/dev/nvidia1", Missing: true}}},
		{"a_partition", func(n map[string]node) { delete(n, "/dev/nvidia-caps/nvidia-cap12") }, false,
			[]nvml.NodeFault{{Path: "/dev/nvidia-caps/nvidia-cap12", Missing: true}}},
		{"a_file_in_its_place", func(n map[string]node) { n["/dev/nvidia-uvm"] = node{0o666, 0} }, false,
			[]nvml.NodeFault{{Path: "/dev/nvidia-uvm", Missing: true}}},
		{"only_for_root", func(n map[string]node) { n["/dev/nvidia0"] = node{char | 0o600, 0} }, false,
			[]nvml.NodeFault{{Path: "/dev/nvidia0", Mode: 0o600}}},
		{"another_group", func(n map[string]node) { n["/dev/nvidia0"] = node{char | 0o660, 105} }, false,
			[]nvml.NodeFault{{Path: "/dev/nvidia0", Mode: 0o660}}},
		{"for_the_group", func(n map[string]node) { n["/dev/nvidia-uvm"] = node{char | 0o664, 44} }, false, nil},
		{"for_reading_only", func(n map[string]node) { n["/dev/nvidia-uvm"] = node{char | 0o644, 44} }, false,
			[]nvml.NodeFault{{Path: "/dev/nvidia-uvm", Mode: 0o644}}},
		{"no_group_video", func(map[string]node) {}, true, []nvml.NodeFault{{Path: "/dev/nvidia1", Mode: 0o660}}},
		{"another_dev", func(n map[string]node) { clear(n) }, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			nodes := whole()
			c.change(nodes)
			got := nodeFaults(devices, func(path string) (node, error) {
				if n, ok := nodes[path]; ok {
					return n, nil
				}
				return node{}, fs.ErrNotExist
			}, func() (uint32, bool) { return 44, !c.noLook })
			if !slices.Equal(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
