package api

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// artifactPatience is how long a caller may leave a part of a file untaken.
const artifactPatience = 30 * time.Second

func (s *Server) artifactRoutes() []route {
	return []route{{http.MethodGet, "/v1/artifacts/{digest}", accessRead, s.getArtifact}}
}

// getArtifact hands out a file of the cache, or a part of it. Its name is its digest: nothing that
// a caller sends is a path.
func (s *Server) getArtifact(w http.ResponseWriter, r *http.Request) error {
	x := exchangeOf(w)
	if x.caller.readsCacheItself() {
		x.denied = x.caller.reason()
		return forbidden(fmt.Sprintf("user id %d may not take files of the cache from the API, where they are "+
			"for other hosts", x.caller.uid),
			"Read them in cache_dir, or call as root or as a member of the group "+Group+".")
	}
	digest := r.PathValue("digest")
	f, err := s.library.Open(r.Context(), digest)
	var failure *registry.Failure
	if errors.As(err, &failure) && failure.Code == registry.CodeModelNotFound {
		return problem(http.StatusNotFound, string(failure.Code), failure.Message, failure.Hint)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	body := &patient{File: f, c: http.NewResponseController(w)}
	body.place.account, body.place.end = connectionOf(r).account, body.end
	ended, ok := s.handouts.admit(&body.place, time.Now())
	if !ok {
		e := problem(http.StatusServiceUnavailable, "BUSY", "too many files are handed out already",
			"Try again, or ask another host.")
		e.Body.RetryAfterMS = time.Second.Milliseconds()
		return e
	}
	defer s.handouts.leave(&body.place)
	defer body.finish()
	if ended != nil {
		ended.end()
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("ETag", `"`+digest+`"`)
	out := &bare{ResponseWriter: w}
	http.ServeContent(out, r, "", time.Time{}, body)
	if out.refused != 0 {
		h.Del("ETag")
		return problem(out.refused, "INVALID_PARAMS", "the file has no such part", "Its size is in Content-Range.")
	}
	s.count.artifact(body.n)
	return nil
}

// readsCacheItself reports whether the caller is an ordinary user of this host: it has the files
// where they are, as far as the permissions of their directories let it, and files are handed out
// regardless of these.
func (c *caller) readsCacheItself() bool {
	return (c.kind == callerUser || c.kind == callerUnknown) && c.may < accessWrite
}

// patient is a file that is sent for as long as the caller takes it, and no other wants its place.
type patient struct {
	*os.File
	c     *http.ResponseController
	place handout
	until time.Time
	n     int64 // bytes that were read

	mu   sync.Mutex
	over bool // nothing is sent any longer
}

// errTooSlow is that the caller's place was given to another one.
var errTooSlow = errors.New("another caller has the place of this one")

func (p *patient) Read(b []byte) (int, error) {
	now := time.Now()
	if err := p.extend(now); err != nil {
		return 0, err
	}
	n, err := p.File.Read(b)
	p.n += int64(n)
	p.place.add(int64(n), now)
	return n, err
}

// extend gives the caller time for its next part.
func (p *patient) extend(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return errTooSlow
	}
	if p.until.Sub(now) >= artifactPatience/2 {
		return nil
	}
	p.until = now.Add(artifactPatience)
	if err := p.c.SetWriteDeadline(p.until); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// end has what is being written fail. The connection of a file that was sent already is left alone:
// another request may have it.
func (p *patient) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.over = true
		_ = p.c.SetWriteDeadline(time.Unix(1, 0)) // where it is not supported, the next part is not sent
	}
}

// finish is called when all was sent.
func (p *patient) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// bare keeps what ServeContent says about a part that there is not, which is text.
type bare struct {
	http.ResponseWriter
	refused int
}

func (b *bare) WriteHeader(status int) {
	if status >= http.StatusBadRequest {
		b.refused = status
		return
	}
	b.ResponseWriter.WriteHeader(status)
}

func (b *bare) Write(p []byte) (int, error) {
	if b.refused != 0 {
		return len(p), nil
	}
	return b.ResponseWriter.Write(p)
}
