package supervise

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// maxPreloads bounds the pools that other programs may have made: a half of the pools that metrics
// count one by one.
const maxPreloads = 128

// PreloadRequest is a pool that another program asks for.
type PreloadRequest struct {
	Ask    pool.Preload
	Within time.Duration // in which it must be ready
	By     string        // who asks

	correlation string // the id of the request
}

// How a preload ended, as the metric counts it.
const (
	PreloadReady    = "ready"    // the engine serves
	PreloadFailed   = "failed"   // it did not start, and the pool was removed
	PreloadTimeout  = "timeout"  // it was not ready in time, and the pool was removed
	PreloadRemoved  = "removed"  // someone removed it before it was ready
	PreloadSame     = "same"     // the pool was there already, as it was asked for
	PreloadDenied   = "denied"   // the host's policy forbids it
	PreloadConflict = "conflict" // another pool has the id, or the port
	PreloadInvalid  = "invalid"  // the request is
	PreloadNotSaved = "not_saved"
)

// PreloadOutcomes are all of them.
func PreloadOutcomes() []string {
	return []string{PreloadReady, PreloadFailed, PreloadTimeout, PreloadRemoved, PreloadSame, PreloadDenied,
		PreloadConflict, PreloadInvalid, PreloadNotSaved}
}

// preloading is what is known of a preload beside what is written down.
type preloading struct {
	waiting []func(error) // callers that wait until the pool is ready, or gone
	failure *registry.Failure
	outcome string // of failure, for the metric
}

