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
	h.written[fileOf(key)] = value // also if it cannot be written: it is what Check and Rescue write
	if err := h.write(fileOf(key), value); err != nil {
		return fmt.Errorf("note on %s: %w", key, err)
	}
	return nil
}

// Rescue writes all notes to a file elsewhere, if their directory is gone and cannot be made again:
// /run is read-only to the manager, and PID 1 makes the directory for the next process. It returns
// whether that was necessary.
func (h *Histories) Rescue(to string) (needed bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.written) == 0 {
		return false, nil
	}
	if err := os.MkdirAll(h.dir, 0o700); err == nil {
		return false, nil // Check writes them there
	}
	text, err := json.Marshal(h.written)
	if err == nil {
		err = renameio.WriteFile(to, text, 0o600)
	}
	if err != nil {
		return true, fmt.Errorf("rescue notes on past failures: %w", err)
	}
	return true, nil
}

// RecoverHistories writes the notes of a rescued file into their directory, and removes the file. A
// note that is there is newer. It returns how many were written.
func RecoverHistories(dir, rescued string) (recovered int, err error) {
	text, err := os.ReadFile(rescued)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var notes map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(text, &notes)
	}
	h := &Histories{dir: dir}
	for name, value := range notes {
		if name != filepath.Base(name) {
			continue // no name of a note
		}
		if _, gone := os.Lstat(filepath.Join(dir, name)); !errors.Is(gone, fs.ErrNotExist) {
			continue
		}
		if failed := h.write(name, value); failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		recovered++
	}
	return recovered, errors.Join(err, os.Remove(rescued))
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
