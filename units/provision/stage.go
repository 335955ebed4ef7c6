package provision

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Stager ensures that a pool's model, and what it brings along, are present. Its method may be
// called from many goroutines.
type Stager struct {
	Store *Store
	Log   *slog.Logger
	// Verified is called for each digest that was compared: whether it matched, and "match",
	// "mismatch" or "advisory" (none was given).
	Verified func(pass bool, reason, engine string)

	hashes  hashing
	advised sync.Map // identities for which the advisory line was logged
}

// Stage finds the files of the model and those that the pool brings along, checks that the engine's
// dynamic user can read them, and verifies the model's digest where one is given. Nothing is
// copied: the engine reads the files where they are. The error is a *registry.Failure, or that of
// the context.
//
// Of a file, Staged.Path is the path as the operator wrote it, links and all: llama.cpp finds the
// further parts of a model by the name of the first, and a link's target may have any name. PID 1
// follows a link when it binds it, so the engine finds the real file under the configured name. Of
// a directory it is the real path, because links inside may be relative.
func (s *Stager) Stage(ctx context.Context, p pool.Pool) (pool.Staged, error) {
	if p.Model == "" {
		brought, err := bring.Look(p)
		return pool.Staged{Files: brought.Shown, Contents: s.Identify(ctx, p), FileEnv: brought.Environment}, err
	}
	if p.Model.Scheme() != "file" {
		return pool.Staged{}, registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("model %s: the source %q is not available in this version", p.Model, p.Model.Scheme()),
			"Download the model, and name the file: model = \"file:/srv/models/…\".")
	}
	m, err := findModel(filepath.Clean(p.Model.Path()), loadedBy(p.Engine))
	if err != nil {
		return pool.Staged{}, err
	}
	brought, err := bring.Look(p)
	if err != nil {
		return pool.Staged{}, err
	}
	staged := pool.Staged{Path: m.path, Files: append(m.shown, brought.Shown...), Contents: s.Identify(ctx, p),
		FileEnv: brought.Environment}
	for _, f := range m.files {
		staged.SizeBytes += f.info.Size()
	}
	if err := s.verify(ctx, p, m, &staged); err != nil {
		return pool.Staged{}, err
	}
	return staged, nil
}
