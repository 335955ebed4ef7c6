package library

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotThere is that no artefact has a file of a digest.
var ErrNotThere = errors.New("no file of the cache has this digest")

// OpenDigest opens the whole file of a cache that is kept by a digest, sha256:…: one that every
// user of the host may read, and no link. What it contains is not compared with its name.
func OpenDigest(cacheDir, digest string) (*os.File, error) {
	hex, is := strings.CutPrefix(digest, "sha256:")
	if !is || !hexDigits(hex, 64) {
		return nil, ErrNotThere
	}
	root, err := os.OpenRoot(cacheDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotThere
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if f := openBlob(root, path.Join(e.Name(), "blobs", hex)); f != nil {
			return f, nil
		}
	}
	return nil, ErrNotThere
}

// openBlob opens a file that may be handed out; nil: there is none.
func openBlob(root *os.Root, name string) *os.File {
	// not blocking: what was a file a moment ago may be a pipe
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o004 == 0 {
		f.Close()
		return nil
	}
	return f
}
