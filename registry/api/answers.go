package api

import (
	"hash/maphash"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// answerCount is how many encoded answers of one route are cached. It bounds their memory for any
// set of requested ids.
const answerCount = 1024

// answers caches one route's encoded answer for each pool until the pool's status changes.
// Orchestrators poll many times between two changes. Two pools that share an entry cost an encoding
// each time.
type answers struct {
	encode func(*registry.Pool) any
	seed   maphash.Seed
	kept   [answerCount]atomic.Pointer[encodedPool]
}

// encodedPool is an answer with what it was made from.
type encodedPool struct {
	pool    *registry.Pool
	devices *registry.Devices // nil: the pool has none
	old     bool              // of the devices' facts
	encoded
}

// encoded is JSON with its headers. It is shared by all requests: read-only.
type encoded struct {
	body   []byte
	length []string
}

func newAnswers(encode func(*registry.Pool) any) *answers {
	return &answers{encode: encode, seed: maphash.MakeSeed()}
}

// serve answers with the registry's status of the pool in the path, or 404.
func (a *answers) serve(s *Server, w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	p, found := s.registry.Find(id)
	if !found {
		return noSuchPool(id)
	}
	var devices *registry.Devices
	old := false
	if len(p.Devices) > 0 {
		devices = s.registry.Devices()
		old = devices.Old(s.now())
	}
	at := &a.kept[maphash.String(a.seed, id)%answerCount]
	if kept := at.Load(); kept != nil && kept.pool == p && kept.devices == devices && kept.old == old {
		return kept.encoded.write(w)
	}
	shown := p
	if devices != nil {
		shown = devices.PoolAt(p, s.now())
	}
	body, err := encodeOnce(a.encode(shown))
	if err != nil {
		return err
	}
	at.Store(&encodedPool{p, devices, old, body})
	return body.write(w)
}

func encodeOnce(v any) (encoded, error) {
	body, err := wire.Encode(v)
	if err != nil {
		return encoded{}, err
	}
	return encoded{body, []string{strconv.Itoa(len(body))}}, nil
}

// write sends it with status 200. For a body that net/http buffers until the handler returns,
// net/http sets the length.
func (e encoded) write(w http.ResponseWriter) error {
	h := w.Header()
	h["Content-Type"] = jsonType
	if len(e.body) >= heldBack {
		h["Content-Length"] = e.length
	}
	_, _ = w.Write(e.body) // the caller is gone if this fails
	return nil
}

// heldBack is how much of an answer net/http buffers before it sends the header (net/http:
// bufferBeforeChunkingSize).
const heldBack = 2048
