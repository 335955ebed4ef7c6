package serve

import (
	"bytes"
	"fmt"
	"net/http"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet/view"
)

// Kinds of events. What is gone is so with the suffix.
const (
	kindHost     = "host"
	kindPool     = "pool"
	kindConflict = "conflict"
	kindSynced   = "synced" // everything that is there was sent before it
	kindLost     = "lost"   // etcd does not answer; a synced follows when it does
	gone         = "-gone"
)

// stream is a reader of changes.
type stream struct {
	frames chan []byte // closed: it is too slow
	begin  []view.Change
	synced bool
	lost   error
	at     int64 // revision of begin
}

// getEvents sends the fleet as it is, as events of what is there, and then what changes.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) {
	st := s.open()
	if st == nil {
		fail(w, http.StatusServiceUnavailable, registry.Fail(registry.CodeFleetUnavailable,
			fmt.Sprintf("%d programs follow the fleet already", streams), "Close one of them, or use the list."))
		return
	}
	defer s.close(st)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := &writer{w: w, c: http.NewResponseController(w)}
	st.start(out, s.o.Hint)
	tick := time.NewTicker(sign)
	defer tick.Stop()
	for out.err == nil {
		select {
		case <-r.Context().Done():
			return
		case frames, open := <-st.frames:
			if !open {
				return
			}
			out.write(frames)
		case <-tick.C:
			out.write([]byte(": alive\n\n"))
		}
	}
}

// open registers a stream, which has the view as it is now; nil: there are too many.
func (s *Server) open() *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.streams) >= streams {
		return nil
	}
	s.want()
	st := &stream{frames: make(chan []byte, queue), lost: s.lost}
	if s.set.Complete() {
		st.begin, st.synced, st.at = s.set.Present(), s.lost == nil, s.set.Revision()
	}
	s.streams[st] = true
	return st
}

func (s *Server) close(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	s.asked = time.Now()
}

// start writes what the stream begins with.
func (st *stream) start(out *writer, hint func(error) string) {
	for i := range st.begin {
		out.buffer(framesOf(st.begin[i : i+1]))
	}
	st.begin = nil
	switch {
	case st.lost != nil:
		out.buffer(lostFrame(st.lost, hint(st.lost)))
	case st.synced:
		out.buffer(syncedFrame(st.at))
	default:
		out.buffer([]byte(": reading\n\n"))
	}
	out.flush()
}

// framesOf are changes as a stream has them.
func framesOf(changes []view.Change) []byte {
	var b bytes.Buffer
	for _, c := range changes {
		e := wire.FleetEvent{Kind: kindHost, MachineID: c.MachineID, Node: c.Node, PoolID: c.PoolID, BootID: c.BootID,
			Host: c.Host, Pool: c.Pool, Conflict: c.Conflict}
		switch {
		case c.PoolID != "":
			e.Kind = kindPool
		case c.BootID != "":
			e.Kind = kindConflict
		}
		if c.Gone {
			e.Kind += gone
		}
		b.Write(frame(e))
	}
	return b.Bytes()
}

func lostFrame(err error, hint string) []byte {
	return frame(wire.FleetEvent{Kind: kindLost, LastError: err.Error(), Hint: hint})
}

func syncedFrame(revision int64) []byte {
	return frame(wire.FleetEvent{Kind: kindSynced, Revision: revision})
}

func frame(e wire.FleetEvent) []byte {
	body, _ := wire.Encode(e) // texts, numbers and lists of them
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", e.Kind, bytes.TrimSpace(body))
}

// writer writes to a reader that may be slow, or gone.
type writer struct {
	w   http.ResponseWriter
	c   *http.ResponseController
	err error
}

func (o *writer) buffer(frames []byte) {
	if o.err != nil {
		return
	}
	if o.err = o.c.SetWriteDeadline(time.Now().Add(slow)); o.err == nil {
		_, o.err = o.w.Write(frames)
	}
}

func (o *writer) flush() {
	if o.err == nil {
		o.err = o.c.Flush()
	}
}

func (o *writer) write(frames []byte) {
	o.buffer(frames)
	o.flush()
}
