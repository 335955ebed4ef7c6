package supervise

import (
	"context"
	"fmt"

	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// seen is which files a pool's model, and what it brings along, were found to be, when that was
// looked at last: at the start of the manager, at a reload, and when they were staged for the first
// time. Between them, files may be replaced without effect.
type seen struct {
	of       string // bring.Sources
	contents string // empty: not known yet
}

func seenOf(p pool.Pool) seen { return seen{of: bring.Sources(p), contents: p.Contents} }

// over returns the pool's version with these files, if they are its own.
func (s seen) over(p pool.Pool) pool.Pool {
	p.Contents = ""
	if s.contents != "" && s.of == bring.Sources(p) {
		p.Contents = s.contents
	}
	return p
}

// seenBefore is what the former manager wrote down of the version that a pool was to run.
func (e *entry) seenBefore() seen {
	switch in := e.intent; {
	case in.Reload != nil && in.Reload.ByFile:
		return seenOf(in.Reload.To)
	case in.Rejected != nil && in.Rejected.ByFile:
		return seenOf(in.Rejected.Version)
	case in.Current != nil:
		return seenOf(*in.Current)
	}
	return seen{}
}

// look has the files of a pool's model looked at beside the loop. Other files than before are
// another version of the pool.
func (s *Supervisor) look(e *entry) {
	p := e.asked()
	if e.looking || p.Contents == "" {
		return // staging finds out
	}
	e.looking = true
	s.effect(func(ctx context.Context) func() {
		found := s.o.Stager.Identify(ctx, p)
		return func() { e.looking = false; s.looked(e, p, found) }
	}, func(error) { e.looking = false })
}

// looked takes what was found. Files that are gone change nothing by themselves: the engine has
// them open, and serves.
func (s *Supervisor) looked(e *entry, p pool.Pool, found string) {
	before := e.asked()
	if found == "" || found == pool.AbsentContents || before.Contents == found || !e.known ||
		s.entries[e.id] != e || bring.Sources(before) != bring.Sources(p) {
		return
	}
	s.o.Log.Info(fmt.Sprintf("pool %s: the files of its model, or others that it brings along, were replaced", e.id),
		e.about()...)
	e.seen = seen{of: bring.Sources(p), contents: found}
	s.assign(e)
	s.dropStale(e, true)
	for _, r := range e.sorted() {
		r.updateWish()
		s.decide(r)
	}
	s.show(e)
}

// fill takes the files that were staged as those of the version, where none were known: it is the
// same version as before. One that a reload works on has a record of its own, which stays as it is.
func (s *Supervisor) fill(e *entry, staged pool.Staged) {
	if p := e.asked(); e.intent.Reload != nil || staged.Contents == "" || p.Contents != "" ||
		bring.Sources(p) != bring.Sources(e.desired) {
		return
	}
	was := e.desired
	e.seen = seen{of: bring.Sources(was), contents: staged.Contents}
	e.desired.Contents = staged.Contents
	for _, r := range e.replicas {
		if samePool(r.wish.pool, was) && r.wish.asks != reconcile.Unwanted {
			r.wish.pool.Contents = staged.Contents
		}
	}
}
