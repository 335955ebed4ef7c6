package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// Operator carries out operators' requests. Each call returns when the request is saved, so that it
// survives the daemon; its progress shows in the pool's status. Errors are a *registry.Failure or
// the context's. A negative deadline is the pool's own; by is the caller.
type Operator interface {
	Drain(ctx context.Context, id string, deadline time.Duration, by string) error
	DrainUntilRestart(ctx context.Context, id string, deadline time.Duration, by string) error
	Resume(ctx context.Context, id, by string) error
	Restart(ctx context.Context, id, by string) error
	Reset(ctx context.Context, id, by string) error
	Reload(ctx context.Context, id string, ask ReloadRequest) error
	// Preload returns when the pool is ready, or its engine has failed and is gone; Unload when the
	// removal of a preloaded pool is saved.
	Preload(ctx context.Context, id string, ask PreloadRequest) (wire.Preloaded, error)
	Unload(ctx context.Context, id, by string) error
	// ReloadFiles reads the configuration again and returns its problems. With acceptEmpty, a file
	// or directory that is gone is meant to be gone.
	ReloadFiles(ctx context.Context, acceptEmpty bool, by string) ([]registry.Problem, error)
}

// ReloadRequest is the model that a pool should serve.
type ReloadRequest struct {
	Model    string // empty: the model that was last requested
	Digest   string
	Deadline time.Duration
	Forget   bool // go back to the model in the pool's file
	By       string
}

// bodyLimit is the largest body of a request, in bytes: the longest model reference is a path.
const bodyLimit = 64 << 10

// maxDeadline is the longest deadline of a drain. A longer one is a mistake in the unit.
const maxDeadline = 7 * 24 * time.Hour

// operatorTimeout is how long a request waits until it is saved.
const operatorTimeout = 10 * time.Second

// operatorRoutes are the routes that change pools.
func (s *Server) operatorRoutes() []route {
	return []route{
		{http.MethodPost, "/v1/pools/{id}/drain", accessWrite, s.postDrain},
		{http.MethodPost, "/v1/pools/{id}/resume", accessWrite, s.postResume},
		{http.MethodPost, "/v1/pools/{id}/restart", accessWrite, s.postRestart},
		{http.MethodPost, "/v1/pools/{id}/reset", accessWrite, s.postReset},
		{http.MethodPost, "/v1/pools/{id}/reload", accessWrite, s.postReload},
		{http.MethodPost, "/v1/pools/{id}/preload", accessWrite, s.postPreload},
		{http.MethodDelete, "/v1/pools/{id}", accessWrite, s.deletePool},
		{http.MethodPost, "/v1/reload", accessWrite, s.postReloadFiles},
	}
}

func (s *Server) postDrain(w http.ResponseWriter, r *http.Request) error {
	var body wire.DrainRequest
	return s.operate(w, r, &body, wire.Drained, func(ctx context.Context, id, by string) error {
		deadline, err := deadlineOf(body.DeadlineMS)
		if err != nil {
			return err
		}
		if body.UntilRestart {
			return s.operator.DrainUntilRestart(ctx, id, deadline, by)
		}
		return s.operator.Drain(ctx, id, deadline, by)
	})
}

func (s *Server) postResume(w http.ResponseWriter, r *http.Request) error {
	return s.operate(w, r, &struct{}{}, wire.Served, s.operator.Resume)
}

func (s *Server) postRestart(w http.ResponseWriter, r *http.Request) error {
	return s.operate(w, r, &struct{}{}, wire.Served, s.operator.Restart)
}

func (s *Server) postReset(w http.ResponseWriter, r *http.Request) error {
	return s.operate(w, r, &struct{}{}, wire.Served, s.operator.Reset)
}

func (s *Server) postReload(w http.ResponseWriter, r *http.Request) error {
	var body wire.ReloadRequest
	return s.operate(w, r, &body, wire.Reloaded, func(ctx context.Context, id, by string) error {
		deadline, err := deadlineOf(body.DeadlineMS)
		if err != nil {
			return err
		}
		if body.Forget && (body.NewModelRef != "" || body.ModelDigest != "") {
			return invalidParams("forget cannot be combined with new_model_ref or model_digest",
				"forget goes back to the model in the pool's file.")
		}
		return s.operator.Reload(ctx, id, ReloadRequest{Model: body.NewModelRef, Digest: body.ModelDigest,
			Deadline: deadline, Forget: body.Forget, By: by})
	})
}

