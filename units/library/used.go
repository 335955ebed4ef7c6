package library

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Used notes in a directory of the manager that an artefact is used now; without one, nothing is
// noted. A disk that cannot be written costs the note.
func Used(uses, directory string) {
	if uses == "" {
		return
	}
	name, now := filepath.Join(uses, directory), time.Now()
	err := os.Chtimes(name, now, now)
	if errors.Is(err, fs.ErrNotExist) {
		if os.MkdirAll(uses, 0o755) == nil {
			_ = os.WriteFile(name, nil, 0o644)
		}
	}
}
