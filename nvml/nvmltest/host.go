// Package nvmltest replaces hardware in unit tests: a host with NVIDIA GPUs, controlled by the
// test, as an nvml.Source.
//
// It knows only the data of package nvml. It must not imitate NVML, the driver or the helper
// process: those are tested with the fake driver library in the test machines.
package nvmltest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// Host is a Source whose facts a test sets. Each change is queued for every follower, in order; in
// a synctest bubble, synctest.Wait waits until all have it. Its methods are safe for concurrent
// use.
type Host struct {
	mu        sync.Mutex
	now       nvml.Snapshot
	sessions  int
	stale     *nvml.Stale // set while the helper does not answer
	followers map[*follower]bool
}

var _ nvml.Source = (*Host)(nil)

// follower is one Follow's queue.
type follower struct {
	queue []nvml.Update
	more  chan struct{} // holds one token while the queue may not be empty
}

// NewHost returns a host with a working driver and those GPUs.
func NewHost(gpus ...nvml.Device) *Host {
	h := &Host{followers: map[*follower]bool{}, sessions: 1}
	h.now = nvml.Snapshot{Taken: time.Now(), Session: "session-1", Devices: gpus,
		Driver: nvml.Driver{Version: "550.54.14", CUDA: "12.4", Library: "12.550.54.14"}}
	return h
}

// Two returns a host with two whole GPUs, GPU(0) and GPU(1).
func Two() *Host { return NewHost(GPU(0), GPU(1)) }

// None returns a host without a driver.
func None() *Host {
	h := NewHost()
	h.now.Driver = nvml.Driver{Problem: &nvml.Problem{Kind: nvml.ProblemNoLibrary, Code: 12, Call: "nvmlInit_v2",
		Text: "libnvidia-ml.so.1 was not found, so no NVIDIA driver is installed"}}
	return h
}

// Follow implements nvml.Source.
func (h *Host) Follow(ctx context.Context, deliver func(nvml.Update)) error {
	f := &follower{more: make(chan struct{}, 1)}
	h.mu.Lock()
	h.followers[f] = true
	if h.stale != nil {
		stale := *h.stale
		f.add(nvml.Update{Stale: &stale})
	} else {
		f.add(nvml.Update{Snapshot: h.copied()})
	}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.followers, f)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.more:
		}
		h.mu.Lock()
		updates := f.queue
		f.queue = nil
		h.mu.Unlock()
		for _, u := range updates {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			deliver(u)
		}
	}
}

func (f *follower) add(u nvml.Update) {
	f.queue = append(f.queue, u)
	select {
	case f.more <- struct{}{}:
	default:
	}
}

// Fresh implements nvml.Source.
func (h *Host) Fresh(context.Context) (*nvml.Snapshot, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stale != nil {
		p := h.stale.Problem
		return nil, &p
	}
	s := h.copied()
	s.Taken = time.Now()
	return s, nil
}

// Now returns a copy of the current facts.
func (h *Host) Now() *nvml.Snapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.copied()
}

// Set changes the facts and sends them as a new snapshot, which ends staleness.
func (h *Host) Set(change func(*nvml.Snapshot)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := h.copied() // former snapshots are shared and stay as they were
	change(next)
	next.Taken = time.Now()
	h.now, h.stale = *next, nil
	h.send(func() nvml.Update { return nvml.Update{Snapshot: h.copied()} })
}

// Sample sends the same facts again, as the helper does at each interval.
func (h *Host) Sample() { h.Set(func(*nvml.Snapshot) {}) }

// SetGPU changes one GPU, by its UUID. It panics if there is none, which is an error in the test.
func (h *Host) SetGPU(uuid string, change func(*nvml.Device)) {
	h.Set(func(s *nvml.Snapshot) {
		i := slices.IndexFunc(s.Devices, func(d nvml.Device) bool { return d.UUID == uuid })
		if i < 0 {
			panic(fmt.Sprintf("nvmltest: no GPU %s", uuid))
		}
		change(&s.Devices[i])
	})
}

// Replace replaces the GPU of d's UUID by d, for example to repair it after Lose.
func (h *Host) Replace(d nvml.Device) { h.SetGPU(d.UUID, func(old *nvml.Device) { *old = d }) }

// Use sets how many bytes of a GPU are used.
func (h *Host) Use(uuid string, used uint64) {
	h.SetGPU(uuid, func(d *nvml.Device) { d.Memory = Memory(d.Memory.Total, used) })
}

// Lose makes a GPU fall off the bus.
func (h *Host) Lose(uuid string) { h.SetGPU(uuid, func(d *nvml.Device) { *d = Lost(*d) }) }

// NewSession simulates a new helper process or a restart of NVML: the facts stay, the session's
// name changes.
func (h *Host) NewSession() {
	h.Set(func(s *nvml.Snapshot) {
		h.sessions++
		s.Session = fmt.Sprintf("session-%d", h.sessions)
	})
}

// Emit sends a driver event. A zero At becomes the current time.
func (h *Host) Emit(e nvml.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.At.IsZero() {
		e.At = time.Now()
	}
	h.send(func() nvml.Update { e := e; return nvml.Update{Event: &e} })
}

// Xid sends the event of an Xid on the GPU of that UUID.
func (h *Host) Xid(uuid string, xid int) {
	h.Emit(nvml.Event{Kind: nvml.EventXid, Device: uuid, Code: xid})
}

// Silence makes the facts stale, with that reason, until the next Set. Since is when the last
// snapshot was taken.
func (h *Host) Silence(p nvml.Problem) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stale = &nvml.Stale{Since: h.now.Taken, Problem: p}
	h.send(func() nvml.Update { s := *h.stale; return nvml.Update{Stale: &s} })
}

// send queues one update for each follower, with its own copy of the data. h.mu is held.
func (h *Host) send(update func() nvml.Update) {
	for f := range h.followers {
		f.add(update())
	}
}
