package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Tree is the file system of an unpacked image, as a program in it sees it: links lead to where
// they lead with the image as the root directory.
type Tree struct {
	fd  int
	dir string
}

// OpenTree opens the file system of an unpacked image.
func OpenTree(root string) (*Tree, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	return &Tree{fd, root}, nil
}

// Close closes it.
func (t *Tree) Close() { unix.Close(t.fd) }

func (t *Tree) open(name string, flags int) (*os.File, error) {
	fd, err := OpenIn(t.fd, name, flags)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Stat returns what an absolute path leads to.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	f, err := t.open(name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

// Head returns the first bytes of the file that an absolute path leads to.
func (t *Tree) Head(name string, n int) ([]byte, error) {
	f, err := t.open(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, n)
	got, err := f.Read(head)
	return head[:got], err
}

// errNoLinks means that a file system cannot read links, which that of os.Root can.
var errNoLinks = errors.New("links cannot be read")

// FS returns the files for readers that follow links themselves, and a function that closes it.
func (t *Tree) FS() (fs.ReadLinkFS, func() error, error) {
	root, err := os.OpenRoot(t.dir)
	if err != nil {
		return nil, nil, err
	}
	files, ok := root.FS().(fs.ReadLinkFS)
	if !ok {
		return nil, nil, errors.Join(errNoLinks, root.Close())
	}
	return files, root.Close, nil
}

// Where returns the absolute path in the image that a path leads to, without links.
func (t *Tree) Where(name string) (string, error) {
	f, err := t.open(name, unix.O_PATH)
	if err != nil {
		return "", err
	}
	defer f.Close()
	root, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", t.fd))
	if err != nil {
		return "", err
	}
	at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return "", err
	}
	rest, found := strings.CutPrefix(at, root)
	if !found {
		return "", &os.PathError{Op: "look for", Path: name, Err: unix.EXDEV}
	}
	return path.Join("/", rest), nil
}
