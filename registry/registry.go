package registry

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Registry holds the status of every pool of this host. Make one with New.
//
// A writer replaces a pool's whole status. A reader loads the newest snapshot: it takes no lock, and what it
// got never changes under it. A write costs a copy of one pointer per pool, which is less than a page
// for five hundred pools.
type Registry struct {
	now atomic.Pointer[Snapshot]

	write    sync.Mutex // one writer at a time; also guards the fields below
	observe  []Observer
	watchers map[chan struct{}]struct{}
	events   ring
	count    Counter // nil: there are no leases
}

// Snapshot is everything that the registry held at one moment. It is shared by all readers: read-only.
type Snapshot struct {
	Version  uint64  // grows by one with each write
	Pools    []*Pool // sorted by id
	Problems []Problem
	Devices  Devices
}

// Problem is a pool file that is wrong. It stands beside the pools, since such a file may name none.
type Problem struct {
	File   string
	PoolID string // empty where it cannot be told
	Text   string // with file, line and column
	Hint   string // what to do, a sentence; may be empty
}

// New makes an empty registry.
func New() *Registry {
	r := &Registry{watchers: make(map[chan struct{}]struct{})}
	r.now.Store(&Snapshot{})
	return r
}

// Observe adds an observer of later events. It is called in their order, by the goroutine that wrote.
func (r *Registry) Observe(o Observer) {
	r.write.Lock()
	defer r.write.Unlock()
	r.observe = append(r.observe, o)
}

// Put replaces the status of one pool. The registry keeps the value's slices: the caller must not change them
// afterwards. A flip of ready, of the pool or of a replica, becomes an event.
func (r *Registry) Put(p Pool) {
	r.write.Lock()
	defer r.write.Unlock()
	r.counted(&p)
	was := r.now.Load()
	next := *was
	var before *Pool
	at, found := was.search(p.ID)
	if found {
		before = was.Pools[at]
		next.Pools = slices.Clone(was.Pools)
		next.Pools[at] = &p
	} else {
		next.Pools = slices.Insert(slices.Clone(was.Pools), at, &p)
	}
	r.publish(next)
	r.record(flips(before, &p, time.Now()), &p)
}

// Remove forgets a pool. Removing an unknown one does nothing.
func (r *Registry) Remove(id string) {
	r.write.Lock()
	defer r.write.Unlock()
	was := r.now.Load()
	at, found := was.search(id)
	if !found {
		return
	}
	next := *was
	next.Pools = slices.Delete(slices.Clone(was.Pools), at, at+1)
	r.publish(next)
	r.record(flips(was.Pools[at], nil, time.Now()), was.Pools[at])
}

// SetProblems replaces the list of wrong pool files. The registry keeps the slice.
func (r *Registry) SetProblems(list []Problem) {
	r.write.Lock()
	defer r.write.Unlock()
	next := *r.now.Load()
	next.Problems = list
	r.publish(next)
}

// SetDevices replaces what is known of the GPUs. The registry keeps the value's slices. A change of a GPU's health
// becomes an event.
func (r *Registry) SetDevices(d Devices) {
	r.write.Lock()
	defer r.write.Unlock()
	was := r.now.Load()
	next := *was
	next.Devices = d
	r.publish(next)
	r.record(deviceFlips(&was.Devices, &d, time.Now()), nil)
}

// publish makes next visible and tells the watchers; the caller holds the write lock.
func (r *Registry) publish(next Snapshot) {
	next.Version++
	r.now.Store(&next)
	r.wake()
}

// wake tells the watchers; the caller holds the write lock.
func (r *Registry) wake() {
	for w := range r.watchers {
		select {
		case w <- struct{}{}:
		default: // it has not yet looked at an earlier change, and will see this one too
		}
	}
}

// Snapshot returns what the registry holds now, without waiting for a writer.
func (r *Registry) Snapshot() *Snapshot { return r.now.Load() }

// Pools returns every pool, sorted by id.
func (r *Registry) Pools() []Pool {
	s := r.now.Load()
	list := make([]Pool, len(s.Pools))
	for i, p := range s.Pools {
		list[i] = *p
	}
	return list
}

// Pool returns one pool; ok is false when there is none of that id.
func (r *Registry) Pool(id string) (p Pool, ok bool) {
	if found, ok := r.now.Load().Pool(id); ok {
		return *found, true
	}
	return Pool{}, false
}

// Watch returns a channel that receives after every change; changes that the receiver has not yet looked at
// are one receipt. The channel is closed when ctx ends.
func (r *Registry) Watch(ctx context.Context) <-chan struct{} {
	w := make(chan struct{}, 1)
	r.write.Lock()
	r.watchers[w] = struct{}{}
	r.write.Unlock()
	context.AfterFunc(ctx, func() {
		r.write.Lock()
		defer r.write.Unlock()
		delete(r.watchers, w)
		close(w) // under the lock, so that no writer sends on it any more
	})
	return w
}

// Pool returns one pool of the snapshot.
func (s *Snapshot) Pool(id string) (*Pool, bool) {
	at, found := s.search(id)
	if !found {
		return nil, false
	}
	return s.Pools[at], true
}

func (s *Snapshot) search(id string) (int, bool) {
	return slices.BinarySearchFunc(s.Pools, id, func(p *Pool, id string) int { return strings.Compare(p.ID, id) })
}
