package view

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
)

// Set is a fleet, as far as it was read. It is of one goroutine. Make one with New.
type Set struct {
	keys     record.Keys
	prefix   string
	now      content
	next     *content // of a list that is not complete; nil: none
	revision int64
	complete bool // a whole list was read
	maxKeys  int
	maxBytes int
	maxList  int
}

// content are the records of a fleet.
type content struct {
	machines  map[string]*machine
	skipped   map[string]bool // keys whose values cannot be read
	sizes     map[string]int  // of each key with its value
	bytes     int
	list      int // bytes of lists of models
	truncated bool
	shortened bool // lists of models are left out
}

// machine is what there is below one machine-id.
type machine struct {
	host      *wire.FleetHost // nil: none, and the pools are hidden
	pools     map[string]*wire.FleetPool
	conflicts map[string]*wire.FleetConflict
	models    *record.Models // nil: not known
}

// New returns an empty set for keys below a prefix.
func New(prefix string) *Set {
	return &Set{keys: record.Below(prefix), prefix: prefix, now: newContent(), maxKeys: maxKeys, maxBytes: maxBytes,
		maxList: maxList}
}

func newContent() content {
	return content{machines: map[string]*machine{}, skipped: map[string]bool{}, sizes: map[string]int{}}
}

// Complete reports whether a whole list was read, now or before a connection was lost.
func (s *Set) Complete() bool { return s.complete }

// Revision is that of etcd up to which changes are known.
func (s *Set) Revision() int64 { return s.revision }

// Apply takes what a reader got, and returns what changed in the view: hosts before their pools
// when they come, and after them when they go.
func (s *Set) Apply(b Batch) []Change {
	switch b.Kind {
	case Begin:
		c := newContent()
		s.next = &c
	case Page:
		if s.next != nil {
			for _, kv := range b.KVs {
				s.put(s.next, kv)
			}
		}
	case End:
		return s.replace(b.Revision)
	case Changed:
		return s.change(b)
	case Lost:
		s.next = nil
	case Alive:
	}
	return nil
}

// replace has a complete list take the place of what was known.
func (s *Set) replace(revision int64) []Change {
	if s.next == nil {
		return nil
	}
	before := s.now
	s.now, s.next, s.revision, s.complete = *s.next, nil, revision, true
	ids := slices.Collect(maps.Keys(before.machines))
	for id := range s.now.machines {
		if before.machines[id] == nil {
			ids = append(ids, id)
		}
	}
	var all []Change
	slices.Sort(ids)
	for _, id := range ids {
		all = append(all, differences(id, before.machines[id], s.now.machines[id])...)
	}
	return all
}

// change takes changes of keys.
func (s *Set) change(b Batch) []Change {
	if !s.complete {
		return nil // a list is to come first
	}
	before := map[string]*machine{}
	for _, kv := range b.KVs {
		kind, id, _ := s.keys.Parse(kv.Key)
		if kind == 0 {
			continue
		}
		if _, seen := before[id]; !seen {
			before[id] = s.now.machines[id].clone()
		}
		s.put(&s.now, kv)
	}
	s.revision = max(s.revision, b.Revision)
	var all []Change
	for _, id := range slices.Sorted(maps.Keys(before)) {
		all = append(all, differences(id, before[id], s.now.machines[id])...)
	}
	return all
}

// put takes a key with its value, where there is room for it.
func (s *Set) put(c *content, kv KV) {
	kind, id, rest := s.keys.Parse(kv.Key)
	if kind == 0 {
		return
	}
	c.remove(kind, id, rest, kv.Key)
	if kv.Value == nil {
		return
	}
	size := len(kv.Key) + len(kv.Value)
	if kind == record.KindModels {
		s.putModels(c, id, kv, size)
		return
	}
	if len(c.sizes) >= s.maxKeys || c.bytes+size > s.maxBytes {
		c.truncated = true
		return
	}
	c.sizes[kv.Key], c.bytes = size, c.bytes+size
	if !c.add(kind, id, rest, kv.Value) {
		c.skipped[kv.Key] = true
	}
}

// putModels takes a list of models, which has no part in the room for hosts and pools.
func (s *Set) putModels(c *content, id string, kv KV, size int) {
	if len(c.sizes) >= s.maxKeys || c.list+size > s.maxList {
		c.shortened = true
		return
	}
	c.sizes[kv.Key], c.list = size, c.list+size
	m, err := record.DecodeModels(kv.Value)
	if err != nil || m.MachineID != id {
		c.skipped[kv.Key] = true
		return
	}
	c.at(id).models = &m
}

