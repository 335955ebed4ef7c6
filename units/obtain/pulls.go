package obtain

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/catalogue"
	"github.com/pool-managerd/pool-managerd/units/library"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// PullOptions are the parts of Pulls.
type PullOptions struct {
	// File remembers what operators asked for, until it has ended.
	File string
	Log  *slog.Logger
	// Allowed returns why the host's policy forbids a model; nil if it does not.
	Allowed func(modelref.Ref) *registry.Failure
}

// Pulls are the downloads that no pool waits for. Each has an owner that ends: an operator's is
// kept, over a restart of the manager and of the host, until it is whole, has failed for good or is
// cancelled; one that pools will change to later, as long as their files name it. Its methods may
// be called from any goroutine.
type Pulls struct {
	o     *Obtainer
	opt   PullOptions
	slots chan struct{}
	wake  chan struct{} // something has begun

	mu    sync.Mutex
	all   map[string]*pull // by id
	begun []*pull          // not running yet
}

// pull is one download; Pulls.mu guards what changes.
type pull struct {
	want   Want
	id     string
	cancel chan struct{} // closed when no one wants it

	by       string   // the operator; empty: none
	request  string   // the correlation id of what the operator sent
	pools    []string // that name it in prefetch
	state    registry.DownloadState
	progress *registry.Staging
	path     string
	failure  *registry.Failure
	changed  time.Time
}

const (
	pullsAtOnce = 3   // the rest is queued: a model that is whole is worth more than several halves
	pullsMost   = 256 // of operators
	endedMost   = 32  // that are still listed
)

// Waits between the attempts of a download that failed for a reason that may pass. The download
// itself has tried several times by then.
const (
	pullFirst = 30 * time.Second
	pullLast  = 15 * time.Minute
)

// NewPulls makes Pulls of an Obtainer. Run starts them.
func NewPulls(o *Obtainer, opt PullOptions) *Pulls {
	return &Pulls{o: o, opt: opt, slots: make(chan struct{}, pullsAtOnce), wake: make(chan struct{}, 1),
		all: make(map[string]*pull)}
}

// Run downloads until ctx ends, and begins with what was remembered. The units go on then.
func (p *Pulls) Run(ctx context.Context) {
	p.recall()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		p.mu.Lock()
		begun := p.begun
		p.begun = nil
		p.mu.Unlock()
		for _, one := range begun {
			all.Go(func() { p.run(ctx, one) })
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
	}
}

// Ask begins a download for an operator, or joins one. A model that is there is done at once. Of
// the context, the correlation id is used; the download goes on when it ends. The error is a
// *registry.Failure.
func (p *Pulls) Ask(ctx context.Context, w Want, by string) (registry.Download, error) {
	settings := p.o.settings.Load()
	there := library.Find(settings.CacheDir, w.Ref)
	if f := p.opt.Allowed(w.Ref); f != nil {
		return registry.Download{}, f
	}
	if there.Whole == library.Yes {
		got, err := p.o.present(settings, w, there)
		return registry.Download{Model: w.Ref.String(), By: by, State: registry.DownloadDone, Path: got.Path,
			Changed: time.Now()}, err
	}
	if f := settings.Refuse(w.Ref); f != nil {
		return registry.Download{}, f
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.all[id(w)]
	if one == nil || one.state.Ended() {
		one = p.make(w, one)
	}
	by0, request0 := one.by, one.request
	one.by, one.request = by, registry.Correlation(ctx)
	if err := p.remember(one); err != nil {
		one.by, one.request = by0, request0
		return registry.Download{}, err
	}
	p.start(one)
	return one.view(), nil
}

// make makes a download, in place of one that has ended; the caller holds the lock.
func (p *Pulls) make(w Want, former *pull) *pull {
	one := &pull{want: w, id: id(w), cancel: make(chan struct{}), state: registry.DownloadQueued, changed: time.Now()}
	if former != nil {
		one.pools, one.by, one.request = former.pools, former.by, former.request
	}
	return one
}

// start has a download run, unless it is under way; the caller holds the lock.
func (p *Pulls) start(one *pull) {
	if p.all[one.id] == one {
		return
	}
	p.all[one.id] = one
	p.begun = append(p.begun, one)
	select {
	case p.wake <- struct{}{}:
	default: // it is awake already
	}
}

// Cancel ends what an operator asked for. What is on disk is kept. The error is a
// *registry.Failure.
func (p *Pulls) Cancel(ref modelref.Ref) (registry.Download, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.all {
		if one.want.Ref != ref || one.state.Ended() || one.by == "" {
			continue
		}
		was := one.by
		one.by = ""
		if err := p.remember(nil); err != nil {
			one.by = was
			return registry.Download{}, err
		}
		if len(one.pools) == 0 {
			one.by = was // for the list
			p.end(one, registry.DownloadCancelled)
			close(one.cancel)
		}
		return one.view(), nil
	}
	return registry.Download{}, registry.Fail(registry.CodeModelNotFound,
		fmt.Sprintf("no download of %s was asked for", ref), "poolctl models pull lists those under way.")
}

// end notes the end of a download; the caller holds the lock.
func (p *Pulls) end(one *pull, state registry.DownloadState) {
	one.state, one.progress, one.changed = state, nil, time.Now()
	var ended []*pull
	for _, other := range p.all {
		if other.state.Ended() && len(other.pools) == 0 {
			ended = append(ended, other)
		}
	}
	slices.SortFunc(ended, func(a, b *pull) int { return a.changed.Compare(b.changed) })
	for _, old := range ended[:max(len(ended)-endedMost, 0)] {
		delete(p.all, old.id)
	}
}

// Prefetch says which models pools will change to, by reference; it replaces what was said before.
// One that failed is tried again: the configuration has just been read.
func (p *Pulls) Prefetch(models map[modelref.Ref][]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.all {
		if one.pools = nil; one.by == "" && len(models[one.want.Ref]) == 0 {
			if !one.state.Ended() {
				close(one.cancel)
			}
			delete(p.all, one.id)
		}
	}
	refs := make([]modelref.Ref, 0, len(models))
	for ref := range models {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b modelref.Ref) int { return cmp.Compare(a.String(), b.String()) })
	for _, ref := range refs {
		w := Want{Ref: ref}
		one := p.all[id(w)]
		if one == nil || one.state.Ended() && one.state != registry.DownloadDone {
			one = p.make(w, nil)
		}
		one.pools = slices.Sorted(slices.Values(models[ref]))
		p.start(one)
	}
}

