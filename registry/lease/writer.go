package lease

import (
	"context"
	"errors"
	"runtime"
	"sync"
)

// Store keeps leases over a crash of the manager. Save is called by one goroutine.
type Store interface {
	Load() ([]Lease, error)
	// Save writes some leases and deletes others; after an error it did neither.
	Save(put []Lease, drop []string) error
}

// writer combines the changes of many callers into one write: while one batch is written, the next
// one is collected.
type writer struct {
	store   Store
	changed func(pool string)
	wake    chan struct{}

	mu      sync.Mutex
	pending []change
	spare   []change // the batch before, for its memory
	ended   bool
	owed    map[string]struct{} // leases that ended, and whose end could not be written

	// Of the batch that is being written.
	last  map[string]*Lease // by id; nil: dropped
	pools map[string]struct{}
	puts  []Lease
	drops []string
}

// largeBatch is the size above which a batch's memory is not used again.
const largeBatch = 4096

// change is a change to write. done is nil if no caller waits.
type change struct {
	put      *Lease
	id, pool string
	done     chan error
}

// errEnding is returned during the shutdown of the manager.
var errEnding = errors.New("the manager is stopping")

func newWriter(s Store, changed func(pool string)) *writer {
	return &writer{store: s, changed: changed, wake: make(chan struct{}, 1),
		last: make(map[string]*Lease), pools: make(map[string]struct{}), owed: make(map[string]struct{})}
}

// put queues a lease to be written. It is called under the book's lock, so that changes of one
// lease are queued in the order in which they happened. The channel receives when it is written.
func (w *writer) put(l Lease) <-chan error {
	return w.queue(change{put: &l, id: l.ID, pool: l.Pool, done: make(chan error, 1)})
}

// drop queues a lease to be deleted.
func (w *writer) drop(id, pool string) <-chan error {
	return w.queue(change{id: id, pool: pool, done: make(chan error, 1)})
}

// keep queues a lease to be written for which no caller waits.
func (w *writer) keep(l Lease) { w.queue(change{put: &l, id: l.ID, pool: l.Pool}) }

// forget queues a lease to be deleted for which no caller waits. The pool may be empty if the lease
// had no slot.
func (w *writer) forget(id, pool string) { w.queue(change{id: id, pool: pool}) }

// owes reports whether the end of a lease has still to be written. Without that the lease would be
// there again after a restart, until it expires.
func (w *writer) owes(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, owed := w.owed[id]
	return owed
}

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
			// On one processor the writer would run after each caller. Yield, so that other callers
			// queue their changes first and share the write.
			runtime.Gosched()
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
	w.pending, w.spare, w.ended = w.spare[:0], nil, last
	return batch
}

// write writes a batch: of two changes of one lease the later one counts.
func (w *writer) write(batch []change) {
	if len(batch) == 0 {
		return
	}
	w.gather(batch)
	err := w.store.Save(w.puts, w.drops)
	w.owe(err)
	if w.changed != nil {
		for pool := range w.pools {
			w.changed(pool)
		}
	}
	for _, c := range batch {
		if c.done != nil {
			c.done <- err
		}
	}
	w.reuse(batch)
}

// owe notes which ends of leases have still to be written after a batch.
func (w *writer) owe(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		clear(w.owed) // gather adds all to each batch
		return
	}
	for _, id := range w.drops {
		w.owed[id] = struct{}{}
	}
}

// reuse keeps the memory of a batch for the next ones.
func (w *writer) reuse(batch []change) {
	if len(batch) > largeBatch {
		w.last, w.puts, w.drops = make(map[string]*Lease), nil, nil
		return
	}
	clear(batch)
	w.mu.Lock()
	w.spare = batch
	w.mu.Unlock()
}

// gather fills puts, drops and pools with the net changes of a batch, and with what former ones
// owe.
func (w *writer) gather(batch []change) {
	clear(w.last)
	clear(w.pools)
	for i := range batch {
		c := &batch[i]
		w.last[c.id] = c.put
		if c.pool != "" {
			w.pools[c.pool] = struct{}{}
		}
	}
	w.mu.Lock()
	for id := range w.owed {
		w.last[id] = nil // the id of an ended lease is not used again
	}
	w.mu.Unlock()
	w.puts, w.drops = w.puts[:0], w.drops[:0]
	for id, l := range w.last {
		if l != nil {
			w.puts = append(w.puts, *l)
		} else {
			w.drops = append(w.drops, id)
		}
	}
}
