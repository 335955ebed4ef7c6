package api

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// frameCount is how many encoded events are cached: streams woken by one event all write it at
// about the same time.
const frameCount = 64

// frames are the newest events as streams send them, each encoded once for all streams.
type frames struct {
	mu   sync.Mutex
	kept [frameCount]frame
}

type frame struct {
	seq  uint64
	text []byte
}

// of returns an event's encoding. The bytes are shared: read-only.
func (f *frames) of(epoch string, e *registry.Event) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := &f.kept[e.Seq%frameCount]
	if at.seq == e.Seq {
		return at.text, nil
	}
	body, err := wire.Encode(wire.EventOf(e))
	if err != nil {
		return nil, err
	}
	text := fmt.Appendf(nil, "id: %s-%d\nevent: %s\ndata: %s\n\n", epoch, e.Seq, e.Kind, bytes.TrimSpace(body))
	if e.Seq > at.seq { // a reader of old events must not push out what the others read
		*at = frame{e.Seq, text}
	}
	return text, nil
}
