package confine

import (
	"path"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// unshownTrees are those of which a pool may not show its engine anything: what other programs and
// the manager keep there is not for engines, and the rest is the unit's own.
func unshownTrees() []string {
	return []string{
		Run, "/var/run", "/proc", "/sys", "/dev", "/var/lib/pool-managerd", "/var/lib/private", "/var/cache/private",
	}
}

// OwnTrees are where an engine may find files that it has made itself, besides what a pool lets it
// write to, and devices that read as files.
func OwnTrees() []string {
	return []string{"/var/lib/pool-engine", "/var/cache/pool-engine", "/dev", "/proc"}
}

// Unshown returns why a file or directory may not be shown to an engine; "": it may.
func Unshown(p string) string {
	if p == "" || p[0] != '/' {
		return "is not an absolute path"
	}
	if why := Path(p); why != "" {
		return why
	}
	clean := path.Clean(p)
	if tree := Within(clean, unshownTrees()); tree != "" {
		return "is in " + tree + ", of which an engine sees nothing"
	}
	for _, tree := range slices.Concat(unshownTrees(), ShutTrees(), []string{"/home/x"}) {
		if clean == "/" || strings.HasPrefix(tree, clean+"/") || clean == tree && tree == "/etc/pool-managerd" {
			return "is a directory that holds more than one program's files"
		}
	}
	return ""
}

// brought refuses files that cannot be shown to the engine. What it may write to is bound already.
func brought(p pool.Pool) []pool.Refusal {
	var refused []pool.Refusal
	for _, f := range engine.Brought(p) {
		if !path.IsAbs(f.Path) {
			refused = append(refused, pool.Refuse(f.Key,
				"Write the absolute path: an engine begins in its state directory.",
				"%s is %q, a relative path", f.What(), f.Path))
			continue
		}
		if Within(f.Path, slices.Concat(OwnTrees(), p.Writable)) != "" {
			continue
		}
		if why := Unshown(f.Path); why != "" {
			refused = append(refused, pool.Refuse(f.Key, "Move or rename it.", "%s is %q, which %s", f.What(), f.Path,
				why))
		}
	}
	return refused
}
