package lease

import (
	"context"
	"errors"
	"sync"
)

// writer joins what many callers want written into few transactions: while one is under way, the next gathers.
type writer struct {
	store Store
	wake  chan struct{}

	mu      sync.Mutex
	pending []change
	ended   bool
}

// change is one wish. done is nil where nobody waits.
type change struct {
	put  *Lease
	drop string
	done chan error
}

// errEnding answers those who come when the manager ends.
var errEnding = errors.New("the manager is ending")

func newWriter(s Store) *writer { return &writer{store: s, wake: make(chan struct{}, 1)} }

// put queues a lease to be written. It is called under the book's lock, so that wishes about one lease stand in the order
// in which they came true. The channel tells when it is written.
func (w *writer) put(l Lease) <-chan error {
	return w.queue(change{put: &l, done: make(chan error, 1)})
}

// drop queues a lease to be forgotten.
func (w *writer) drop(id string) <-chan error {
	return w.queue(change{drop: id, done: make(chan error, 1)})
}

// keep queues a lease to be written some time soon.
func (w *writer) keep(l Lease) { w.queue(change{put: &l}) }

// forget queues a lease to be forgotten some time soon.
func (w *writer) forget(id string) { w.queue(change{drop: id}) }

func (w *writer) queue(c change) <-chan error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		if c.done != nil {
			c.done <- errEnding
		}
		return c.done
	}
	w.pending = append(w.pending, c)
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return c.done
}

// run writes until ctx ends, and then what is queued.
func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-w.wake:
			w.write(w.take(false))
		case <-ctx.Done():
		}
	}
	w.write(w.take(true))
}

func (w *writer) take(last bool) []change {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch := w.pending
	w.pending, w.ended = nil, last
	return batch
}

// write carries a batch out in its order: of two wishes about one lease the later holds.
func (w *writer) write(batch []change) {
	if len(batch) == 0 {
		return
	}
	last := make(map[string]*Lease, len(batch))
	for _, c := range batch {
		if c.put != nil {
			last[c.put.ID] = c.put
		} else {
			last[c.drop] = nil
		}
	}
	var put []Lease
	var drop []string
	for id, l := range last {
		if l != nil {
			put = append(put, *l)
		} else {
			drop = append(drop, id)
		}
	}
	err := w.store.Save(put, drop)
	for _, c := range batch {
		if c.done != nil {
			c.done <- err
		}
	}
}
