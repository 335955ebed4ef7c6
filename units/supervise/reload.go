package supervise

import (
	"context"
	"fmt"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/rollout"
)

// ReloadRequest is what an operator asks a pool to serve.
type ReloadRequest struct {
	Model    pool.Model    // empty: the one that it serves, or was last asked to
	Digest   string        // "sha256:…"; empty: not verified, or, without a model, that of the pool's file
	Deadline time.Duration // of each drain; negative: the pool's own
	Forget   bool          // serve what the pool's file says again
	By       string        // who asks

	correlation string // the id of the request
}

// Reload brings a pool to another model, all or nothing, and remembers it over restarts and reboots
// until it is forgotten. What is served already is no reload. A pool of which nothing serves takes
// the model at its next start. It returns when the wish is written down: ErrNoSuchPool, a
// *registry.Failure (RELOAD_IN_PROGRESS, POLICY_DENIED, STATE_NOT_SAVED), or the context's error
// say that it is not.
func (s *Supervisor) Reload(ctx context.Context, id string, ask ReloadRequest) error {
	ask.correlation = registry.Correlation(ctx)
	return s.onLoop(ctx, id, func(e *entry, answer func(error)) {
		if !e.known {
			answer(e.invalid)
			return
		}
		of := ask.over(e).Over(e.file)
		s.effect(func(ctx context.Context) func() {
			found := s.o.Stager.Identify(ctx, of)
			return func() {
				if s.entries[e.id] != e {
					answer(ErrNoSuchPool)
					return
				}
				s.queue(e, s.reloadOrder(ask, seen{of: bring.Sources(of), contents: found}), answer)
			}
		}, answer)
	})
}

// over is what the request asks for beside the pool's file; nil: nothing.
func (ask ReloadRequest) over(e *entry) *keep.Override {
	if ask.Forget {
		return nil
	}
	over := &keep.Override{Model: ask.Model, Digest: ask.Digest, Since: time.Now().Round(0), By: ask.By}
	if asked := e.asked(); ask.Model == "" {
		over.Model = asked.Model
		if ask.Digest == "" {
			over.Digest = asked.ModelDigest
		}
	}
	return over
}

// reloadOrder is the order of a request; found is which files the model was found to be.
func (s *Supervisor) reloadOrder(ask ReloadRequest, found seen) order {
	return func(e *entry, was keep.Intent) (keep.Intent, func(), error) {
		if was.Reload != nil {
			return was, nil, registry.Fail(registry.CodeReloadInProgress,
				fmt.Sprintf("a reload to %s is under way (%s)", was.Reload.To.Model, was.Reload.Phase),
				"Wait until it ends, or cancel it with poolctl drain and then poolctl resume.")
		}
		if external(e.desired) {
			return was, nil, registry.Fail(registry.CodeInvalidParams,
				"the pool's engine is external: this host neither starts it nor chooses its model",
				"Reload the engine where it runs.")
		}
		return s.reloading(e, was, ask, found)
	}
}

// reloading is the intent of a pool that is to serve its file's version with an override.
func (s *Supervisor) reloading(e *entry, was keep.Intent, ask ReloadRequest, found seen) (keep.Intent, func(), error) {
	over := ask.over(e)
	to := e.seen.over(over.Over(e.file))
	if found.of == bring.Sources(to) && found.contents != "" {
		to.Contents = found.contents
	}
	if to.Model == e.file.Model && to.ModelDigest == e.file.ModelDigest {
		over = nil
	}
	if s.wanted.Refuse != nil {
		if f := s.wanted.Refuse(to); f != nil {
			return was, nil, f
		}
	}
	if ask.Deadline < 0 {
		ask.Deadline = e.desired.Drain.Deadline
	}
	next := was
	next.Rejected = nil
	if samePool(to, e.desired) || !e.serves() {
		next.Override = over // nothing runs that would have to be kept
		if to.Contents != pool.AbsentContents {
			e.seen = seenOf(to)
		}
		return next, nil, nil
	}
	rec := rollout.Begin(e.desired, to, e.sides(), ask.Deadline, time.Now())
	rec.By, rec.Correlation = ask.By, ask.correlation
	next.Reload = &rec
	return next, func() {
		s.o.Registry.Note(reloadEvent(e, rec))
		s.o.Log.Info(fmt.Sprintf("pool %s: a reload begins", e.id),
			append(e.aboutReload(rec), "deadline_ms", ask.Deadline.Milliseconds())...)
	}, nil
}

// serves reports whether a replica of the pool is ready, so that a change of it has something to
// lose.
func (e *entry) serves() bool {
	for _, r := range e.replicas {
		if r.wish.asks != reconcile.Unwanted && reconcile.Assess(r.facts()).Ready {
			return true
		}
	}
	return false
}
