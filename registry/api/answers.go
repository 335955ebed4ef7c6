package api

import (
	"crypto/sha256"
	"encoding/base64"
	"hash/maphash"
	"net/http"
	"strconv"
	"strings"
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
	tag    []string // ETag, of a list only
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
	return encoded{body: body, length: []string{strconv.Itoa(len(body))}}, nil
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

// encodeList is encodeOnce for a list, which callers ask for again and again: with an ETag.
func encodeList(v any) (encoded, error) {
	e, err := encodeOnce(v)
	if err != nil {
		return e, err
	}
	sum := sha256.Sum256(e.body)
	e.tag = []string{`"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
	return e, nil
}

// writeUnlessKnown sends a list, or status 304 to a caller that has it already.
func (e encoded) writeUnlessKnown(w http.ResponseWriter, r *http.Request) error {
	w.Header()["Etag"] = e.tag
	if knows(r, e.tag[0]) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return e.write(w)
}

// knows reports whether If-None-Match has a tag (RFC 9110 13.1.2), weak or not.
func knows(r *http.Request, tag string) bool {
	for _, line := range r.Header["If-None-Match"] {
		for given := range strings.SplitSeq(line, ",") {
			if given = strings.TrimSpace(given); given == "*" || strings.TrimPrefix(given, "W/") == tag {
				return true
			}
		}
	}
	return false
}

// answerList sends a list that is not cached.
func answerList(w http.ResponseWriter, r *http.Request, v any) error {
	e, err := encodeList(v)
	if err != nil {
		return err
	}
	return e.writeUnlessKnown(w, r)
}

// heldBack is how much of an answer net/http buffers before it sends the header (net/http:
// bufferBeforeChunkingSize).
const heldBack = 2048
