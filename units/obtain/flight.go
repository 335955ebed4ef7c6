package obtain

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/catalogue"
	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/fetchunit"
	"github.com/pool-managerd/pool-managerd/units/library"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// abandonAfter is how long a download goes on that no caller waits for: a reload of a pool leaves
// it and comes back.
const abandonAfter = 10 * time.Second

// stopWait bounds the stop of a download that is no longer wanted.
const stopWait = 30 * time.Second

var (
	errAbandoned = errors.New("no longer wanted")
	errEnds      = registry.Fail(registry.CodeProvisionFailed, "the manager ends", "The download goes on.")
)

// flight is one download, from its first attempt to its end.
type flight struct {
	o        *Obtainer
	want     Want
	settings *egress.Settings
	id       string
	abandon  chan struct{} // closed when no caller has waited for abandonAfter

	mu      sync.Mutex
	waiting map[int]func(pool.Staging)
	next    int
	last    pool.Staging
	leaving *time.Timer
	left    bool // abandon is closed

	// Final once done is closed.
	done    chan struct{}
	got     Got
	failure *registry.Failure
	// temporary: a further attempt may succeed without a change.
	temporary bool
}

func newFlight(o *Obtainer, w Want, s *egress.Settings) *flight {
	return &flight{o: o, want: w, settings: s, id: id(w), abandon: make(chan struct{}),
		waiting: make(map[int]func(pool.Staging)), done: make(chan struct{})}
}

// enter adds a caller that waits; leave removes it.
func (f *flight) enter(report func(pool.Staging)) (leave func()) {
	f.mu.Lock()
	f.next++
	key, last := f.next, f.last
	f.waiting[key] = report
	if f.leaving != nil {
		f.leaving.Stop()
	}
	f.mu.Unlock()
	if last != (pool.Staging{}) {
		report(last)
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.waiting, key)
		if len(f.waiting) == 0 {
			f.leaving = time.AfterFunc(abandonAfter, f.leaveBehind)
		}
	}
}

// leaveBehind gives the download up, unless a caller came back.
func (f *flight) leaveBehind() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 && !f.left {
		f.left = true
		close(f.abandon)
	}
}

// report passes progress to every caller that waits.
func (f *flight) report(p pool.Staging) {
	f.mu.Lock()
	f.last = p
	all := make([]func(pool.Staging), 0, len(f.waiting))
	for _, r := range f.waiting {
		all = append(all, r)
	}
	f.mu.Unlock()
	for _, r := range all {
		r(p)
	}
}

func (f *flight) end(got Got, failure *registry.Failure) {
	f.o.mu.Lock()
	delete(f.o.flights, f.id) // the next caller begins another
	f.o.mu.Unlock()
	f.got, f.failure = got, failure
	close(f.done)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leaving != nil {
		f.leaving.Stop()
	}
}

// run downloads. ctx is the manager's life.
func (f *flight) run(ctx context.Context) {
	wanted, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watching := make(chan struct{})
	go func() { // until run ends, which waits for it
		defer close(watching)
		select {
		case <-f.abandon:
			cancel(errAbandoned)
		case <-wanted.Done():
		}
	}()
	got, failure := f.attempts(wanted)
	if context.Cause(wanted) == errAbandoned {
		f.stop(ctx)
	}
	cancel(nil)
	<-watching
	f.end(got, failure)
}

// stop ends the unit. What it has downloaded stays.
func (f *flight) stop(ctx context.Context) {
	if err := f.halt(ctx); err != nil && ctx.Err() == nil {
		f.o.o.Log.Warn("could not stop a download that is no longer wanted", "unit", fetchunit.Unit(f.id), "err", err)
		return
	}
	f.o.o.Log.Info("stopped a download that is no longer wanted", "model_id", f.want.Ref.String())
}

// halt ends the unit.
func (f *flight) halt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()
	return f.o.o.PID1.Stop(ctx, fetchunit.Unit(f.id))
}

// Waits between attempts, doubled each time, and how many fail in a row without a byte of progress
// before the failure is reported. The source may ask for longer, up to pauseMost.
const (
	pauseFirst = 2 * time.Second
	pauseLast  = time.Minute
	pauseMost  = 15 * time.Minute
	triesMost  = 6
)

// attempts runs the unit until the model is there or a further attempt is useless.
func (f *flight) attempts(ctx context.Context) (Got, *registry.Failure) {
	done, err := f.o.turn(ctx, f.want.Ref.Directory())
	if err != nil {
		return Got{}, errEnds
	}
	defer done()
	set, err := hosts(f.settings, f.want.Ref, f.o.hostsSeen())
	if err != nil {
		return Got{}, registry.AsFailure(err, registry.CodeProvisionFailed, "Correct hf_endpoint and s3_endpoint.")
	}
	best, pause := int64(0), pauseFirst
	for tries := 1; ; tries++ {
		end := f.attempt(ctx, set)
		switch {
		case ctx.Err() != nil:
			return Got{}, errEnds
		case end.failure == nil:
			library.Used(f.settings.Uses, f.want.Ref.Directory())
			return end.got, nil
		case end.redirect != "" && set.add(end.redirect):
			tries-- // not the source's fault
			continue
		case end.bytes > best:
			best, tries, pause = end.bytes, 0, pauseFirst
		}
		if !end.temporary || tries >= triesMost {
			f.o.refuse(f, end)
			f.temporary = end.temporary
			return Got{}, end.failure
		}
		wait := min(max(pause, end.after), pauseMost)
		pause = min(2*pause, pauseLast)
		f.o.o.Log.Warn("a download failed; it is tried again: "+end.failure.Message, "model_id", f.want.Ref.String(),
			"retry_in_ms", wait.Milliseconds(), "hint", end.failure.Hint, catalogue.Key, catalogue.DownloadFailed)
		f.waitFor(ctx, wait, end)
	}
}

// waitFor waits for the next attempt, and shows why.
func (f *flight) waitFor(ctx context.Context, wait time.Duration, end ended) {
	f.mu.Lock()
	p := f.last
	f.mu.Unlock()
	p.Rate, p.Note, p.Until = 0, end.failure.Message, time.Now().Add(wait)
	f.report(p)
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

// refuse remembers a failure that a further attempt would meet again.
func (o *Obtainer) refuse(f *flight, end ended) {
	if end.temporary {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, r := range o.refused { // few, and short-lived
		if time.Now().After(r.until) {
			delete(o.refused, id)
		}
	}
	o.refused[f.id] = refusal{end.failure, f.settings, time.Now().Add(refusedFor)}
}

// hostsSeen are hosts that files came from.
func (o *Obtainer) hostsSeen() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]string, 0, len(o.known))
	for h := range o.known {
		all = append(all, h)
	}
	return all
}
