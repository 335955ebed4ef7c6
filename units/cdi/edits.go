package cdi

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// editor collects what a container needs.
type editor struct {
	edits Edits
	links [][2]string // what a link leads to, and where it is
}

// notMounted are trees of the container that are the unit's own. What the files have for them is
// sockets of the driver's services, and device nodes.
var notMounted = []string{"/dev", "/proc", "/run", "/sys", "/tmp", "/var/run", "/var/tmp"}

func (e *editor) take(from string, c containerEdits) error {
	wrong := func(format string, args ...any) error {
		return &Error{from + ": " + fmt.Sprintf(format, args...), "Write it again: " + Generate}
	}
	for _, assignment := range c.Env {
		if name, _, found := strings.Cut(assignment, "="); !found || name == "" || strings.ContainsRune(assignment, 0) {
			return wrong("%.300q is no assignment of a variable", assignment)
		}
		e.edits.Env = append(e.edits.Env, assignment)
	}
	for _, m := range c.Mounts {
		host, err := checked(m.Host)
		inside, err2 := checked(m.Inside)
		if err := errors.Join(err, err2); err != nil || inside == "/" {
			return wrong("a mount from %.300q to %.300q cannot be made", m.Host, m.Inside)
		}
		if slices.ContainsFunc(notMounted, func(tree string) bool { return within(inside, tree) }) {
			continue
		}
		info, err := os.Stat(host)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return &Error{fmt.Sprintf("%s names %s, which does not exist: the driver was changed since", from, host),
				"Write it again: " + Generate}
		case err != nil:
			return wrong("%v", err)
		case !info.Mode().IsRegular() && !info.IsDir():
			continue
		}
		if e.add(host, inside); len(e.edits.Mounts) > mostMounts {
			return wrong("it has more than %d mounts", mostMounts)
		}
	}
	for _, h := range c.Hooks {
		e.hook(h.Args)
	}
	return nil
}

func within(p, tree string) bool { return p == tree || strings.HasPrefix(p, tree+"/") }

// add adds a mount, unless something is there already.
func (e *editor) add(host, inside string) {
	if !slices.ContainsFunc(e.edits.Mounts, func(m Mount) bool { return m.Inside == inside }) {
		e.edits.Mounts = append(e.edits.Mounts, Mount{host, inside})
	}
}

// hook takes what NVIDIA's hooks would make in a container: links, and folders of libraries.
func (e *editor) hook(args []string) {
	for i := 0; i < len(args); i++ {
		name, value, inline := strings.Cut(args[i], "=")
		if name != "--link" && name != "--folder" {
			continue
		}
		if !inline {
			if i++; i == len(args) {
				return
			}
			value = args[i]
		}
		if name == "--folder" {
			e.folder(value)
		} else if target, link, found := strings.Cut(value, "::"); found {
			e.links = append(e.links, [2]string{target, link})
		}
	}
}

func (e *editor) folder(dir string) {
	dir, err := checked(dir)
	if err == nil && !strings.Contains(dir, ":") && !slices.Contains(e.edits.Folders, dir) {
		e.edits.Folders = append(e.edits.Folders, dir)
	}
}

// done gives each library the names by which programs ask for it: in a container, ldconfig and
// links would.
func (e *editor) done() Edits {
	for _, m := range slices.Clone(e.edits.Mounts) {
		if !isLibrary(m.Inside) {
			continue
		}
		e.folder(path.Dir(m.Inside))
		name := soname(m.Host)
		if name == "" {
			name = path.Base(m.Inside)
		}
		e.edits.Libraries = append(e.edits.Libraries, name)
		e.add(m.Host, path.Join(path.Dir(m.Inside), name))
	}
	for range 2 { // a link may lead to another
		for _, l := range e.links {
			e.link(l[0], l[1])
		}
	}
	return e.edits
}

func (e *editor) link(target, at string) {
	at, err := checked(at)
	if err != nil {
		return
	}
	if !path.IsAbs(target) {
		target = path.Join(path.Dir(at), target)
	}
	target = path.Clean(target)
	for _, m := range e.edits.Mounts {
		if m.Inside == target {
			e.add(m.Host, at)
			return
		}
	}
}

func isLibrary(p string) bool {
	base := path.Base(p)
	return strings.HasPrefix(base, "lib") && (strings.HasSuffix(base, ".so") || strings.Contains(base, ".so."))
}

// soname is the name that a library has for the dynamic loader; "": none, or it is no library.
func soname(file string) string {
	f, err := elf.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	names, err := f.DynString(elf.DT_SONAME)
	if err != nil || len(names) != 1 || names[0] == "" || strings.ContainsAny(names[0], "/\n") {
		return ""
	}
	return names[0]
}
