package render

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

// sharedParents contain unrelated trees. Any other directory at the top of the file system or
// directly below one of them is a separate tree, and is hidden around a model.
var sharedParents = []string{"/", "/opt", "/var", "/var/lib", "/var/cache", "/var/local", "/var/opt"}

// mSRec is MS_REC of mount(2): mounts below the source are included, as in a unit file.
const mSRec = 16384

// homes are the trees of ProtectHome=.
var homes = []string{"/home", "/root", "/run/user"}

// shown lists the paths that are bound read-only into trees that are replaced by empty ones.
type shown struct {
	Empty []string // trees that become an empty file system, sorted
	Bound []string // paths bound into the empty trees, sorted
	// Writable are paths that the engine may write to, sorted. They are bound too.
	Writable []string
}

// shownPaths plans the mounts of the model, its files and an engine below a hidden tree. PID 1
// creates the parent directories inside an empty tree, so the engine's user needs no permission on
// the host's parents.
func shownPaths(in Input) shown {
	s := shown{Writable: inOrder(in.Pool.Writable)}
	trees := emptyTrees(in, slices.Concat(dataPaths(in), s.Writable))
	for _, p := range slices.Concat(wantedPaths(in), s.Writable) {
		tree := confine.Within(p, trees)
		if tree == "" && in.Prepared.Image == nil {
			continue // it is seen as it is
		}
		// In sorted order a directory comes before its contents.
		if confine.Within(p, s.Bound) == "" && !slices.Contains(s.Writable, p) {
			s.Bound = append(s.Bound, p)
		}
		// ProtectHome=tmpfs creates /root with mode 0700, which the engine's user cannot enter.
		if tree == "" {
			continue
		}
		if (confine.Within(tree, confine.ReplacedTrees()) == "" || tree == "/root") && !slices.Contains(s.Empty, tree) {
			s.Empty = append(s.Empty, tree)
		}
	}
	slices.Sort(s.Empty)
	return s
}

// dataPaths returns the paths of the model. Everything beside them is hidden.
func dataPaths(in Input) []string {
	if in.Staged.Path == "" {
		return in.Staged.Files
	}
	return slices.Concat(in.Staged.Files, []string{in.Staged.Path})
}

// wantedPaths returns the paths that the engine needs, sorted.
func wantedPaths(in Input) []string {
	want := slices.Concat(dataPaths(in), in.Prepared.ReadOnly)
	binary := in.Prepared.Binary
	if in.Prepared.Image == nil && confine.Within(binary, confine.HiddenTrees()) != "" &&
		confine.Within(binary, in.Prepared.ReadOnly) == "" {
		want = append(want, path.Dir(binary))
	}
	slices.Sort(want)
	return slices.Compact(want)
}

// emptyTrees returns the trees that are empty in the unit: the hidden ones, and those around data.
// A tree that holds one of the engine's programs stays visible, since what a program needs of the
// folders beside it is not known; of a tree with libraries alone, these are bound.
func emptyTrees(in Input, data []string) []string {
	trees := confine.HiddenTrees()
	for _, p := range data {
		if confine.Within(p, slices.Concat(confine.SystemTrees(), trees)) != "" {
			continue
		}
		tree := "/"
		for _, name := range strings.Split(strings.Trim(p, "/"), "/") {
			if !slices.Contains(sharedParents, tree) {
				break
			}
			tree = path.Join(tree, name)
		}
		holds := func(program string) bool { return confine.Within(program, []string{tree}) != "" }
		switch {
		case tree == p: // nothing around it to hide
		case holds(in.Prepared.Binary), slices.ContainsFunc(in.Prepared.Programs, holds):
		case slices.Contains(in.Prepared.ReadOnly, tree): // the engine needs all of it
		default:
			trees = append(trees, tree)
		}
	}
	if in.Prepared.Image != nil {
		trees = slices.DeleteFunc(trees, func(tree string) bool { return holdsProgram(in, tree) })
	}
	return trees
}

// protectHome makes the homes inaccessible, or empty if a path in them is bound. Those of an image
// are not the host's: where its engine is in one, they stay.
func protectHome(in Input, s shown) Line {
	holds := func(tree string) bool { return holdsProgram(in, tree) }
	if in.Prepared.Image != nil && slices.ContainsFunc(homes, holds) {
		return text("ProtectHome", "read-only", "the image's own /home and /root, where its engine is")
	}
	if slices.ContainsFunc(slices.Concat(s.Bound, s.Writable), func(p string) bool {
		return confine.Within(p, homes) != ""
	}) {
		return text("ProtectHome", "tmpfs", "/home, /root and /run/user are empty, except for what is bound below")
	}
	return text("ProtectHome", "yes", "/home, /root and /run/user are inaccessible")
}