// add takes a record; false: its value cannot be read, or is not that of its key.
func (c *content) add(kind record.Kind, id, rest string, value []byte) bool {
	if kind == record.KindPool {
		p, err := record.DecodePool(value)
		if err != nil || p.ID != rest {
			return false
		}
		c.at(id).pools[rest] = poolOf(p)
		return true
	}
	h, err := record.DecodeHost(value)
	if err != nil || h.MachineID != id {
		return false
	}
	if kind == record.KindHost {
		c.at(id).host = hostOf(h)
		return true
	}
	if h.BootID != rest {
		return false
	}
	c.at(id).conflicts[rest] = &wire.FleetConflict{MachineID: id, BootID: rest, Name: h.Name, Address: h.Address}
	return true
}

// at is what there is below a machine-id, which is made where there was nothing.
func (c *content) at(id string) *machine {
	m := c.machines[id]
	if m == nil {
		m = &machine{pools: map[string]*wire.FleetPool{}, conflicts: map[string]*wire.FleetConflict{}}
		c.machines[id] = m
	}
	return m
}

// remove drops what a key had.
func (c *content) remove(kind record.Kind, id, rest, key string) {
	if kind == record.KindModels {
		c.list -= c.sizes[key]
	} else {
		c.bytes -= c.sizes[key]
	}
	delete(c.sizes, key)
	delete(c.skipped, key)
	m := c.machines[id]
	if m == nil {
		return
	}
	switch kind {
	case record.KindHost:
		m.host = nil
	case record.KindPool:
		delete(m.pools, rest)
	case record.KindConflict:
		delete(m.conflicts, rest)
	case record.KindModels:
		m.models = nil
	}
	if m.host == nil && m.models == nil && len(m.pools) == 0 && len(m.conflicts) == 0 {
		delete(c.machines, id)
	}
}

// clone is a copy that later changes do not reach.
func (m *machine) clone() *machine {
	if m == nil {
		return nil
	}
	return &machine{m.host, maps.Clone(m.pools), maps.Clone(m.conflicts), m.models}
}

// pool is one with its host; nil: it is not shown.
func (m *machine) pool(id string) *wire.FleetPool {
	if m == nil || m.host == nil || m.pools[id] == nil {
		return nil
	}
	p := *m.pools[id]
	p.Node, p.MachineID, p.Address = m.host.Name, m.host.MachineID, m.host.Address
	return &p
}

// conflict is one with the name of the host that is published; nil: there is none.
func (m *machine) conflict(boot string) *wire.FleetConflict {
	if m == nil || m.conflicts[boot] == nil {
		return nil
	}
	c := *m.conflicts[boot]
	if m.host != nil {
		c.Published = m.host.Name
	}
	return &c
}

// shown is the host; nil: there is none.
func (m *machine) shown() *wire.FleetHost {
	if m == nil {
		return nil
	}
	return m.host
}

// differences are what changed below one machine-id.
func differences(id string, before, after *machine) []Change {
	var all, last []Change
	was, is := before.shown(), after.shown()
	node := ""
	switch {
	case is != nil:
		node = is.Name
		if !reflect.DeepEqual(was, is) {
			all = append(all, Change{MachineID: id, Node: node, Host: is})
		}
	case was != nil:
		node = was.Name
		last = append(last, Change{MachineID: id, Node: node, Gone: true})
	}
	for _, pool := range either(before, after, func(m *machine) map[string]*wire.FleetPool { return m.pools }) {
		was, is := before.pool(pool), after.pool(pool)
		if !reflect.DeepEqual(was, is) {
			all = append(all, Change{MachineID: id, Node: node, PoolID: pool, Gone: is == nil, Pool: is})
		}
	}
	for _, boot := range either(before, after,
		func(m *machine) map[string]*wire.FleetConflict { return m.conflicts }) {
		was, is := before.conflict(boot), after.conflict(boot)
		if !reflect.DeepEqual(was, is) {
			all = append(all, Change{MachineID: id, Node: cmp.Or(is, was).Name, BootID: boot, Gone: is == nil,
				Conflict: is})
		}
	}
	return append(all, last...)
}

// either are the names that one of two machines has, sorted.
func either[T any](a, b *machine, of func(*machine) map[string]T) []string {
	var names []string
	for _, m := range []*machine{a, b} {
		if m != nil {
			names = slices.AppendSeq(names, maps.Keys(of(m)))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