// postReloadFiles reads the configuration again, and answers with what is wrong with it.
func (s *Server) postReloadFiles(w http.ResponseWriter, r *http.Request) error {
	var body wire.FilesRequest
	if err := readBody(w, r, &body); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ofRequest(w, r), operatorTimeout)
	defer cancel()
	problems, err := s.operator.ReloadFiles(ctx, body.AcceptEmpty, exchangeOf(w).caller.identity())
	if err != nil {
		return err
	}
	return answer(w, wire.FilesOf(problems))
}

// operate decodes a request about one pool, carries it out, and answers with the pool's new status,
// with ?wait= when the operation is over.
func (s *Server) operate(w http.ResponseWriter, r *http.Request, body any, ended wire.Ended,
	carryOut func(ctx context.Context, id, by string) error) error {
	p, err := s.pool(r)
	if err != nil {
		return err
	}
	within, err := waitOf(r)
	if err != nil {
		return err
	}
	if err := readBody(w, r, body); err != nil {
		return err
	}
	if err := s.carryOutOnce(w, r, p.ID, carryOut); err != nil {
		return err
	}
	if p, err = s.pool(r); err != nil {
		return err
	}
	return s.answerOperation(w, r, p, result{within: within, ended: ended})
}

// ofRequest is the context of what a request causes, with the request's id.
func ofRequest(w http.ResponseWriter, r *http.Request) context.Context {
	return registry.WithCorrelation(r.Context(), exchangeOf(w).correlation[0])
}

// carryOutOnce carries a request out, unless it was already under the same key.
func (s *Server) carryOutOnce(w http.ResponseWriter, r *http.Request, id string,
	carryOut func(ctx context.Context, id, by string) error) error {
	x := exchangeOf(w)
	key, err := onceOf(w, r, x.body)
	if err != nil {
		return err
	}
	if key != nil {
		done, err := s.operations.begin(key)
		if done || err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ofRequest(w, r), operatorTimeout)
	defer cancel()
	err = errPanicked // unless it returns
	if key != nil {
		defer func() { s.operations.end(key, err) }()
	}
	err = carryOut(ctx, id, x.caller.identity())
	return err
}

// errPanicked is the outcome of a request whose handler did not return.
var errPanicked = errors.New("the handler panicked")

// deadlineOf validates a deadline; an absent one is negative.
func deadlineOf(ms *int64) (time.Duration, error) {
	switch {
	case ms == nil:
		return -1, nil
	case *ms < 0 || *ms > maxDeadline.Milliseconds():
		return 0, invalidParams(fmt.Sprintf("deadline_ms is %d; it must be 0 to %d", *ms, maxDeadline.Milliseconds()),
			"It is in milliseconds from now.")
	}
	return time.Duration(*ms) * time.Millisecond, nil
}

func invalidParams(message, hint string) *Error {
	return problem(http.StatusBadRequest, "INVALID_PARAMS", message, hint)
}

// readBody decodes a request's body strictly. No body at all is an empty object.
func readBody(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return problem(http.StatusRequestEntityTooLarge, "TOO_LARGE",
			fmt.Sprintf("the body is longer than %d bytes", large.Limit), "")
	case err != nil:
		return invalidParams("could not read the body: "+err.Error(), "")
	}
	x := exchangeOf(w)
	if len(r.Header[keyHeader]) > 0 {
		x.body = sha256.Sum256(body)
	}
	if len(strings.TrimSpace(string(body))) == 0 {
		return nil
	}
	// An object without a content type is accepted where it changes nothing: clients exist that ask
	// for a pool's status so.
	if !isJSON(r) && !(x.reads && len(r.Header["Content-Type"]) == 0) {
		return problem(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE",
			"the content type of the body is not JSON in UTF-8", "Send Content-Type: application/json.")
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return problem(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE",
			"the body is compressed", "Send it without Content-Encoding.")
	}
	return decodeStrict(body, into)
}

// jsonKind is the JSON word for a Go kind.
func jsonKind(kind string) string {
	switch kind {
	case "int64", "int", "ptr":
		return "whole number"
	case "bool":
		return "boolean"
	case "struct":
		return "object"
	}
	return kind
}
