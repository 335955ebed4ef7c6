package etcd

import (
	"bytes"
	"cmp"
	"reflect"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
)

// The pace of writes of a host that is published already.
const (
	poolGap   = 500 * time.Millisecond // between two writes of one key
	perSecond = 20                     // keys of a host, and as many at once after a quiet second
	// restRatio is how long slots and the like wait after a write, by how long etcd took for it: an
	// etcd that is overloaded gets fewer writes, at most for longestRest.
	restRatio   = 4
	longestRest = 10 * time.Second
	// batchKeys and batchBytes bound one transaction; etcd's own limits are 128 operations and 1.5
	// MiB as it is installed.
	batchKeys  = 100
	batchBytes = 512 << 10
)

// Urgency of a change, most urgent first.
const (
	presence     = iota // a pool came or went
	availability        // whether requests go there
	other
	use // slots and leases
)

// entry is a key.
type entry struct {
	want  []byte // nil: it is to be deleted
	has   []byte // in etcd; nil: nothing
	pool  *record.Pool
	known *record.Pool // what etcd has; nil: nothing, or the key is no pool's
	wrote time.Time    // the last time; zero: not in this session
}

// plan decides what is written next. It is pure: the time is an argument.
type plan struct {
	entries map[string]*entry
	budget  float64 // keys that may be written now
	at      time.Time
	rest    time.Time // only what is urgent is written before
}

// newPlan is the plan of a session in which nothing was written yet but exist, which are keys with
// unknown values.
func newPlan(exist []string, now time.Time) *plan {
	p := &plan{entries: map[string]*entry{}, budget: perSecond, at: now}
	for _, key := range exist {
		p.entries[key] = &entry{has: []byte("unknown")}
	}
	return p
}

// wantPools replaces what is to be in etcd of pools.
func (p *plan) wantPools(pools map[string]*record.Pool) {
	for key, e := range p.entries {
		if e.pool == nil && e.want != nil {
			continue // the host's own, or that of its models
		}
		if pools[key] == nil {
			e.want, e.pool = nil, nil
		}
	}
	for key, pool := range pools {
		p.set(key, record.Encode(*pool), pool)
	}
}

func (p *plan) set(key string, value []byte, pool *record.Pool) {
	e := p.entries[key]
	if e == nil {
		e = &entry{}
		p.entries[key] = e
	}
	e.want, e.pool = value, pool
}

// kept is how many keys etcd has beside one, the host's.
func (p *plan) kept(beside string) int {
	n := 0
	for key, e := range p.entries {
		if e.has != nil && key != beside {
			n++
		}
	}
	return n
}

// urgency of what differs between what is wanted and what etcd has.
func (e *entry) urgency() int {
	switch {
	case e.want == nil || e.has == nil:
		return presence
	case e.pool == nil || e.known == nil:
		return other
	case e.pool.Availability() != e.known.Availability():
		return availability
	case !reflect.DeepEqual(e.pool.WithoutUse(), e.known.WithoutUse()):
		return other
	}
	return use
}

// whole is everything that differs, in transactions, with one key first: what a session begins
// with.
func (p *plan) whole(first string) [][]change {
	var batches [][]change
	keys := slices.DeleteFunc(p.differing(), func(key string) bool { return key == first })
	keys = append([]string{first}, keys...)
	for len(keys) > 0 {
		batch := p.batch(keys, batchKeys)
		batches, keys = append(batches, batch), keys[len(batch):]
	}
	return batches
}

// next is what is to be written now, and when to ask again if that is nothing; zero: not before
// something else is wanted.
func (p *plan) next(now time.Time) (batch []change, again time.Time) {
	p.budget = min(perSecond, p.budget+now.Sub(p.at).Seconds()*perSecond)
	p.at = now
	var due []string
	for _, key := range p.differing() {
		e := p.entries[key]
		at := e.wrote.Add(poolGap)
		if e.urgency() >= other && p.rest.After(at) {
			at = p.rest
		}
		if at.After(now) {
			again = sooner(again, at)
		} else {
			due = append(due, key)
		}
	}
	if batch = p.batch(due, int(p.budget)); len(batch) == 0 && len(due) > 0 {
		// a little more than the missing part, so that it is there then
		again = sooner(again, now.Add(time.Duration((1-p.budget)/perSecond*float64(time.Second))+time.Millisecond))
	}
	return batch, again
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// differing are the keys that etcd has otherwise than wanted, the most urgent first, then those
// that were not written for the longest time.
func (p *plan) differing() []string {
	type one struct {
		key     string
		urgency int
		wrote   time.Time
	}
	var all []one
	for key, e := range p.entries {
		if !bytes.Equal(e.want, e.has) {
			all = append(all, one{key, e.urgency(), e.wrote})
		}
	}
	slices.SortFunc(all, func(a, b one) int {
		return cmp.Or(cmp.Compare(a.urgency, b.urgency), a.wrote.Compare(b.wrote), cmp.Compare(a.key, b.key))
	})
	keys := make([]string, len(all))
	for i, o := range all {
		keys[i] = o.key
	}
	return keys
}

// batch are the changes of the first keys, as many as one transaction takes and at most limit.
func (p *plan) batch(keys []string, limit int) []change {
	var batch []change
	size := 0
	for _, key := range keys {
		e := p.entries[key]
		if len(batch) == min(limit, batchKeys) || len(batch) > 0 && size+len(e.want) > batchBytes {
			break
		}
		batch, size = append(batch, change{key, e.want}), size+len(key)+len(e.want)
	}
	return batch
}

// wrote records that etcd has a batch that next or whole returned, after a write from begun to now.
func (p *plan) wrote(batch []change, begun, now time.Time) {
	p.rest = now.Add(min(longestRest, restRatio*now.Sub(begun)))
	for _, c := range batch {
		p.budget--
		e := p.entries[c.key]
		if c.value == nil && e.want == nil {
			delete(p.entries, c.key)
			continue
		}
		e.has, e.wrote, e.known = c.value, now, e.pool
	}
	p.budget = max(p.budget, 0)
}
