// Package bench measures engines: once after a new combination of engine, version, model, settings
// and devices serves for the first time, and when an operator asks. It keeps what it measured, and
// follows what engines count while they work.
//
// It owns the goroutine that measures, one engine of the host at a time, and when that may be: not
// while leases are held or wanted, and not while the host is busy. It must not know how engines are
// started, nor HTTP's other side. Package perf has the arithmetic.
package bench

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/perf"
	"github.com/pool-managerd/pool-managerd/units/perf/baselines"
)

// Target is a run of an engine that serves.
type Target struct {
	Pool, Replica string
	Name          string // of the replica, the same over reloads
	Run           string // the InvocationID
	Endpoint      string // http://127.0.0.1:PORT
	Identity      perf.Identity
	Ctx           int                // tokens of one request; 0: not known
	Ask           *engine.Completion // nil: the engine has no request that can be measured
	Key           func() string      // what the engine asks its callers for; nil: nothing
	Automatic     bool               // it may be measured although no operator asked
}

// Options are the parts of a Bench.
type Options struct {
	Registry *registry.Registry
	Store    *baselines.Store
	Log      *slog.Logger
	Client   *http.Client
	// Pressure is the share of the last seconds in which something on the host waited for a CPU, 0
	// to 1; ok is false where the kernel does not report it.
	Pressure func() (share float64, ok bool)
	Ended    func(outcome string) // one of Outcomes, for metrics; nil: it is not counted
}

// Bench measures the engines of one host. Make one with New; its methods may be called from any
// goroutine and return at once.
type Bench struct {
	o    Options
	wake chan struct{}

	mu      sync.Mutex
	pools   map[string]*poolState
	current *measurement // under way; nil: none
	runs    int          // that were asked for
}

// poolState is what is known of a pool.
type poolState struct {
	status  *registry.Pool // as published last
	wanted  time.Time      // when a lease was asked for last
	engines map[string]*engineState
	asked   *asked // the newest run that was asked for; nil: none
}

// engineState is what is known of a replica's run.
type engineState struct {
	target Target
	row    *perf.Row // what is kept of its identity; nil: nothing
	looked bool      // row was looked up
	hints  perf.Hints
	skip   bool           // what it counts next has requests of a measurement in it
	shown  *registry.Perf // as published; nil: nothing is known
	due    *due           // an automatic measurement; nil: none is due
}

// measurement is one that is under way.
type measurement struct {
	target  Target
	asked   *asked // nil: automatic
	cancel  context.CancelCauseFunc
	streams int // at most
	noisy   string
}

// New makes a Bench. Serves, Changed, Wanted, Counted and Hints are for others to call; Run
// measures.
func New(o Options) *Bench {
	return &Bench{o: o, wake: make(chan struct{}, 1), pools: make(map[string]*poolState)}
}

// Run measures until ctx ends.
func (b *Bench) Run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		b.lookUp()
		m, wait := b.next(ctx, time.Now())
		if m != nil {
			b.carryOut(ctx, m)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-b.wake:
		case <-timer.C:
		}
	}
	b.interrupted()
}

// rouse has Run look again.
func (b *Bench) rouse() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// pool returns the state of a pool; the caller holds the lock.
func (b *Bench) pool(id string) *poolState {
	p := b.pools[id]
	if p == nil {
		p = &poolState{engines: make(map[string]*engineState)}
		b.pools[id] = p
	}
	return p
}

// Serves reports a run of an engine that serves, and again when it may be measured by itself or no
// longer.
func (b *Bench) Serves(t Target) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pool(t.Pool)
	if e := p.engines[t.Replica]; e != nil && e.target.Run == t.Run {
		e.target, e.looked = t, false
		if m := b.current; !t.Automatic && m != nil && m.asked == nil {
			b.stop(t.Pool, errOff)
		}
		e.due = nil
	} else {
		p.engines[t.Replica] = &engineState{target: t}
	}
	b.rouse()
}

// Changed reports a pool's new status, nil once it was removed (registry.OnPool).
func (b *Bench) Changed(id string, status *registry.Pool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if status == nil {
		b.stop(id, errRemoved)
		delete(b.pools, id)
		return
	}
	p := b.pool(id)
	p.status = status
	if m := b.current; m != nil {
		if why := b.against(m); why != nil {
			m.cancel(why)
		}
	}
	if b.waiting() {
		b.rouse()
	}
}

// Wanted reports that a lease of a pool is asked for, before it is granted: a measurement that is
// under way there, or on the same devices, ends.
func (b *Bench) Wanted(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pools[id]
	if p == nil {
		return
	}
	p.wanted = time.Now()
	if m := b.current; m != nil && !m.forced() && b.near(m.target.Pool, id) {
		m.cancel(errWanted)
	}
}

// stop ends a measurement of a pool; the caller holds the lock.
func (b *Bench) stop(id string, why error) {
	if m := b.current; m != nil && m.target.Pool == id {
		m.cancel(why)
	}
}

// waiting reports whether anything is to be measured, or looked up; the caller holds the lock.
func (b *Bench) waiting() bool {
	for _, p := range b.pools {
		if p.asked.pending() {
			return true
		}
		for _, e := range p.engines {
			if e.due != nil || !e.looked {
				return true
			}
		}
	}
	return false
}

// carryOut measures, and takes the result.
func (b *Bench) carryOut(ctx context.Context, m *measurement) {
	limited, cancel := context.WithTimeoutCause(ctx, longest, errTooLong)
	defer cancel()
	limited, m.cancel = context.WithCancelCause(limited)
	defer m.cancel(nil)
	b.mu.Lock()
	b.current = m
	if why := b.against(m); why != nil { // since it was chosen
		m.cancel(why)
	}
	b.mu.Unlock()
	result, err := b.measure(limited, m)
	if err != nil && limited.Err() != nil {
		err = context.Cause(limited)
	}
	b.mu.Lock()
	b.current = nil
	b.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	if m.asked != nil {
		b.finishAsked(m, result, err)
		return
	}
	b.finishDue(m, result, err)
}
