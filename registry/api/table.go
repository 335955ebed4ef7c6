package api

import (
	"sync"
	"time"
)

// limits bound what is open at a time.
type limits struct {
	all      int // of every caller
	ordinary int // of callers that may not write: the rest is for those that may
	each     int // of one account of ordinary callers
	// swap: an account at its limit has its own oldest idle entry closed for the new one,
	// instead of being refused.
	swap bool
}

// entry is an open connection, or an event stream.
type entry struct {
	account account
	// idle returns since when it has waited for its caller, on any clock that only grows. An entry
	// that the daemon works for is not idle.
	idle  func() (since int64, is bool)
	close func()
	gone  bool // it is in the table no longer
}

// table is what is open, by account. Admission is fair: where there is no room, the account with
// the most entries loses one to an account with fewer, so that no caller is locked out by others
// that hold many.
type table struct {
	limits limits

	mu       sync.Mutex
	open     map[account][]*entry // oldest first
	cleared  map[account]int64    // when an account last had an entry closed for its own
	all      int
	ordinary int
}

// clearEvery is the least time between two entries that are closed for one account of ordinary
// callers, in nanoseconds, once it has clearFrom. A caller that opens connections without end then
// costs an accept and an answer for each, and nothing else.
const (
	clearEvery = int64(20 * time.Millisecond)
	clearFrom  = 4
)

func newTable(l limits) *table {
	return &table{limits: l, open: make(map[account][]*entry), cleared: make(map[account]int64)}
}

// size returns how many entries are open.
func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all
}

// admit adds an entry, and returns the one that the caller must close for it, nil if there is room.
// The new one is refused if there is no room and none may be closed. now is a time in nanoseconds,
// on a clock that only grows.
func (t *table) admit(e *entry, now int64) (evicted *entry, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if evicted, ok = t.room(e, now); !ok {
		return nil, false
	}
	if evicted != nil {
		t.cleared[e.account] = now
		t.remove(evicted)
	}
	t.open[e.account] = append(t.open[e.account], e)
	t.all++
	if !e.account.privileged {
		t.ordinary++
	}
	return evicted, true
}

// leave removes an entry; a second time does nothing.
func (t *table) leave(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(e)
}

// remove is leave for a caller that holds the lock.
func (t *table) remove(e *entry) {
	if e.gone {
		return
	}
	e.gone = true
	t.all--
	if !e.account.privileged {
		t.ordinary--
	}
	own := t.open[e.account]
	for i := range own {
		if own[i] == e {
			copy(own[i:], own[i+1:])
			own[len(own)-1] = nil
			own = own[:len(own)-1]
			break
		}
	}
	if len(own) == 0 {
		delete(t.open, e.account)
		delete(t.cleared, e.account)
		return
	}
	t.open[e.account] = own
}

// room returns the entry to close for a new one; ok is false if the new one is refused.
func (t *table) room(e *entry, now int64) (evicted *entry, ok bool) {
	own := t.open[e.account]
	full := t.all >= t.limits.all
	if !e.account.privileged {
		full = full || t.ordinary >= t.limits.ordinary
		if len(own) < t.limits.each && !full {
			return nil, true
		}
		if len(own) >= clearFrom && now-t.cleared[e.account] < clearEvery {
			return nil, false
		}
		if len(own) < t.limits.each {
			if evicted = oldestIdle(t.largest(len(own), true)); evicted != nil {
				return evicted, true
			}
		}
		return t.swapped(own)
	}
	if !full {
		return nil, true
	}
	// One that may write closes what others do not wait for, then of its own, then any other's.
	if evicted = oldestIdle(t.largest(len(own), false)); evicted != nil {
		return evicted, true
	}
	if evicted, ok = t.swapped(own); ok {
		return evicted, true
	}
	if others := t.largest(0, true); len(others) > 0 {
		return others[0], true
	}
	return nil, false
}

// swapped returns an account's own oldest idle entry, to be closed for its new one.
func (t *table) swapped(own []*entry) (*entry, bool) {
	if !t.limits.swap {
		return nil, false
	}
	e := oldestIdle(own)
	return e, e != nil
}

// largest returns the entries of the account with the most of them, if they are more than n. Of two
// with as many, it is one that may not write.
func (t *table) largest(n int, ordinary bool) (most []*entry) {
	for _, list := range t.open {
		if len(list) <= n || ordinary && list[0].account.privileged {
			continue
		}
		tie := len(list) == len(most) && most[0].account.privileged && !list[0].account.privileged
		if len(list) > len(most) || tie {
			most = list
		}
	}
	return most
}

// oldestIdle returns the entry that has waited longest, nil if none waits.
func oldestIdle(list []*entry) (oldest *entry) {
	var since int64
	for _, e := range list {
		if at, is := e.idle(); is && (oldest == nil || at < since) {
			oldest, since = e, at
		}
	}
	return oldest
}
