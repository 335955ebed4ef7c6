package image

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of a path while it is followed: those of path_resolution(7).
const (
	mostLinks = 40
	mostParts = 4096
)

// OpenIn opens what a path leads to for a process whose root is a directory: links lead nowhere
// else, whatever they say. The flags are those of open(2); no file is made. It is openat2(2) with
// RESOLVE_IN_ROOT, which RestrictSUIDSGID= of the units that need it forbids.
func OpenIn(root int, name string, flags int) (int, error) {
	w := walk{root: root}
	defer w.close(0)
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			w.close(max(len(w.at)-1, 0))
			continue
		}
		target, err := w.enter(part)
		if err != nil {
			return -1, err
		}
		if target == "" {
			continue
		}
		if links++; links > mostLinks || len(rest) > mostParts {
			return -1, unix.ELOOP
		}
		if path.IsAbs(target) {
			w.close(0)
		}
		rest = slices.Concat(strings.Split(target, "/"), rest)
	}
	return w.reopen(flags)
}

// walk is where a path has led so far: each name below the root, and what it was.
type walk struct {
	root int
	at   []int
	last string // name of the last of them
}

func (w *walk) top() int {
	if len(w.at) == 0 {
		return w.root
	}
	return w.at[len(w.at)-1]
}

// enter goes one name further, or returns what the link of that name says.
func (w *walk) enter(name string) (target string, err error) {
	fd, err := unix.Openat(w.top(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		w.at, w.last = append(w.at, fd), name
		return "", nil
	}
	defer unix.Close(fd)
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buffer)
	if err == nil && n == 0 {
		err = unix.ENOENT
	}
	return string(buffer[:max(n, 0)]), err
}

// close leaves all but the first n names.
func (w *walk) close(n int) {
	for _, fd := range w.at[n:] {
		unix.Close(fd)
	}
	w.at, w.last = w.at[:n], "."
}

// reopen opens what was reached as the caller wants it.
func (w *walk) reopen(flags int) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	if len(w.at) == 0 || w.last == "." {
		return unix.Openat(w.top(), ".", flags, 0)
	}
	above := w.root
	if len(w.at) > 1 {
		above = w.at[len(w.at)-2]
	}
	return unix.Openat(above, w.last, flags, 0)
}
