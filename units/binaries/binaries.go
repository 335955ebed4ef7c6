// Package binaries finds the program that a name means on this host, and where its links lead.
//
// It looks at the file system and at nothing else: what a program needs is units/programs, and
// whether it may run is units/config.
package binaries

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pool-managerd/pool-managerd/units/programs"
)

// Folders are where a binary without a folder is looked for: the path that systemd gives to
// services, not that of the shell that started the manager.
func Folders() []string { return strings.Split(programs.DefaultPath, ":") }

// Find returns the absolute path of a binary by its path or name; empty: no folder has it. That
// what has a path exists is not looked at.
func Find(name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	for _, dir := range Folders() {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// Way is where a path leads.
type Way struct {
	Real string // the file without links
	// Loose is a folder or link on the way that a user other than root could change, and so have
	// the path lead elsewhere. Empty: there is none. The folder of Real itself does not count.
	Loose string
	Fix   string // the command that closes it
}

// maxHops is MAXSYMLINKS of path_resolution(7).
const maxHops = 40

// Follow follows the links of an absolute path, in folders too, as the kernel does.
func Follow(path string) (Way, error) {
	var w Way
	at, rest := "/", elements(path)
	for hops := 0; len(rest) > 0; {
		next := rest[0]
		rest = rest[1:]
		if next == ".." {
			at = filepath.Dir(at)
			continue
		}
		here := filepath.Join(at, next)
		info, err := os.Lstat(here)
		if err != nil {
			return Way{}, err
		}
		if info.Mode()&os.ModeSymlink == 0 {
			at = here
			continue
		}
		target, err := os.Readlink(here)
		if err != nil {
			return Way{}, err
		}
		if hops++; hops > maxHops {
			return Way{}, &os.PathError{Op: "follow", Path: path, Err: syscall.ELOOP}
		}
		if w.Loose == "" {
			w.Loose, w.Fix = loose(here)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(elements(target), rest...)
	}
	w.Real = at
	return w, nil
}

// Program checks a program of this host by its absolute path, which a unit of the package executes.
// wrong is why it is not used: it is none, or another user than root could change or replace it.
// fix is the command against that, empty where no command is known.
func Program(path string) (wrong, fix string) {
	way, err := Follow(path)
	if err != nil {
		return cause(err), ""
	}
	info, err := os.Stat(way.Real)
	switch {
	case err != nil:
		return cause(err), ""
	case !info.Mode().IsRegular():
		return "it is not a regular file", ""
	case info.Mode().Perm()&0o111 == 0:
		return "it is not executable", "chmod +x '" + way.Real + "'"
	}
	if way.Loose == "" {
		way.Loose, way.Fix = loose(way.Real)
	}
	if way.Loose != "" {
		return "other users than root can change it by " + way.Loose, way.Fix
	}
	return "", ""
}

// cause is an error without the path that os puts before it.
func cause(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return err.Error()
}

// elements are the names of a path, without the empty ones and ".".
func elements(path string) []string {
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		if name != "" && name != "." {
			names = append(names, name)
		}
	}
	return names
}

// loose returns the file or link, or the nearest folder above it, that a user other than root (or
// than the one who asks) could change or replace, and the command against that. In a folder with
// the sticky bit, only the owner of an entry can.
func loose(link string) (path, fix string) {
	for path := link; ; path = filepath.Dir(path) {
		info, err := os.Lstat(path)
		if err != nil {
			return path, ""
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
			return path, "chown -h root:root '" + path + "'"
		}
		closed := info.Mode().Perm()&0o022 == 0 || info.Mode()&os.ModeSymlink != 0
		if !closed && (!info.IsDir() || info.Mode()&os.ModeSticky == 0) {
			return path, "chmod go-w '" + path + "'"
		}
		if path == "/" {
			return "", ""
		}
	}
}
