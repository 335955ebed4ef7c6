package bring

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// Bounds of a directory: one that was named by mistake may hold the whole disk, or a loop of links.
const (
	maxFiles = 4096
	maxDepth = 32
)

// walk collects the files of a directory.
type walk struct {
	of    engine.File
	found Found
}

// inDirectory takes every file below a directory. A link that leads out of it is followed: a
// snapshot in the cache of Hugging Face's tools is a directory of links to files beside it.
func inDirectory(f engine.File) (Found, *Fault) {
	w := walk{of: f, found: Found{Shown: []string{f.Path}}}
	if real, err := filepath.EvalSymlinks(f.Path); err == nil && real != f.Path {
		w.found.Shown = append(w.found.Shown, real)
	}
	if fault := w.directory(f.Path, 0); fault != nil {
		return Found{}, fault
	}
	slices.Sort(w.found.Shown[1:])
	w.found.Shown = slices.Compact(w.found.Shown)
	return w.found, nil
}

func (w *walk) directory(path string, depth int) *Fault {
	info, err := os.Stat(path)
	if err != nil {
		return missing(w.of, path, err)
	}
	if perm := info.Mode().Perm(); perm&0o005 != 0o005 {
		in := ""
		if path != w.of.Path {
			in = fmt.Sprintf("has %s, which ", path)
		}
		return fail(w.of, "chmod -R o+rX "+shell.Quote(path),
			"%shas mode %04o: the engine runs as a dynamic user, which cannot enter it", in, perm)
	}
	if depth > maxDepth {
		return fail(w.of, "Remove the link that leads back to a directory above it: ls -ld "+shell.Quote(path),
			"is more than %d directories deep", maxDepth)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return missing(w.of, path, err)
	}
	for _, e := range entries {
		if fault := w.entry(filepath.Join(path, e.Name()), depth); fault != nil {
			return fault
		}
	}
	return nil
}

func (w *walk) entry(path string, depth int) *Fault {
	info, err := os.Stat(path)
	if err != nil {
		return missing(w.of, path, err)
	}
	w.links(path)
	if info.IsDir() {
		return w.directory(path, depth+1)
	}
	if fault := readable(w.of, path, info); fault != nil {
		return fault
	}
	if len(w.found.Names) == maxFiles {
		return fail(w.of, "Name a directory of its own: ls "+shell.Quote(w.of.Path),
			"contains more than %d files", maxFiles)
	}
	w.found.Names = append(w.found.Names, Identity(path, info))
	w.found.weigh(w.of, path, info)
	return nil
}

// links notes what a link in the directory leads to outside of it, link by link: the engine takes
// the same steps.
func (w *walk) links(path string) {
	for range 40 { // MAXSYMLINKS of the kernel (path_resolution(7))
		target, err := os.Readlink(path)
		if err != nil {
			return // the end of the chain, which is no link
		}
		if !filepath.IsAbs(target) {
			dir, err := filepath.EvalSymlinks(filepath.Dir(path))
			if err != nil {
				return
			}
			target = filepath.Join(dir, target)
		}
		path = filepath.Clean(target)
		if confine.Within(path, w.found.Shown) == "" {
			w.found.Shown = append(w.found.Shown, path)
		}
	}
}

// Identity names one version of a file: another inode, size or time is another version. The change
// time is part of it, since a copy can restore the modification time and cannot restore that.
func Identity(path string, info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Sprintf("%s|%d|%d", path, info.Size(), info.ModTime().UnixNano())
	}
	return fmt.Sprintf("%s|%d|%d|%d|%d|%d", path, st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
}