// List returns all downloads, by model.
func (p *Pulls) List() []registry.Download {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]registry.Download, 0, len(p.all))
	for _, one := range p.all {
		list = append(list, one.view())
	}
	slices.SortFunc(list, func(a, b registry.Download) int { return strings.Compare(a.Model, b.Model) })
	return list
}

// about returns the fields of log lines about the download: its model, who asked for it, and with
// which request.
func (one *pull) about(more ...any) []any {
	fields := []any{"model_id", one.want.Ref.String()}
	if one.by != "" {
		fields = append(fields, "identity", one.by)
	}
	if one.request != "" {
		fields = append(fields, "correlation_id", one.request)
	}
	return append(fields, more...)
}

func (one *pull) view() registry.Download {
	return registry.Download{Model: one.want.Ref.String(), Pools: slices.Clone(one.pools), By: one.by, State: one.state,
		Progress: one.progress, Path: one.path, Failure: one.failure, Changed: one.changed}
}

// run downloads one model until it is whole, has failed for good, or no one wants it.
func (p *Pulls) run(ctx context.Context, one *pull) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	defer func() { <-ended }()
	defer cancel()
	go func() { // until run ends, which waits for it
		defer close(ended)
		select {
		case <-one.cancel:
			cancel()
		case <-ctx.Done():
		}
	}()
	for pause := pullFirst; ; pause = min(2*pause, pullLast) {
		got, temporary, err := p.attempt(ctx, one)
		if ctx.Err() != nil {
			return
		}
		// errEnds is also that of a download which its last caller left at this moment.
		if err == nil || !temporary && err != errEnds {
			p.over(one, got, err)
			return
		}
		p.waits(one, registry.AsFailure(err, registry.CodeProvisionFailed, ""), pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// attempt takes a turn and downloads.
func (p *Pulls) attempt(ctx context.Context, one *pull) (Got, bool, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return Got{}, false, ctx.Err()
	}
	p.change(one, func() { one.state = registry.DownloadRunning })
	if f := p.opt.Allowed(one.want.Ref); f != nil {
		return Got{}, false, f
	}
	return p.o.obtain(ctx, one.want, func(s pool.Staging) {
		now := registry.Staging{Bytes: s.Bytes, Total: s.Total, Rate: s.Rate, File: s.File, Note: s.Note,
			Until: s.Until}
		p.change(one, func() { one.progress, one.failure = &now, nil })
	})
}

// change changes a download that has not ended.
func (p *Pulls) change(one *pull, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !one.state.Ended() {
		f()
		one.changed = time.Now()
	}
}

// waits shows why nothing happens for a while.
func (p *Pulls) waits(one *pull, f *registry.Failure, pause time.Duration) {
	p.change(one, func() {
		s := registry.Staging{Note: f.Message, Until: time.Now().Add(pause)}
		if one.progress != nil {
			s.Bytes, s.Total = one.progress.Bytes, one.progress.Total
		}
		one.progress, one.failure = &s, f
	})
}

// over notes how a download ended, and forgets that it was asked for.
func (p *Pulls) over(one *pull, got Got, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one.state.Ended() {
		return
	}
	p.end(one, registry.DownloadDone)
	if one.path = got.Path; err != nil {
		one.state, one.failure = registry.DownloadFailed, registry.AsFailure(err, registry.CodeProvisionFailed, "")
		p.opt.Log.Warn("a download failed: "+one.failure.Message, one.about("hint", one.failure.Hint, catalogue.Key,
			catalogue.DownloadFailed)...)
	} else {
		one.failure = nil
		p.opt.Log.Info("a model was downloaded", one.about("path", got.Path)...)
	}
	if err := p.remember(nil); err != nil {
		p.opt.Log.Warn("could not note the end of a download; it is asked for again after a restart", "err", err)
	}
}
