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

	"github.com/google/renameio/v2"
)

// Histories is a directory of small notes, a file each, that outlive the manager and not the host:
// it is in /run, where nothing has to be flushed. Its methods are for one goroutine at a time.
type Histories struct{ dir string }

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
	return &Histories{dir}, all
}

// Put writes a note, in place of the one of that key. A key is a pool's id, a slash and a
// replica's.
func (h *Histories) Put(key string, value json.RawMessage) error {
	if err := renameio.WriteFile(filepath.Join(h.dir, strings.ReplaceAll(key, "/", ":")), value, 0o600); err != nil {
		return fmt.Errorf("note on %s: %w", key, err)
	}
	return nil
}

// Drop forgets a note.
func (h *Histories) Drop(key string) error {
	err := os.Remove(filepath.Join(h.dir, strings.ReplaceAll(key, "/", ":")))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
