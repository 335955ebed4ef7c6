package provision

import (
	"cmp"
	"context"
	"log/slog"
	"sync"

	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/obtain"
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
	// Remote makes models of other hosts present; nil: there are none.
	Remote Remote

	hashes  hashing
	advised sync.Map // identities for which the advisory line was logged
	models  descriptions
}

// Remote makes models of other hosts present (obtain.Obtainer).
type Remote interface {
	Obtain(ctx context.Context, w obtain.Want, report func(pool.Staging)) (obtain.Got, error)
	// Find returns where a model is; empty: it is not there.
	Find(ref modelref.Ref) string
}

// Stage finds the files of the model and those that the pool brings along, checks that the engine's
// dynamic user can read them, and verifies the model's digest where one is given. Nothing is
// copied: the engine reads the files where they are. A model of another host is downloaded first;
// report is called with its progress. The error is a *registry.Failure, or that of the context.
//
// Of a file, Staged.Path is the path as the operator wrote it, links and all: llama.cpp finds the
// further parts of a model by the name of the first, and a link's target may have any name. PID 1
// follows a link when it binds it, so the engine finds the real file under the configured name. Of
// a directory it is the real path, because links inside may be relative.
func (s *Stager) Stage(ctx context.Context, p pool.Pool, report func(pool.Staging)) (pool.Staged, error) {
	if err := s.image(ctx, p, report); err != nil {
		return pool.Staged{}, err
	}
	if p.Model == "" {
		brought, err := bring.Look(p)
		return pool.Staged{Files: brought.Shown, Brought: brought.Shown, Contents: s.Identify(ctx, p),
			FileEnv: brought.Environment}, cmp.Or(err, brought.Damaged(p))
	}
	got, err := s.obtain(ctx, p, report)
	if err != nil {
		return pool.Staged{}, err
	}
	m, err := findModel(got.Path, loadedBy(p.Engine))
	if err != nil {
		return pool.Staged{}, err
	}
	s.believe(got, m)
	brought, err := bring.Look(p)
	if err != nil {
		return pool.Staged{}, err
	}
	if err := brought.Damaged(p); err != nil {
		return pool.Staged{}, err
	}
	staged := pool.Staged{Path: m.path, Files: append(m.shown, brought.Shown...), Brought: brought.Shown,
		Contents: s.Identify(ctx, p), FileEnv: brought.Environment}
	for _, f := range m.files {
		staged.SizeBytes += f.info.Size()
	}
	if err := s.verify(ctx, p, m, &staged); err != nil {
		return pool.Staged{}, err
	}
	staged.Model = s.models.get(ctx, m, staged.Contents)
	return staged, nil
}
