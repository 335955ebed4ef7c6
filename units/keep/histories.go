package keep

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
)

// Histories is a directory of small notes, a file each, that outlive the manager and not the host:
// it is in /run, where nothing has to be flushed. Its methods may be called from any goroutine.
type Histories struct {
	dir string

	mu      sync.Mutex
	written map[string]json.RawMessage // by the file's name
}

// OpenHistories opens or makes the directory and reads what is in it. What cannot be read is
// logged, and is all that is lost.
func OpenHistories(dir string, log *slog.Logger) (*Histories, map[string]json.RawMessage) {
	all := make(map[string]json.RawMessage)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		log.Warn("past failures of engines are not remembered over a restart of the manager", "err", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("past failures of engines cannot be read, and no longer count", "err", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		switch {
		case err != nil || !json.Valid(text):
			log.Warn("a note on an engine's past failures cannot be read", "file", f.Name(), "err", err)
		default:
			all[strings.ReplaceAll(f.Name(), ":", "/")] = text
		}
	}
	h := &Histories{dir: dir, written: make(map[string]json.RawMessage)}
	for key, text := range all {
		h.written[fileOf(key)] = text
	}
	return h, all
}

// fileOf returns the name of a key's file.
func fileOf(key string) string { return strings.ReplaceAll(key, "/", ":") }

// Put writes a note, in place of the one of that key. A key is a pool's id, a slash and a
// replica's.
func (h *Histories) Put(key string, value json.RawMessage) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.write(fileOf(key), value); err != nil {
		return fmt.Errorf("note on %s: %w", key, err)
	}
	h.written[fileOf(key)] = value
	return nil
}

// write replaces a file, and makes the directory where that was deleted; the caller holds the lock.
func (h *Histories) write(name string, value json.RawMessage) error {
	err := renameio.WriteFile(filepath.Join(h.dir, name), value, 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(h.dir, name), value, 0o600)
}

// Check writes the notes again that another process deleted. It returns how many.
func (h *Histories) Check() (restored int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, value := range h.written {
		if _, gone := os.Lstat(filepath.Join(h.dir, name)); !errors.Is(gone, fs.ErrNotExist) {
			continue
		}
		if failed := h.write(name, value); failed != nil {
			err = failed
			continue
		}
		restored++
	}
	return restored, err
}

// Drop forgets a note.
func (h *Histories) Drop(key string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.written, fileOf(key))
	err := os.Remove(filepath.Join(h.dir, fileOf(key)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
