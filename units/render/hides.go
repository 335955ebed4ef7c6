package render

import (
	"strings"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/confine"
)

// Hides returns the tree around a path of the host that the unit hides from the engine; "": it
// hides none, or shows the path. A unit without lines hides what every engine's does.
func (u Unit) Hides(path string) (tree string) {
	hidden := confine.HiddenTrees()
	for _, line := range u.Lines {
		switch v := line.Property.Value.(type) {
		case []systemd.BindMount:
			for _, mount := range v {
				if mount.Source == mount.Destination && confine.Within(path, []string{mount.Destination}) != "" {
					return ""
				}
			}
		case []systemd.PathOptions:
			for _, tree := range v {
				if tree.Path != sharedMemoryPath && tree.Path != stagedTemp {
					hidden = append(hidden, tree.Path)
				}
			}
		case []string:
			if line.Key == "InaccessiblePaths" {
				hidden = append(hidden, strings.TrimLeft(v[0], "-+"))
			}
		}
	}
	return confine.Within(path, hidden)
}
