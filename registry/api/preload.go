package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// PreloadRequest asks for a pool that no file asks for.
type PreloadRequest struct {
	Prepared wire.Prepared
	Within   time.Duration // in which it must be ready
	By       string
}

// How long an engine may take until it is ready.
const (
	preloadWithin    = 10 * time.Minute // without deadline_ms
	preloadMostLimit = 24 * time.Hour
	// preloadGrace is for the removal of one that was not ready in time, before the answer.
	preloadGrace = 2 * time.Minute
)

// postPreload waits until the pool is ready, or failed and is gone. A caller that leaves changes
// nothing; the same request again is about the same pool. The shutdown of the server ends the wait.
func (s *Server) postPreload(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	ask, err := preloadOf(w, r, id)
	if err != nil {
		return err
	}
	loaded, err := s.preload(w, r, id, ask)
	if err != nil {
		return preloadError(id, err)
	}
	return answer(w, loaded)
}

// preload has a pool preloaded, with the place of a stream.
func (s *Server) preload(w http.ResponseWriter, r *http.Request, id string, ask PreloadRequest) (wire.Preloaded,
	error) {
	ctx, done, err := s.linger(w, r, ask.Within+preloadGrace)
	if err != nil {
		return wire.Preloaded{}, err
	}
	defer done()
	return s.operator.Preload(ctx, id, ask)
}

// preloadOf reads the request.
func preloadOf(w http.ResponseWriter, r *http.Request, id string) (PreloadRequest, error) {
	var body wire.PreloadRequest
	if err := readBody(w, r, &body); err != nil {
		return PreloadRequest{}, err
	}
	p := body.Prepared
	switch {
	case p == nil || p.BinaryPath == "":
		return PreloadRequest{}, invalidParams("prepared, with binary_path in it, is missing", lists+"the fields.")
	case p.PoolID != "" && p.PoolID != id:
		return PreloadRequest{}, invalidParams(fmt.Sprintf("pool_id is %.64q, and the path names pool %.64q",
			p.PoolID, id),
			"Send the same id, or leave pool_id out.")
	case p.ReplicaID != "" && p.ReplicaID != "r0":
		return PreloadRequest{}, invalidParams(fmt.Sprintf("replica_id is %.64q; a preloaded pool has one replica, r0",
			p.ReplicaID), "Preload each engine as a pool of its own.")
	case p.Port < 0:
		return PreloadRequest{}, invalidParams(fmt.Sprintf("port is %d", p.Port), "0 has one chosen.")
	}
	ask := PreloadRequest{Prepared: *p, Within: preloadWithin, By: exchangeOf(w).caller.identity()}
	if ms := body.DeadlineMS; ms != nil {
		if *ms < 1000 || *ms > preloadMostLimit.Milliseconds() {
			return PreloadRequest{}, invalidParams(fmt.Sprintf("deadline_ms is %d; it must be 1000 to %d", *ms,
				preloadMostLimit.Milliseconds()), "It is in milliseconds from now.")
		}
		ask.Within = time.Duration(*ms) * time.Millisecond
	}
	return ask, nil
}

// preloadError is the answer to a request for a pool that is not ready.
func preloadError(id string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return problem(http.StatusGatewayTimeout, string(registry.CodeEngineStartTimeout),
			fmt.Sprintf("pool %s is there, and was not ready in time", id),
			"GET /v1/pools/"+id+" shows why; the same request waits again.")
	}
	var f *registry.Failure
	if !errors.As(err, &f) {
		return err
	}
	e := problem(preloadStatus(f.Code), string(f.Code), f.Message, f.Hint)
	if f.Ending != nil {
		e.Body.Details = map[string]any{"result": f.Ending.Result, "lines": f.Ending.Lines}
	}
	return e
}

// preloadStatus is the status of a pool that did not become ready: whether the request, the host or
// the engine is at fault.
func preloadStatus(c registry.Code) int {
	switch c {
	case registry.CodeModelNotFound, registry.CodeDigestMismatch, registry.CodeProvisionFailed,
		registry.CodeDeviceMaskInvalid:
		return http.StatusUnprocessableEntity
	case registry.CodeInsufficientVRAM, registry.CodeInsufficientRAM, registry.CodeGPUUnavailable,
		registry.CodeDriverError, registry.CodeStateTooLarge:
		return http.StatusServiceUnavailable
	case registry.CodeEngineStartTimeout:
		return http.StatusGatewayTimeout
	case registry.CodeEngineStartFailed, registry.CodeEngineCrashed, registry.CodeEngineExited, registry.CodeEngineOOM,
		registry.CodeCUDAOOM, registry.CodeCUDAError, registry.CodeHealthFailed, registry.CodeBreakerOpen:
		return http.StatusBadGateway
	case registry.CodePoolNotFound: // it was removed meanwhile
		return http.StatusConflict
	}
	return statusOf(c)
}

// deletePool removes a preloaded pool, after a drain.
func (s *Server) deletePool(w http.ResponseWriter, r *http.Request) error {
	p, err := s.pool(r)
	if err != nil {
		return err
	}
	within, err := waitOf(r)
	if err != nil {
		return err
	}
	if err := readBody(w, r, &struct{}{}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ofRequest(w, r), operatorTimeout)
	defer cancel()
	if err := s.operator.Unload(ctx, p.ID, exchangeOf(w).caller.identity()); err != nil {
		return err
	}
	if now, err := s.pool(r); err == nil {
		p = now // it drains, or is gone already
	}
	return s.answerOperation(w, r, p, result{within: within, ended: wire.Gone, removes: true})
}
