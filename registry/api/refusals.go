package api

import (
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// refusals are connections that have been refused. Each stays open for a while, so that a caller
// that opens the next one when the last was closed does so once in that time. The times are
// random: a thousand that are closed in one moment come back in one moment, and any caller that
// connects then waits behind all of them.
type refusals struct {
	mu    sync.Mutex
	slots [refusedSlots][]net.Conn // of one sweep each
	next  int                      // the slot of the next sweep
	open  int
	wake  chan struct{} // has an element while there is something to sweep, until tidy took it
}

// Of each refused connection: it stays open for refusedLeast to refusedLate sweeps, half a second
// to one and a half. While more than refusedMany are open, it is four times as long: a thousand
// callers that wait for the end of one connection to open the next cost a quarter then. A caller
// that reads the answer need not wait for it. At most refusedMost are open, far fewer than the
// files of the manager.
const (
	sweepEvery   = 25 * time.Millisecond
	refusedLeast = 20
	refusedLate  = 60
	refusedMany  = 256
	refusedSlots = 4 * refusedLate
	refusedMost  = 8192
)

// add keeps a connection open for a while.
func (r *refusals) add(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open >= refusedMost {
		_ = c.Close()
		return
	}
	late := refusedLeast + rand.IntN(refusedLate-refusedLeast)
	if r.open >= refusedMany {
		late *= refusedSlots / refusedLate
	}
	slot := (r.next + late) % refusedSlots
	r.slots[slot] = append(r.slots[slot], c)
	if r.open++; r.open == 1 {
		select {
		case r.wake <- struct{}{}:
		default: // tidy sweeps already
		}
	}
}

// sweep closes those whose time is over, and reports whether others remain. It is called each
// sweepEvery.
func (r *refusals) sweep() (more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.slots[r.next] {
		_ = c.Close()
	}
	r.open -= len(r.slots[r.next])
	clear(r.slots[r.next])
	r.slots[r.next] = r.slots[r.next][:0]
	r.next = (r.next + 1) % refusedSlots
	return r.open > 0
}

// closeAll closes all.
func (r *refusals) closeAll() {
	for range refusedSlots {
		r.sweep()
	}
}
