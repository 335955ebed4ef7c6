package main

import (
	"io"
	"sync"

	"github.com/pool-managerd/pool-managerd/test/machine/wire"
)

// feed writes the input of a stream to where it goes, on a goroutine of its own, and reports to the
// harness what was taken. The harness never has more than wire.Window bytes on their way, which
// bounds the queue.
type feed struct {
	out *wire.Writer
	id  uint32
	to  io.WriteCloser

	mu     sync.Mutex
	queue  [][]byte
	ended  bool
	change *sync.Cond
}

// newFeed starts the goroutine; it ends after end or stop.
func newFeed(out *wire.Writer, id uint32, to io.WriteCloser) *feed {
	f := &feed{out: out, id: id, to: to}
	f.change = sync.NewCond(&f.mu)
	go f.run()
	return f
}

func (f *feed) input(data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, data)
	f.change.Signal()
}

// inputEnd closes the input after what is queued.
func (f *feed) inputEnd() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.change.Signal()
}

func (f *feed) run() {
	defer f.to.Close()
	for {
		data, ok := f.next()
		if !ok {
			return
		}
		// A program that has stopped reading, as head(1), does not delay the sender: its input is
		// dropped.
		_, _ = f.to.Write(data)
		if f.out.Write(wire.Accepted, f.id, wire.AcceptedPayload(len(data))) != nil {
			return
		}
	}
}

// next waits for input; false is its end.
func (f *feed) next() ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.queue) == 0 && !f.ended {
		f.change.Wait()
	}
	if len(f.queue) == 0 {
		return nil, false
	}
	data := f.queue[0]
	f.queue = f.queue[1:]
	return data, true
}
