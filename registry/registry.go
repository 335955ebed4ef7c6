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
// one pool as with a thousand. A reader loads what is newest without a lock, and what it got never
// changes under it. Order is kept within a pool, not between pools: a Snapshot may hold one pool as
// it was just before, and another as it was just after, a write to both.
type Registry struct {
	pools   atomic.Pointer[index]
	host    atomic.Pointer[hostFacts]
	version atomic.Uint64 // grows by one after each change, so that a reader who loads it first never misses one
	beats   atomic.Uint64 // the same for writes that only bring a newer heartbeat

	write   sync.Mutex // one writer at a time; also guards the fields below
	observe []Observer
	onPool  []func(id string, p *Pool)
	count   Counter // nil: there are no leases

	events ring
}

// index is the list of pools, sorted by id. It is replaced when a pool comes or goes, not when one
// changes.
type index []*slot

// slot holds one pool's newest status.
type slot struct {
	id  string
	now atomic.Pointer[Pool]
}

// hostFacts are what is known beside the pools.
type hostFacts struct {
	problems []Problem
	devices  Devices
}

// Snapshot is everything that the registry held at one moment. It is shared by all readers:
// read-only.
type Snapshot struct {
	Version  uint64  // grows by one with each change
	Beats    uint64  // grows by one with each write that only brings a newer heartbeat
	Pools    []*Pool // sorted by id
	Problems []Problem
	Devices  Devices
}

// Problem is a pool file that is wrong. It is kept beside the pools, since such a file may name
// none.
type Problem struct {
	File   string
	PoolID string // empty where the file does not say
	Text   string // with file, line and column
	Hint   string // what to do, a sentence; may be empty
}

// New makes an empty registry.
func New() *Registry {
	r := &Registry{}
	r.pools.Store(&index{})
	r.host.Store(&hostFacts{})
	r.events.next = make(chan struct{})
	return r
}

// Observe adds an observer of later events. It is called in their order, by the goroutine that
// wrote.
func (r *Registry) Observe(o Observer) {
	r.write.Lock()
	defer r.write.Unlock()
	r.observe = append(r.observe, o)
}

// OnPool has f called with each later status of a pool, which is nil once it was removed. f is
// called in the order of the writes and under the registry's lock: it must return at once and not
// call the registry. A status that only brings a newer heartbeat is not reported.
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
// change them afterwards. A flip of ready, of the pool or of a replica, becomes an event. A status
// that differs from the former one in nothing but heartbeats is no change: readers see the
// heartbeats, and the version stays.
func (r *Registry) Put(p Pool) {
	r.write.Lock()
	defer r.write.Unlock()
	r.counted(&p)
	at, found := r.pools.Load().search(p.ID)
	if !found {
		s := &slot{id: p.ID}
		s.now.Store(&p)
		next := slices.Insert(slices.Clone(*r.pools.Load()), at, s)
		r.pools.Store(&next)
		r.version.Add(1)
		r.wrote(p.ID, &p)
		r.record(flips(nil, &p, time.Now()), &p)
		return
	}
	r.replace((*r.pools.Load())[at], &p)
}

// replace puts a pool's new status in place of the former one; the caller holds the write lock.
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

// Remove forgets a pool. Removing an unknown one does nothing.
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

// SetProblems replaces the list of wrong pool files. The registry keeps the slice.
func (r *Registry) SetProblems(list []Problem) {
	r.write.Lock()
	defer r.write.Unlock()
	next := *r.host.Load()
	next.problems = list
	r.host.Store(&next)
	r.version.Add(1)
}

// SetDevices replaces what is known of the GPUs. The registry keeps the value's slices. A change of
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

// Snapshot returns what the registry holds now, without waiting for a writer. It costs a pointer
// for each pool: ask for one pool where one is enough.
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

// Version returns the numbers that a Snapshot taken now would hold. As long as both stay, so does
// what the registry holds.
func (r *Registry) Version() (version, beats uint64) { return r.version.Load(), r.beats.Load() }

// Devices returns what is known of the GPUs. It is shared by all readers: read-only.
func (r *Registry) Devices() *Devices { return &r.host.Load().devices }

// Find returns one pool's newest status; ok is false when there is none of that id. It is shared by
// all readers: read-only, and another pointer after each write.
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

// Pool returns one pool; ok is false when there is none of that id.
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
