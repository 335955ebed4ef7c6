package library

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/regular"
)

// ErrBusy means that a program downloads into the directory.
var ErrBusy = errors.New("it is being downloaded")

// lockFile is what a download holds a lock on.
const lockFile = ".pool-fetch.lock"

// Remove deletes an artefact. The error is ErrBusy while it is downloaded.
func Remove(cacheDir, directory string) error {
	if !plain(directory) {
		return fmt.Errorf("%q is not the name of a directory", directory)
	}
	dir := filepath.Join(cacheDir, directory)
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	switch {
	case err == nil:
		defer f.Close()
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			return ErrBusy
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return os.RemoveAll(dir)
}

// Checked is a file whose content was compared with its name.
type Checked struct {
	File  string // name of the blob
	Bytes int64
	Wrong bool // its content is another
	Known bool // its name is a digest; else nothing was compared
}

// Verify reads every whole file of an artefact, and calls report for each.
func Verify(ctx context.Context, cacheDir, directory string, report func(Checked)) error {
	blobs := filepath.Join(cacheDir, directory, "blobs")
	entries, err := os.ReadDir(blobs)
	if errors.Is(err, fs.ErrNotExist) {
		return unverified(filepath.Join(cacheDir, directory), report)
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), ".") || !e.Type().IsRegular() {
			continue
		}
		c, err := check(ctx, filepath.Join(blobs, e.Name()))
		if err != nil {
			return err
		}
		report(c)
	}
	return nil
}

// unverified reports the files of a program of the host's own, which have no digests.
func unverified(dir string, report func(Checked)) error {
	return walkSnapshots(dir, func(name string, info fs.FileInfo) { report(Checked{File: name, Bytes: info.Size()}) })
}

// check compares one file with its name: the SHA-256, or the SHA-1 that git computes.
func check(ctx context.Context, path string) (Checked, error) {
	f, info, err := regular.Open(path)
	if err != nil {
		return Checked{}, err
	}
	defer f.Close()
	c := Checked{File: filepath.Base(path), Bytes: info.Size()}
	var sum hash.Hash
	switch {
	case hexDigits(c.File, 64):
		sum = sha256.New()
	case hexDigits(c.File, 40):
		sum = sha1.New()
		fmt.Fprintf(sum, "blob %d\x00", info.Size())
	default:
		return c, nil
	}
	c.Known = true
	if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, stopping{ctx, f}, make([]byte, 256<<10)); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	c.Wrong = hex.EncodeToString(sum.Sum(nil)) != c.File
	return c, nil
}

// stopping reads until ctx ends.
type stopping struct {
	ctx context.Context
	io.Reader
}

func (s stopping) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.Reader.Read(p)
}
