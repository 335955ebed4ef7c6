package provision

import (
	"context"
	"sync"
)

// maxHashes bounds the files that are read at once: two keep a fast disk busy, and more only fight
// for a slow one.
const maxHashes = 2

// hashing lets each file be hashed by one goroutine, and few files at once. A later caller finds
// the digest in the store. The zero value is usable.
type hashing struct {
	mu    sync.Mutex
	slots chan struct{}
	files map[string]*turn
}

// turn is one file's: locked while the file is hashed, and removed with its last caller.
type turn struct {
	held   chan struct{}
	wanted int
}

// enter waits for the file's turn and for a free slot; leave frees both.
func (h *hashing) enter(ctx context.Context, path string) (leave func(), err error) {
	t, slots := h.want(path)
	select {
	case t.held <- struct{}{}:
	case <-ctx.Done():
		h.unwant(path)
		return nil, ctx.Err()
	}
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		<-t.held
		h.unwant(path)
		return nil, ctx.Err()
	}
	return func() { <-slots; <-t.held; h.unwant(path) }, nil
}

func (h *hashing) want(path string) (*turn, chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.files == nil {
		h.slots, h.files = make(chan struct{}, maxHashes), make(map[string]*turn)
	}
	t := h.files[path]
	if t == nil {
		t = &turn{held: make(chan struct{}, 1)}
		h.files[path] = t
	}
	t.wanted++
	return t, h.slots
}

func (h *hashing) unwant(path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.files[path]
	if t.wanted--; t.wanted == 0 {
		delete(h.files, path)
	}
}
