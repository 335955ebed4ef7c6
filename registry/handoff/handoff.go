// Package handoff writes the hand-off files: one small JSON file for each replica that is ready
// now, for programs on this host that find engines without the API.
//
// It owns the files' names and fields, and when they are written: it follows the registry, rewrites
// a file when its content changes, at most four times a second, and removes it when the replica is
// not ready. It must not know when a replica is ready, nor how anything is started.
package handoff

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

const suffix = ".json"

// Dir is the directory, usually /run/pool-managerd/engines. The first Write creates it.
type Dir struct{ path string }

// New returns the directory.
func New(path string) Dir { return Dir{path: path} }

// Write replaces a file. A reader sees the former file or the new one, never a part: a temporary
// file is written and renamed.
func (d Dir) Write(name string, body []byte) error {
	if err := d.make(); err != nil {
		return fmt.Errorf("hand-off directory: %w", err)
	}
	if err := replace(filepath.Join(d.path, name), body); err != nil {
		return fmt.Errorf("hand-off file %s: %w", name, err)
	}
	return nil
}

// make creates the directory if it is missing, readable by all users whatever the umask.
func (d Dir) make() error {
	if _, err := os.Stat(d.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		return err
	}
	return os.Chmod(d.path, 0o755)
}

// replace writes a world-readable file atomically, whatever the umask.
func replace(path string, body []byte) error {
	pending, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)),
		renameio.WithStaticPermissions(0o644))
	if err != nil {
		return err
	}
	defer pending.Cleanup()
	if _, err := pending.Write(body); err != nil {
		return err
	}
	return pending.CloseAtomicallyReplace()
}

// Remove deletes a file; a missing one is no error.
func (d Dir) Remove(name string) error {
	if err := os.Remove(filepath.Join(d.path, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("hand-off file: %w", err)
	}
	return nil
}

// Read returns a file's bytes, nil if it is missing or cannot be read.
func (d Dir) Read(name string) []byte {
	body, err := os.ReadFile(filepath.Join(d.path, name))
	if err != nil {
		return nil
	}
	return body
}

// Stamp identifies the content of a file, without reading it.
type Stamp struct {
	Inode    uint64
	Size     int64
	Modified int64 // ns since 1970
}

// Stamp returns the stamp of a file.
func (d Dir) Stamp(name string) (stamp Stamp, ok bool) {
	info, err := os.Lstat(filepath.Join(d.path, name))
	if err != nil {
		return Stamp{}, false
	}
	stamp = Stamp{Size: info.Size(), Modified: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		stamp.Inode = st.Ino
	}
	return stamp, true
}

// List returns the names of the hand-off files, and of the temporary files of an interrupted Write.
// Other files in the directory are not listed.
func (d Dir) List() (files, left []string, err error) {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("hand-off directory: %w", err)
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasPrefix(name, "."):
			if strings.Contains(name, suffix) { // renameio's temporary names are a dot, the file's name and digits
				left = append(left, name)
			}
		case strings.HasSuffix(name, suffix) && strings.LastIndexByte(strings.TrimSuffix(name, suffix), '.') > 0:
			files = append(files, name)
		}
	}
	return files, left, nil
}

// fileName returns the name of a replica's file; ok is false for names that would leave the
// directory or hide the file.
func fileName(pool, replica string) (name string, ok bool) {
	if !plain(pool) || !plain(replica) || strings.Contains(replica, ".") {
		return "", false
	}
	return pool + "." + replica + suffix, true
}

func plain(s string) bool {
	return s != "" && s[0] != '.' && !strings.ContainsAny(s, "/\x00")
}
