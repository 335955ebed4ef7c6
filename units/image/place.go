package image

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Place makes a place for a mount at an absolute path where the image has nothing: an empty folder
// or file, and the folders above it. Their modes are those that the caller's umask leaves.
func (t *Tree) Place(name string, folder bool) error {
	fd, err := OpenIn(t.fd, name, unix.O_PATH)
	if err == nil {
		return unix.Close(fd)
	}
	dir, base := path.Split(path.Clean(name))
	if !errors.Is(err, unix.ENOENT) || base == "" {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	if err := t.Place(dir, true); err != nil {
		return err
	}
	above, err := t.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer above.Close()
	if err := place(int(above.Fd()), base, folder); err != nil && !t.has(name) { // another replica's was first
		return &os.PathError{Op: "make", Path: name, Err: err}
	}
	return nil
}

func (t *Tree) has(name string) bool {
	_, err := t.Stat(name)
	return err == nil
}

// place makes one folder or file.
func place(above int, name string, folder bool) error {
	if folder {
		return unix.Mkdirat(above, name, 0o755)
	}
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(above, name, flags, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
