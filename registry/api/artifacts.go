package api

import (
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// Bounds of files that are handed out to other hosts.
const (
	artifactStreams  = 16               // at the same time
	artifactPatience = 30 * time.Second // for a part that the caller does not take
)

func (s *Server) artifactRoutes() []route {
	return []route{{http.MethodGet, "/v1/artifacts/{digest}", accessRead, s.getArtifact}}
}

// getArtifact hands out a file of the cache, or a part of it. Its name is its digest: nothing that
// a caller sends is a path.
func (s *Server) getArtifact(w http.ResponseWriter, r *http.Request) error {
	select {
	case s.artifacts <- struct{}{}:
		defer func() { <-s.artifacts }()
	default:
		e := problem(http.StatusServiceUnavailable, "BUSY", "too many files are handed out already",
			"Try again, or ask another host.")
		e.Body.RetryAfterMS = time.Second.Milliseconds()
		return e
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
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("ETag", `"`+digest+`"`)
	body := &patient{File: f, c: http.NewResponseController(w)}
	out := &bare{ResponseWriter: w}
	http.ServeContent(out, r, "", time.Time{}, body)
	if out.refused != 0 {
		h.Del("ETag")
		return problem(out.refused, "INVALID_PARAMS", "the file has no such part", "Its size is in Content-Range.")
	}
	s.count.artifact(body.n)
	return nil
}

// patient is a file that is sent for as long as the caller takes it.
type patient struct {
	*os.File
	c     *http.ResponseController
	until time.Time
	n     int64 // bytes that were read
}

func (p *patient) Read(b []byte) (int, error) {
	if now := time.Now(); p.until.Sub(now) < artifactPatience/2 {
		p.until = now.Add(artifactPatience)
		if err := p.c.SetWriteDeadline(p.until); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return 0, err
		}
	}
	n, err := p.File.Read(b)
	p.n += int64(n)
	return n, err
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
