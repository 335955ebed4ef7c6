package convert

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// notePaths adds a note for each path of a pool that its engine may not write to, and for each in a
// tree that is hidden from it and that no known option names.
func (d *draft) notePaths(p pool.Pool) {
	own := slices.Concat(confine.OwnTrees(), []string{"/tmp", "/var/tmp"}, p.Writable)
	known := []string{strings.TrimPrefix(string(p.Model), "file:")}
	if p.Provisioning.Binary != "" {
		known = append(known, p.Provisioning.Binary)
	}
	for _, f := range engine.Written(p) {
		known = append(known, f.Path)
		if !filepath.IsAbs(f.Path) || confine.Within(filepath.Clean(f.Path), own) != "" {
			continue
		}
		d.notes = append(d.notes, d.from.note("%s: an engine may write to its own directories alone: %s", f.Path,
			writableBy(f.Path)))
	}
	for _, f := range engine.Brought(p) {
		known = append(known, f.Path)
	}
	for _, name := range named(p) {
		tree := confine.Within(name, []string{"/home", "/root", "/srv", "/mnt", "/media"})
		holds := func(k string) bool { return confine.Within(k, []string{name}) != "" } // of a variable for directories
		if tree == "" || confine.Within(name, known) != "" || slices.ContainsFunc(known, holds) {
			continue
		}
		write := ""
		if path.Ext(name) == "" {
			write = "; if it writes there: " + writableBy(name)
		}
		d.notes = append(d.notes, d.from.note("%s: an engine sees nothing of %s but its model and what known options "+
			"name: if it reads this, write files = [%q]%s", name, tree, name, write))
	}
}

// writableBy is what to write so that an engine may write to a path.
func writableBy(p string) string {
	const relative = "write a path without a / at its beginning, which is below its state directory"
	dir := filepath.Clean(p)
	if path.Ext(dir) != "" {
		dir = path.Dir(dir)
	}
	if confine.Unwritable(dir) != "" {
		return relative
	}
	return relative + `, or writable = ["` + dir + `"], a directory that others may write to`
}

// searched are variables whose directories are found in another way.
var searched = []string{"PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CUDA_HOME"}

// named returns the absolute paths that are a whole argument, the value of one, or that of a
// variable, each once.
func named(p pool.Pool) (paths []string) {
	add := func(word string) {
		if clean := filepath.Clean(word); filepath.IsAbs(word) && !strings.ContainsAny(word, ":{}$,") &&
			!slices.Contains(paths, clean) {
			paths = append(paths, clean)
		}
	}
	for _, a := range p.Args {
		if _, value, found := strings.Cut(a, "="); found && strings.HasPrefix(a, "-") {
			a = value
		}
		add(a)
	}
	var names []string
	for name := range p.Env {
		if !slices.Contains(searched, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		add(p.Env[name])
	}
	return paths
}
