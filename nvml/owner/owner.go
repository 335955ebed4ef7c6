// Package owner finds the systemd unit that a process belongs to, by its control group, and whether
// a unit's control group still has a process. A process can fake its name, but not its control
// group.
//
// It reads only /proc and the cgroup tree. It does not call systemd, and knows neither pools nor
// GPUs.
package owner

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Slice contains the units of all engines.
const Slice = "pool-engines.slice"

// Group is the control group of a process.
type Group struct {
	Unit   string // "pool-engine@llama3.r0.service", as in systemd; empty: the process is in no unit
	Path   string // of the unit's group below the root of the tree, "/pool.slice/…/pool-engine@llama3.r0.service"
	Engine bool   // the unit is below Slice
}

// Parse parses /proc/PID/cgroup (cgroups(7)): the unified hierarchy, else systemd's named one. The
// unit is the first part of the path after the slices (systemd's cg_path_get_unit), so a process in
// a sub-group that the unit created counts too.
func Parse(text string) Group {
	unified, named := "", ""
	for line := range strings.Lines(text) {
		hierarchy, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, at, ok := strings.Cut(rest, ":")
		switch {
		case !ok:
		case hierarchy == "0" && controllers == "":
			unified = at
		case controllers == "name=systemd":
			named = at
		}
	}
	if g := groupOf(unified); g.Unit != "" {
		return g
	}
	return groupOf(named) // a host with the hybrid layout may have its units there
}

func groupOf(at string) Group {
	var g Group
	if !strings.HasPrefix(at, "/") {
		return g
	}
	parts := strings.Split(at[1:], "/")
	for i, part := range parts {
		// systemd's cg_escape: it prefixes names that would collide with the kernel's files
		name := strings.TrimPrefix(part, "_")
		if strings.HasSuffix(name, ".slice") {
			g.Engine = g.Engine || name == Slice
			continue
		}
		if !isUnit(name) {
			break
		}
		g.Unit, g.Path = name, "/"+strings.Join(parts[:i+1], "/")
		return g
	}
	return Group{}
}

func isUnit(name string) bool {
	base, ok := strings.CutSuffix(name, ".service")
	if !ok {
		base, ok = strings.CutSuffix(name, ".scope")
	}
	return ok && base != ""
}

// Tree is where processes and control groups are read. Empty fields mean the usual paths.
type Tree struct {
	Proc string // /proc
	// of the cgroup hierarchy with systemd's units: /sys/fs/cgroup, or one level deeper on a hybrid
	// host
	Mounts []string
}

// Of returns the control group of a process; the zero Group if the process has ended or is in no
// unit.
func (t Tree) Of(pid int) Group {
	text, err := os.ReadFile(filepath.Join(cmp.Or(t.Proc, "/proc"), strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return Group{}
	}
	return Parse(string(text))
}

// Lives reports whether the tree has a process of that number. A driver reports processes of other
// PID namespaces by numbers that mean nothing here.
func (t Tree) Lives(pid int) bool {
	if pid <= 0 {
		return false
	}
	_, err := os.Stat(filepath.Join(cmp.Or(t.Proc, "/proc"), strconv.Itoa(pid)))
	return err == nil
}

// Populated reports whether the unit's control group or one below it has a process (cgroup.events,
// cgroups(7)). It returns false only if the group does not exist or is reported as empty; errors
// count as populated.
func (t Tree) Populated(g Group) bool {
	if g.Path == "" {
		return true
	}
	mounts := t.Mounts
	if mounts == nil {
		mounts = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"}
	}
	known := false
	for _, mount := range mounts {
		if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err != nil {
			continue // not a hierarchy
		}
		text, err := os.ReadFile(filepath.Join(mount, path.Clean(g.Path), "cgroup.events"))
		switch {
		case err == nil:
			return !strings.Contains(string(text), "populated 0")
		case errors.Is(err, fs.ErrNotExist):
			known = true
			if _, err := os.Stat(filepath.Join(mount, path.Clean(g.Path))); err == nil {
				return true // cgroup v1 has no such file
			}
		default:
			return true
		}
	}
	return !known
}
