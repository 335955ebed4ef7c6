package api

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// Library has models downloaded that no pool waits for, and lists what is there. Errors are a
// *registry.Failure.
type Library interface {
	// Pull returns when the request is saved, so that it survives the daemon; by is the caller.
	Pull(ctx context.Context, model, digest, by string) (registry.Download, error)
	// CancelPull ends what was asked for; what is on disk is kept.
	CancelPull(ctx context.Context, model, by string) (registry.Download, error)
	Downloads() []registry.Download
	// Models lists the cache. One that cannot be read is CodeProvisionFailed.
	Models(ctx context.Context) (wire.ModelList, error)
	// Open opens the file of the cache with a digest; CodeModelNotFound: there is none.
	Open(ctx context.Context, digest string) (*os.File, error)
}

// modelsTimeout bounds a list of the cache, which may be on a disk that hangs.
const modelsTimeout = 2500 * time.Millisecond

// downloadRoutes are the routes of the library.
func (s *Server) downloadRoutes() []route {
	return []route{
		{http.MethodGet, "/v1/downloads", accessDetails, s.getDownloads},
		{http.MethodPost, "/v1/downloads", accessWrite, s.postDownload},
		{http.MethodGet, "/v1/models", accessRead, s.getModels},
	}
}

func (s *Server) getModels(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), modelsTimeout)
	defer cancel()
	list, err := s.library.Models(ctx)
	var f *registry.Failure
	if errors.As(err, &f) && f.Code == registry.CodeProvisionFailed {
		return problem(http.StatusServiceUnavailable, string(f.Code), f.Message, f.Hint)
	}
	if err != nil {
		return err
	}
	return answerList(w, r, list)
}

func (s *Server) getDownloads(w http.ResponseWriter, r *http.Request) error {
	return answerList(w, r, wire.DownloadsOf(s.library.Downloads()))
}

func (s *Server) postDownload(w http.ResponseWriter, r *http.Request) error {
	within, err := waitOf(r)
	if err != nil {
		return err
	}
	var body wire.PullRequest
	if err := readBody(w, r, &body); err != nil {
		return err
	}
	if body.Model == "" {
		return invalidParams("model is missing", lists+"the fields.")
	}
	if body.Cancel && body.Digest != "" {
		return invalidParams("cancel cannot be combined with model_digest", "cancel needs the model alone.")
	}
	ctx, cancel := context.WithTimeout(ofRequest(w, r), operatorTimeout)
	defer cancel()
	by := exchangeOf(w).caller.identity()
	var d registry.Download
	if body.Cancel {
		d, err = s.library.CancelPull(ctx, body.Model, by)
	} else {
		d, err = s.library.Pull(ctx, body.Model, body.Digest, by)
	}
	if err != nil {
		return err
	}
	s.waitUntil(w, r, within, func() bool {
		if now, ok := s.download(d.Model); ok {
			d = now
		}
		return d.State.Ended()
	})
	if within > 0 && d.State.Ended() {
		return answer(w, wire.DownloadOf(d))
	}
	return answerStatus(w, http.StatusAccepted, wire.DownloadOf(d))
}

// download returns the newest status of a download; ok is false where it is not known any longer.
func (s *Server) download(model string) (registry.Download, bool) {
	list := s.library.Downloads()
	i := slices.IndexFunc(list, func(d registry.Download) bool { return d.Model == model })
	if i < 0 {
		return registry.Download{}, false
	}
	return list[i], true
}