// Preload makes a pool that no file asks for, and returns when its engine is ready. One that fails,
// or is not ready in time, is removed, whether the caller still waits or not; the error is why, and
// comes after its unit is gone. The same request again is about the same pool. An end of ctx ends
// the wait, and nothing else. Errors are a *registry.Failure or the context's.
func (s *Supervisor) Preload(ctx context.Context, id string, ask PreloadRequest) error {
	ask.correlation = registry.Correlation(ctx)
	answered := make(chan error, 1)
	answer := func(err error) {
		select {
		case answered <- err:
		default: // the pool was ready, and is removed now
		}
	}
	select {
	case s.events <- func() { s.preload(id, ask, answer) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Unload removes a pool that was preloaded, after a drain. It returns when this is written down;
// one that is being removed already is no error.
func (s *Supervisor) Unload(ctx context.Context, id, by string) error {
	answered := make(chan error, 1)
	answer := func(err error) { answered <- err }
	select {
	case s.events <- func() { s.unload(id, asker{by, registry.Correlation(ctx)}, answer) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// preload takes a request on the loop.
func (s *Supervisor) preload(id string, ask PreloadRequest, answer func(error)) {
	if s.wanted.Preload == nil {
		answer(registry.Fail(registry.CodeConfigInvalid, "could not read the host's configuration",
			"Run pool-managerd --check, fix the file, then run systemctl reload pool-managerd."))
		return
	}
	p, err := s.wanted.Preload(id, ask.Ask)
	if err != nil {
		s.o.Observer.Preloaded(PreloadInvalid)
		answer(err)
		return
	}
	if e := s.entries[id]; e != nil {
		s.preloadAgain(e, ask, answer)
		return
	}
	if s.clearing[id] {
		answer(beingRemoved(id))
		return
	}
	if f, outcome := s.unwelcome(p); f != nil {
		s.o.Observer.Preloaded(outcome)
		answer(f)
		return
	}
	e := s.entry(id)
	s.queue(e, func(_ *entry, was keep.Intent) (keep.Intent, func(), error) {
		was.Preload = &keep.Preload{Ask: ask.Ask, Boot: s.o.Clock.Boot(), Since: time.Now().Round(0), By: ask.By,
			Until: s.o.Clock.In(ask.Within), Correlation: ask.correlation}
		return was, func() {
			s.reportPreload(e, "asked for by "+who(ask.By), asker{ask.By, ask.correlation}, nil)
			e.preload.waiting = append(e.preload.waiting, answer)
			s.decidePool(e)
		}, nil
	}, func(err error) {
		if err != nil {
			s.o.Observer.Preloaded(PreloadNotSaved)
			answer(err)
		}
	})
}

// preloadAgain answers a request for a pool that there is.
func (s *Supervisor) preloadAgain(e *entry, ask PreloadRequest, answer func(error)) {
	var f *registry.Failure
	switch of := e.intent.Preload; {
	case !e.wanted && !e.saving:
		f = beingRemoved(e.id)
	case e.wanted && of == nil:
		f = fromFile(e, "A pool file has this id. Use another id, or remove the file.")
	case e.wanted && !reflect.DeepEqual(of.Ask, ask.Ask):
		f = registry.Fail(registry.CodePoolExists, fmt.Sprintf("pool %s was preloaded by another request", e.id),
			"Remove it by DELETE /v1/pools/"+e.id+" first, or send the same request.")
	case !e.wanted: // the first request is being written down
		e.orders = append(e.orders, func() { s.preload(e.id, ask, answer) })
		return
	case e.parked():
		f = registry.Fail(registry.CodePoolExists, fmt.Sprintf("pool %s is drained", e.id),
			"poolctl resume "+e.id+" starts it.")
	default:
		s.o.Observer.Preloaded(PreloadSame)
		e.preload.waiting = append(e.preload.waiting, answer)
		s.followPreload(e)
		return
	}
	s.o.Observer.Preloaded(PreloadConflict)
	answer(f)
}

func beingRemoved(id string) *registry.Failure {
	return registry.Fail(registry.CodePoolExists, fmt.Sprintf("pool %s is still being removed", id),
		"Try again when GET /v1/pools/"+id+" answers 404.")
}

func fromFile(e *entry, hint string) *registry.Failure {
	return registry.Fail(registry.CodePoolFromFile, fmt.Sprintf("pool %s is that of a pool file", e.id), hint)
}

// unwelcome is why a new pool is not taken, with what the metric counts.
func (s *Supervisor) unwelcome(p pool.Pool) (*registry.Failure, string) {
	if s.wanted.Refuse != nil {
		if f := s.wanted.Refuse(p); f != nil {
			return f, PreloadDenied
		}
	}
	preloaded := 0
	for _, e := range s.entries {
		if e.intent.Preload != nil {
			preloaded++
		}
	}
	if preloaded >= maxPreloads {
		return registry.Fail(registry.CodePolicyDenied,
			fmt.Sprintf("this host has %d preloaded pools, the most that it "+
				"takes", preloaded), "Remove one by DELETE /v1/pools/ID."), PreloadDenied
	}
	if p.Port != 0 && slices.Contains(s.wanted.ports(), p.Port) {
		return registry.Fail(registry.CodePortInUse, fmt.Sprintf("port %d is that of a pool file", p.Port),
			"Send another port, or 0 to have one chosen."), PreloadConflict
	}
	return nil, ""
}

// unload takes a removal on the loop.
func (s *Supervisor) unload(id string, by asker, answer func(error)) {
	e := s.entries[id]
	switch {
	case e == nil:
		answer(ErrNoSuchPool)
	case e.saving:
		e.orders = append(e.orders, func() { s.unload(id, by, answer) })
	case !e.wanted:
		answer(nil)
	case e.intent.Preload == nil:
		answer(fromFile(e, "Remove its file, then run systemctl reload pool-managerd."))
	default:
		s.removePreload(e, PreloadRemoved, registry.Fail(registry.CodePoolNotFound,
			fmt.Sprintf("pool %s was removed by %s before it was ready", id, who(by.name)), ""), by, answer)
	}
}

// removePreload ends a preload; the pool drains and goes. Callers that wait for it get the failure
// once it is gone.
func (s *Supervisor) removePreload(e *entry, outcome string, f *registry.Failure, by asker, done func(error)) {
	pending := !e.intent.Preload.Ready
	s.save(e, keep.Intent{Drain: e.intent.Drain}, func(err error) {
		if err != nil {
			e.saveAfter = time.Now().Add(saveAgain)
			s.wakeAt(e, e.saveAfter)
			done(err)
			return
		}
		e.preload.failure, e.preload.outcome = f, outcome
		if pending {
			s.o.Observer.Preloaded(outcome)
		}
		switch {
		case outcome == PreloadRemoved:
			s.reportPreload(e, "removed by "+who(by.name), by, nil)
		default:
			s.reportPreload(e, "given up: "+f.Message, by, f)
		}
		done(nil)
		s.decidePool(e)
	})
}

// preloadInForce has a pool follow what its preload is now; former is what it was.
func (s *Supervisor) preloadInForce(e *entry, former *keep.Preload) {
	switch now := e.intent.Preload; {
	case now != nil && !e.wanted:
		s.wantPreload(e)
	case now == nil && former != nil && e.file.Preloaded():
		s.unwant(e)
	}
}

// wantPreload puts a preload in force, by the configuration as it is now.
func (s *Supervisor) wantPreload(e *entry) {
	p, err := s.wanted.Preload(e.id, e.intent.Preload.Ask)
	if err != nil {
		s.invalid(e, registry.AsFailure(err, registry.CodeConfigInvalid, "Correct [defaults] of config.toml."))
		return
	}
	s.want(p, s.wanted.Refuse)
}

// applyPreloads puts every preload in force that no pool file stands in for, and notes them as
// seen. A pool file is an administrator's word and wins: the engine that runs becomes the file's,
// by a reload if it differs.
func (s *Supervisor) applyPreloads(d Desired, seen map[string]bool) {
	for id, i := range s.o.Intents {
		if i.Preload != nil {
			s.entry(id)
		}
	}
	for id, e := range s.entries {
		switch {
		case e.intent.Preload == nil || d.Preload == nil:
		case !seen[id]:
			seen[id] = true
			s.wantPreload(e)
		default:
			s.queue(e, func(_ *entry, was keep.Intent) (keep.Intent, func(), error) {
				was.Preload = nil
				return was, func() {
					s.o.Log.Info(fmt.Sprintf("pool %s: it was preloaded, and a pool file has taken it over", id),
						e.about()...)
					s.answerPreload(e, fromFile(e, "GET /v1/pools/"+id+" shows it."))
				}, nil
			}, func(err error) {
				if err != nil {
					s.o.Log.Warn("could not note that a pool file has taken a preloaded pool over",
						append(e.about(), "err", err)...)
				}
			})
		}
	}
}

// followPreload sees to a preload that is not ready yet, and to callers that wait for one.
func (s *Supervisor) followPreload(e *entry) {
	of := e.intent.Preload
	if of == nil || !e.wanted {
		return
	}
	if e.last.Ready {
		s.answerPreload(e, nil)
	}
	if of.Ready || e.saving || !s.connected || time.Now().Before(e.saveAfter) {
		return
	}
	if e.last.Ready {
		s.preloadReady(e)
		return
	}
	left := s.o.Clock.Left(of.Until)
	switch f := e.comesNot(); {
	case f != nil:
		s.removePreload(e, PreloadFailed, ofRequest(f), askerOf(of), func(error) {})
	case left <= 0:
		s.removePreload(e, PreloadTimeout, registry.Fail(registry.CodeEngineStartTimeout,
			fmt.Sprintf("it was not ready within %s", time.Since(of.Since).Round(time.Second)),
			"Send a longer deadline_ms; the engine's log is in poolctl logs "+e.id+"."), askerOf(of), func(error) {})
	default:
		s.wakeAt(e, time.Now().Add(left))
	}
}

// preloadReady notes that a preload has become a pool as any other.
func (s *Supervisor) preloadReady(e *entry) {
	next, noted := e.intent, *e.intent.Preload
	noted.Ready = true
	next.Preload = &noted
	s.save(e, next, func(err error) {
		if err != nil {
			e.saveAfter = time.Now().Add(saveAgain)
			s.wakeAt(e, e.saveAfter)
			return
		}
		s.o.Observer.Preloaded(PreloadReady)
		s.reportPreload(e, "ready", askerOf(&noted), nil)
	})
}

// comesNot is why a preload does not become ready, nil while it may. What is known of the end of a
// run is complete once its log was read.
func (e *entry) comesNot() *registry.Failure {
	for _, r := range e.sorted() {
		if r.unit.moving || e.parked() {
			continue
		}
		f := hasFailed(r.facts())
		if f != nil && !r.reportPending(f) {
			return f
		}
	}
	return nil
}

// answerPreload answers every caller that waits.
func (s *Supervisor) answerPreload(e *entry, err error) {
	for _, answer := range e.preload.waiting {
		answer(err)
	}
	e.preload.waiting = nil
}

// preloadGone answers callers of a pool that is gone.
func (s *Supervisor) preloadGone(e *entry) {
	var err error = errors.New("the pool was removed")
	if e.preload.failure != nil {
		err = e.preload.failure
	}
	s.answerPreload(e, err)
}

// reportPreload writes the line of the audit, and the event.
func (s *Supervisor) reportPreload(e *entry, what string, by asker, f *registry.Failure) {
	s.o.Registry.Note(registry.Event{Kind: registry.KindPreload, PoolID: e.id, State: e.last.State, Cause: what,
		Failure: f, Correlation: by.correlation})
	attrs := append(caused(e.about(), by.correlation), "identity", by.name, "binary", e.file.Provisioning.Binary)
	if f != nil {
		s.o.Log.Warn(fmt.Sprintf("pool %s: the preload is %s", e.id, what),
			append(attrs, "last_error", f.Error(), "hint", f.Hint)...)
		return
	}
	s.o.Log.Info(fmt.Sprintf("pool %s: the preload is %s", e.id, what), attrs...)
}

// source is what asks for the pool.
func (e *entry) source() string {
	switch {
	case !e.wanted:
		return ""
	case e.intent.Preload != nil:
		return registry.SourcePreload
	}
	return registry.SourceFile
}
