package image

import (
	"errors"
	"io/fs"
	"os"

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

func (t *Tree) open(path string, flags int) (*os.File, error) {
	fd, err := OpenIn(t.fd, path, flags)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Stat returns what an absolute path leads to.
func (t *Tree) Stat(path string) (fs.FileInfo, error) {
	f, err := t.open(path, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

// Head returns the first bytes of the file that an absolute path leads to.
func (t *Tree) Head(path string, n int) ([]byte, error) {
	f, err := t.open(path, unix.O_RDONLY|unix.O_NONBLOCK)
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
