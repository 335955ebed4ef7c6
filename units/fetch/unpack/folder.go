package unpack

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/image"
)

// existing opens a folder of the image.
func (r *Root) existing(dir string) (int, error) {
	return image.OpenIn(r.fd, dir, unix.O_PATH|unix.O_DIRECTORY)
}

// Folders makes folders that are missing: those on which a unit mounts something. One that is a
// file or a link to nowhere stays as it is.
func (r *Root) Folders(names ...string) error {
	for _, name := range names {
		fd, err := r.folder(name, 0)
		var refused *Refused
		switch {
		case errors.As(err, &refused):
		case err != nil:
			return err
		default:
			unix.Close(fd)
		}
	}
	return nil
}

// mostHops bounds the links that lead to one another.
const mostHops = 16

// folder opens a folder of the image, and makes what is missing of it.
func (r *Root) folder(dir string, hops int) (int, error) {
	fd, err := r.existing(dir)
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return -1, &Refused{dir, "is no folder, and the layer has files in it"}
	case errors.Is(err, unix.ELOOP):
		return -1, &Refused{dir, "is a link that leads to itself"}
	case !errors.Is(err, unix.ENOENT):
		return fd, err
	}
	if hops++; hops > mostHops+mostDepth || len(dir) > mostPath {
		return -1, &Refused{dir, "leads through too many links"}
	}
	above := strings.TrimPrefix(path.Dir("/"+dir), "/")
	base := path.Base(dir)
	at, err := r.folder(above, hops)
	if err != nil {
		return -1, err
	}
	defer unix.Close(at)
	if err := unix.Mkdirat(at, base, 0o755); err == nil {
		return unix.Openat(at, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	} else if !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	// A link to a folder that no layer has yet.
	buffer := make([]byte, mostPath+1)
	n, err := unix.Readlinkat(at, base, buffer)
	if err != nil {
		return -1, err
	}
	target := string(buffer[:n])
	if !path.IsAbs(target) {
		target = path.Join("/", above, target)
	}
	return r.folder(path.Clean(target)[1:], hops)
}

// remove removes a file, or a folder with all that is in it.
func remove(at int, name string) error {
	err := unix.Unlinkat(at, name, 0)
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM):
		return err
	}
	dir, names, err := list(at, name)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	for _, below := range names {
		if err := remove(dir, below); err != nil {
			return err
		}
	}
	return unix.Unlinkat(at, name, unix.AT_REMOVEDIR)
}

// clear removes from a folder what this layer has not added.
func (l *layer) clear(at int, dir string) error {
	fd, names, err := list(at, ".")
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, name := range names {
		p := path.Join(dir, name)
		if _, own := l.added[l.key(p)]; !own {
			if err := remove(fd, name); err != nil {
				return err
			}
			continue
		}
		sub, err := unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // a file of this layer
		}
		err = l.clear(sub, p)
		unix.Close(sub)
		if err != nil {
			return err
		}
	}
	return nil
}

// list opens a folder and returns the names in it.
func list(at int, name string) (fd int, names []string, err error) {
	fd, err = unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, nil, err
	}
	buffer := make([]byte, 64<<10)
	for {
		n, err := unix.ReadDirent(fd, buffer)
		if err != nil {
			unix.Close(fd)
			return -1, nil, err
		}
		if n == 0 {
			return fd, names, nil
		}
		_, _, names = unix.ParseDirent(buffer[:n], -1, names)
	}
}
