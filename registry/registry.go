package registry

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Registry holds the status of every pool of this host. Make one with New.
//
// A writer replaces one pool's whole status, and touches no other pool: a write costs the same with
// one pool as with a thousand. A reader loads the newest status without a lock, and the value never
// changes. Order is kept within a pool, not between pools: a Snapshot may have one pool as of
// before, and another as of after, a write to both.
type Registry struct {
	pools   atomic.Pointer[index]
	host    atomic.Pointer[hostFacts]
	version atomic.Uint64 // grows by one after each change, so that a reader that loads it first misses none
	beats   atomic.Uint64 // the same for writes that only change a heartbeat

	write   sync.Mutex // one writer at a time; also guards the fields below
	observe []Observer
	onPool  []func(id string, p *Pool)
	count   Counter // nil: there are no leases
	hints   Hinter  // nil: no engine is measured

	events ring
}

// index is the list of pools, sorted by id. It is replaced when a pool is added or removed, not
// when one changes.
type index []*slot

// slot has one pool's newest status.
type slot struct {
	id  string
	now atomic.Pointer[Pool]
}

// hostFacts are the facts that are not of a pool.
type hostFacts struct {
	problems []Problem
	devices  Devices
}

// Snapshot is the content of the registry at one moment. It is shared by all readers: read-only.
type Snapshot struct {
	Version  uint64  // grows by one with each change
	Beats    uint64  // grows by one with each write that only changes a heartbeat
	Pools    []*Pool // sorted by id
	Problems []Problem
	Devices  Devices
}

// Problem is an invalid pool file. It is kept beside the pools, since such a file may name
// none.
type Problem struct {
	File   string
	PoolID string // empty if the file names none
	Text   string // with file, line and column
	Hint   string // what to do, a sentence; may be empty
}

// New returns an empty registry.
func New() *Registry {
	r := &Registry{}
	r.pools.Store(&index{})
	r.host.Store(&hostFacts{})
	r.events.next = make(chan struct{})
	return r
}

// Observe adds an observer of later events. It is called in their order, by the writer's goroutine.
func (r *Registry) Observe(o Observer) {
	r.write.Lock()
	defer r.write.Unlock()
	r.observe = append(r.observe, o)
}

// OnPool registers f, which is called with each later status of a pool, nil after it was removed. f
// is called in the order of the writes and under the registry's lock: it must return at once and
// not call the registry. A status that only changes a heartbeat is not reported.
func (r *Registry) OnPool(f func(id string, p *Pool)) {
	r.write.Lock()
	defer r.write.Unlock()
	r.onPool = append(r.onPool, f)
}

// wrote reports a pool's new status; the caller holds the write lock.
func (r *Registry) wrote(id string, p *Pool) {
	for _, f := range r.onPool {
		f(id, p)
	}
}

// Put replaces the status of one pool. The registry keeps the value's slices: the caller must not
// change them afterwards. A change of ready, of the pool or of a replica, becomes an event. A
// status that differs from the former one only in heartbeats is no change: readers see the
// heartbeats, and the version stays. It returns the status as readers see it.
func (r *Registry) Put(p Pool) *Pool {
	r.write.Lock()
	defer r.write.Unlock()
	r.counted(&p)
	r.hinted(&p)
	at, found := r.pools.Load().search(p.ID)
	if !found {
		s := &slot{id: p.ID}
		s.now.Store(&p)
		next := slices.Insert(slices.Clone(*r.pools.Load()), at, s)
		r.pools.Store(&next)
		r.version.Add(1)
		r.wrote(p.ID, &p)
		r.record(flips(nil, &p, time.Now()), &p)
		return &p
	}
	r.replace((*r.pools.Load())[at], &p)
	return &p
}

// replace stores a pool's new status; the caller holds the write lock.
func (r *Registry) replace(s *slot, p *Pool) {
	before := s.now.Swap(p)
	if sameButHeartbeat(before, p) {
		r.beats.Add(1)
		return
	}
	r.version.Add(1)
	r.wrote(p.ID, p)
	r.record(flips(before, p, time.Now()), p)
}

// Remove removes a pool. Removing an unknown one does nothing.
func (r *Registry) Remove(id string) {
	r.write.Lock()
	defer r.write.Unlock()
	was := *r.pools.Load()
	at, found := was.search(id)
	if !found {
		return
	}
	last := was[at].now.Load()
	next := slices.Delete(slices.Clone(was), at, at+1)
	r.pools.Store(&next)
	r.version.Add(1)
	r.wrote(id, nil)
	r.record(flips(last, nil, time.Now()), last)
}

// SetProblems replaces the list of invalid pool files. The registry keeps the slice.
func (r *Registry) SetProblems(list []Problem) {
	r.write.Lock()
	defer r.write.Unlock()
	next := *r.host.Load()
	next.problems = list
	r.host.Store(&next)
	r.version.Add(1)
}

// SetDevices replaces the facts about the GPUs. The registry keeps the value's slices. A change of
// a GPU's health becomes an event.
func (r *Registry) SetDevices(d Devices) {
	r.write.Lock()
	defer r.write.Unlock()
	was := r.host.Load()
	next := *was
	next.devices = d
	r.host.Store(&next)
	r.version.Add(1)
	r.record(deviceFlips(&was.devices, &d, time.Now()), nil)
}

// Snapshot returns the registry's content now, without waiting for a writer. It costs a pointer for
// each pool: use Find if one pool is enough.
func (r *Registry) Snapshot() *Snapshot {
	out := &Snapshot{Version: r.version.Load(), Beats: r.beats.Load()}
	host, pools := r.host.Load(), *r.pools.Load()
	out.Problems, out.Devices = host.problems, host.devices
	out.Pools = make([]*Pool, len(pools))
	for i, s := range pools {
		out.Pools[i] = s.now.Load()
	}
	return out
}

// Version returns the numbers of a Snapshot taken now. While both are unchanged, so is the
// registry's content.
func (r *Registry) Version() (version, beats uint64) { return r.version.Load(), r.beats.Load() }

// Devices returns the facts about the GPUs. They are shared by all readers: read-only.
func (r *Registry) Devices() *Devices { return &r.host.Load().devices }

// Find returns one pool's newest status; ok is false if there is no such pool. It is shared by all
// readers: read-only, and another pointer after each write.
func (r *Registry) Find(id string) (p *Pool, ok bool) {
	pools := *r.pools.Load()
	at, found := pools.search(id)
	if !found {
		return nil, false
	}
	return pools[at].now.Load(), true
}

// Pools returns every pool, sorted by id.
func (r *Registry) Pools() []Pool {
	pools := *r.pools.Load()
	list := make([]Pool, len(pools))
	for i, s := range pools {
		list[i] = *s.now.Load()
	}
	return list
}

// Pool returns one pool; ok is false if there is no such pool.
func (r *Registry) Pool(id string) (p Pool, ok bool) {
	if found, ok := r.Find(id); ok {
		return *found, true
	}
	return Pool{}, false
}

func (x index) search(id string) (int, bool) {
	return slices.BinarySearchFunc(x, id, func(s *slot, id string) int { return strings.Compare(s.id, id) })
}

// Pool returns one pool of the snapshot.
func (s *Snapshot) Pool(id string) (*Pool, bool) {
	at, found := slices.BinarySearchFunc(s.Pools, id, func(p *Pool, id string) int { return strings.Compare(p.ID, id) })
	if !found {
		return nil, false
	}
	return s.Pools[at], true
}
