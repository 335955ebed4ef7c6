package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Identify returns which files a pool's model, and what it brings along, are at this moment,
// without reading them: it changes when a link leads elsewhere and when a file is replaced or
// written to. Without any file it is empty, and also where nothing certain can be found out.
func (s *Stager) Identify(_ context.Context, p pool.Pool) string {
	var names []string
	var err error
	if p.Model != "" {
		path := s.localPath(p)
		if path == "" {
			return ""
		}
		names, err = identified(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return pool.AbsentContents
	case err != nil:
		return ""
	}
	brought, err := bring.Look(p)
	if err != nil {
		return pool.AbsentContents // to the engine, which cannot read it
	}
	if names = append(names, brought.Names...); len(names) == 0 {
		return ""
	}
	return contents(names)
}

// identified finds a model's files without the checks of a stage. The real path of a directory
// counts too, since the engine is given that.
func identified(path string) (names []string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		m, err := findInDirectory(path)
		if err != nil {
			return nil, err
		}
		for _, f := range m.files {
			names = append(names, f.name+identity("", f.info))
		}
		return append(names, m.path), nil
	}
	parts, err := bring.Parts(path)
	if err != nil {
		return nil, fs.ErrNotExist // parts of it are missing
	}
	for _, part := range parts {
		info, err := os.Stat(part)
		if err != nil {
			return nil, err
		}
		names = append(names, filepath.Base(part)+identity("", info))
	}
	return names, nil
}

// contents is the identity of several files together.
func contents(names []string) string {
	slices.Sort(names)
	sum := sha256.New()
	for _, name := range names {
		fmt.Fprintf(sum, "%s\x00", name)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}
