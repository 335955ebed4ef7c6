package api

import (
	"sync"
	"time"
)

// deadline is a connection's deadline for reads, or for writes. net/http sets five for each
// request, each later than the one before, and each costs a timer in the runtime. Here a later one
// is only stored: one timer stays at the earliest, and checks when it fires whether the deadline
// has passed. A deadline is never early, and late by at most a timer's delay.
type deadline struct {
	set func(time.Time) error // the connection's own

	mu    sync.Mutex
	want  time.Time // zero: none
	timer *time.Timer
	fires time.Time // zero: the timer is not running
	own   bool      // the connection's own deadline is set: it has passed
}

// Set replaces the deadline; the zero value is none.
func (d *deadline) Set(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.want = t
	running := !d.fires.IsZero()
	if t.IsZero() || running && !t.Before(d.fires) {
		return d.clear()
	}
	left := time.Until(t)
	if left <= 0 {
		d.own = true
		return d.set(t)
	}
	d.fires = t
	if d.timer == nil {
		d.timer = time.AfterFunc(left, d.fire)
	} else {
		d.timer.Reset(left)
	}
	return d.clear()
}

// clear lifts the connection's own deadline; the caller holds the lock.
func (d *deadline) clear() error {
	if !d.own {
		return nil
	}
	d.own = false
	return d.set(time.Time{})
}

func (d *deadline) fire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fires = time.Time{}
	if d.want.IsZero() {
		return
	}
	if left := time.Until(d.want); left > 0 {
		d.fires = d.want
		d.timer.Reset(left)
		return
	}
	d.own = true
	_ = d.set(d.want) // a connection that is closed already needs none
}

// stop ends the timer, with the connection.
func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.want = time.Time{}
	if d.timer != nil {
		d.timer.Stop()
	}
}
