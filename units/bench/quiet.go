package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/perf"
)

// When an automatic measurement may be.
const (
	settleFor    = 5 * time.Second  // after ready: the engine and its host have loaded a model
	wantedFor    = 30 * time.Second // after a lease was asked for: another may follow
	quietWithin  = 30 * time.Second // how long a quiet host is waited for, until it is measured as it is
	lookEvery    = 2 * time.Second  // while the host is busy
	longest      = 5 * time.Minute  // of one measurement
	pressureMost = 0.10             // share of the last seconds in which something waited for a CPU
)

// repeatAfter is when a disturbed or failed measurement is repeated. The best of shownAfter
// disturbed ones is shown.
var repeatAfter = []time.Duration{15 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute}

const shownAfter = 3

// Why a measurement ends early.
var (
	errWanted   = errors.New("a lease was asked for")
	errLeased   = errors.New("leases are held, of the pool or of one on the same devices")
	errGone     = errors.New("the engine stopped serving")
	errDraining = errors.New("the pool drains")
	errReload   = errors.New("the pool is reloaded")
	errRemoved  = errors.New("the pool was removed")
	errAsleep   = errors.New("the engine sleeps, and a request would wake it")
	errTooLong  = fmt.Errorf("it took longer than %s", longest)
	errOff      = errors.New("[hints] benchmark is false now")
	errShutdown = errors.New("the manager is shutting down")
)

// due is an automatic measurement.
type due struct {
	after time.Time    // not before
	noisy time.Time    // since when only noise prevents it; zero: it does not
	tries int          // that were disturbed or failed
	best  *perf.Result // of those that were disturbed
	shown bool         // best is shown
	waits string       // why it is not made yet
}

// against returns why a measurement must not be, or end; nil: it may go on. The caller holds the
// lock.
func (b *Bench) against(m *measurement) error {
	p := b.pools[m.target.Pool]
	if p == nil || p.status == nil {
		return errGone
	}
	r := replicaOf(p.status, m.target.Replica)
	switch {
	case r == nil || !r.Ready || r.InvocationID != m.target.Run && m.target.Run != "":
		return errGone
	case p.status.Draining:
		return errDraining
	case p.status.Reload != nil:
		return errReload
	case m.forced():
		return nil
	case r.Asleep:
		return errAsleep
	}
	for id, other := range b.pools {
		if other.status != nil && other.status.ActiveLeases > 0 && b.near(m.target.Pool, id) {
			return errLeased
		}
	}
	return nil
}

func replicaOf(p *registry.Pool, id string) *registry.Replica {
	at := slices.IndexFunc(p.Replicas, func(r registry.Replica) bool { return r.ID == id })
	if at < 0 {
		return nil
	}
	return &p.Replicas[at]
}

// near reports whether work of one pool slows the other down: it is the same one, both share a
// device, or both run on the CPU. The caller holds the lock.
func (b *Bench) near(a, with string) bool {
	if a == with {
		return true
	}
	one, other := b.pools[a], b.pools[with]
	if one == nil || other == nil || one.status == nil || other.status == nil {
		return false
	}
	if len(one.status.DeviceMask)+len(other.status.DeviceMask) == 0 {
		return true
	}
	return slices.ContainsFunc(one.status.DeviceMask, func(d string) bool {
		return slices.Contains(other.status.DeviceMask, d)
	})
}

// next returns what is to be measured now, or how long to wait until that is looked at again. What
// was asked for comes first.
func (b *Bench) next(ctx context.Context, now time.Time) (*measurement, time.Duration) {
	share, known := b.o.Pressure()
	noise := ""
	if known && share > pressureMost {
		noise = fmt.Sprintf("the host is busy: something waited for a CPU for %.0f %% of the time", 100*share)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(b.pools)) {
		if m := b.nextAsked(b.pools[id]); m != nil {
			return m, 0
		}
	}
	wait := time.Hour
	for _, id := range slices.Sorted(maps.Keys(b.pools)) {
		p := b.pools[id]
		for _, replica := range slices.Sorted(maps.Keys(p.engines)) {
			e := p.engines[replica]
			if e.due == nil {
				continue
			}
			m := &measurement{target: e.target, streams: b.slots(e.target)}
			left := b.ready(p, m, e.due, cmp.Or(b.loading(id), noise), now)
			if left <= 0 {
				return m, 0
			}
			wait = min(wait, left)
		}
	}
	return nil, wait
}

// ready decides on an automatic measurement: it returns how long to wait, 0 for now. The caller
// holds the lock.
func (b *Bench) ready(p *poolState, m *measurement, d *due, noise string, now time.Time) time.Duration {
	wait := func(why string, for_ time.Duration) time.Duration {
		d.waits = why
		return for_
	}
	if why := b.against(m); why != nil {
		d.noisy = time.Time{}
		return wait(why.Error(), time.Hour) // a change of the pool's status ends the wait
	}
	if at := p.wanted.Add(wantedFor); now.Before(at) {
		return wait(errWanted.Error()+" a moment ago", at.Sub(now))
	}
	if now.Before(d.after) {
		return wait("it is measured in a moment", d.after.Sub(now))
	}
	if n := p.status.Work.InProgress; noise == "" && n != nil && *n > 0 {
		noise = "the engine works on requests"
	}
	if noise == "" {
		d.noisy, m.noisy = time.Time{}, ""
		return 0
	}
	if d.noisy.IsZero() {
		d.noisy = now
	}
	if now.Sub(d.noisy) < quietWithin {
		return wait(noise, lookEvery)
	}
	m.noisy = noise
	return 0
}

// loading names another pool that loads, "" for none. The caller holds the lock.
func (b *Bench) loading(but string) string {
	for id, p := range b.pools {
		if id == but || p.status == nil {
			continue
		}
		for _, r := range p.status.Replicas {
			if r.State == registry.StateStarting || r.State == registry.StateProbing {
				return "pool " + id + " loads its model"
			}
		}
	}
	return ""
}

// slots is at how many streams at most an engine is measured. The caller holds the lock.
func (b *Bench) slots(t Target) int {
	p := b.pools[t.Pool]
	if p == nil || p.status == nil {
		return 1
	}
	if r := replicaOf(p.status, t.Replica); r != nil {
		return max(1, min(r.SlotsTotal, mostStreams))
	}
	return 1
}