// treeLines returns the rows that hide trees and bind paths.
func treeLines(in Input, command engine.Command, s shown) []Line {
	var lines []Line
	where := "-" // where it exists
	if in.Prepared.Image != nil {
		where += "+" // in the root directory; without it, such a path is the host's
	}
	for _, tree := range confine.ShutTrees() {
		// What an image has in such a tree is not the host's.
		images := in.Prepared.Image != nil && confine.Within(tree, []string{confine.Run}) == ""
		if slices.Contains(s.Empty, tree) || images {
			continue
		}
		lines = append(lines, list("InaccessiblePaths", where+tree,
			"other data, and the manager's own files"))
	}
	lines = append(lines, list("InaccessiblePaths", where+journalTree, "the journal"))
	lines = append(lines, controlGroups(in, where)...)
	lines = append(lines, runtimeTree(), sharedMemory(in))
	lines = append(lines, stagedTree(in)...)
	for _, tree := range s.Empty {
		lines = append(lines, Line{Section: sectionService, Key: "TemporaryFileSystem", Text: escapeSpecifiers(tree) +
			":ro",
			Why: "an empty tree replaces the host's, for what is bound below",
			Property: systemd.Property{Name: "TemporaryFileSystem",
				Value: []systemd.PathOptions{{Path: tree, Options: "ro"}}}})
	}
	lines = append(lines, runtimeBinds(len(in.Mask) > 0)...)
	lines = append(lines, gateBind(in, command)...)
	lines = append(lines, driverBinds(in)...)
	var brought []string
	for _, f := range engine.Brought(in.Pool) {
		brought = append(brought, f.Path)
	}
	for _, p := range s.Bound {
		why := "the model, and an engine in a hidden tree; the engine's user needs no permission on the parents"
		if confine.Within(p, brought) != "" {
			why = "a file that the pool's file names"
		}
		lines = append(lines, Line{Section: sectionService, Key: "BindReadOnlyPaths", Text: escapeSpecifiers(p),
			Why: why, Property: systemd.Property{Name: "BindReadOnlyPaths",
				Value: []systemd.BindMount{{Source: p, Destination: p, Flags: mSRec}}}})
	}
	lines = append(lines, socketBinds(in)...)
	lines = append(lines, temporaryBinds(in)...)
	for _, p := range s.Writable {
		lines = append(lines, Line{Section: sectionService, Key: "BindPaths", Text: escapeSpecifiers(p),
			Why: "writable of the pool file",
			Property: systemd.Property{Name: "BindPaths",
				Value: []systemd.BindMount{{Source: p, Destination: p, Flags: mSRec}}}})
	}
	return lines
}

// controlGroups hides them from an engine that does not see the host's figures in /proc either. The
// commands that PID 1 runs as root see them: the gate does, and docker's step.
func controlGroups(in Input, where string) []Line {
	if allowed(in)[relax.Proc] != "" {
		return nil
	}
	return []Line{list("InaccessiblePaths", where+"/sys/fs/cgroup",
		"the control groups: names, processes, memory and processor time of all units and logins of the host")}
}

// checkPaths rejects paths that PID 1 would reject or lose: those of the pool, and others that its
// model and engine need.
func checkPaths(in Input) ([]pool.Refusal, error) {
	var refused []pool.Refusal
	wanted := wantedPaths(in)
	for _, p := range append(wanted[:len(wanted):len(wanted)], in.Prepared.Binary) {
		if !path.IsAbs(p) || path.Clean(p) != p {
			return nil, fmt.Errorf("render %s: path %q is not absolute and clean", replica(in), p)
		}
	}
	for _, p := range inOrder(slices.Concat(dataPaths(in), shownPaths(in).Bound)) {
		if why := confine.Path(p); why != "" && p != in.Pool.Model.Path() {
			refused = append(refused, pool.Refuse("model", "Rename the file or directory.", "path %q %s", p, why))
		}
	}
	if i := in.Prepared.Image; i != nil && confine.Path(i.Root) != "" {
		refused = append(refused, pool.Refuse("provisioning.image", "Set another cache_dir in config.toml.",
			"path %q %s", i.Root, confine.Path(i.Root)))
	}
	return refused, nil
}
