package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// Bench has engines measured. Errors are a *registry.Failure.
type Bench interface {
	// Ask returns when the run is noted: of the named replica, or of all that are ready. A run of
	// the pool that is under way is not begun again.
	Ask(pool, replica string, force bool, by string) error
	// Shown returns what is known of a pool, with details of failures or without.
	Shown(pool string, details bool) wire.Bench
}

// benchRoutes are the routes of measurements.
func (s *Server) benchRoutes() []route {
	return []route{
		{http.MethodGet, "/v1/pools/{id}/bench", accessRead, s.getBench},
		{http.MethodPost, "/v1/pools/{id}/bench", accessWrite, s.postBench},
	}
}

func (s *Server) getBench(w http.ResponseWriter, r *http.Request) error {
	p, err := s.pool(r)
	if err != nil {
		return err
	}
	return answer(w, s.bench.Shown(p.ID, audience(w) == 0))
}

func (s *Server) postBench(w http.ResponseWriter, r *http.Request) error {
	p, err := s.pool(r)
	if err != nil {
		return err
	}
	within, err := waitOf(r)
	if err != nil {
		return err
	}
	var body wire.BenchRequest
	if err := readBody(w, r, &body); err != nil {
		return err
	}
	if body.ReplicaID != "" && !hasReplica(p, body.ReplicaID) {
		return invalidParams(fmt.Sprintf("pool %s has no replica %.20q", p.ID, body.ReplicaID),
			"Omit replica_id for all of them; GET /v1/pools/"+p.ID+" lists them.")
	}
	if err := s.carryOutOnce(w, r, p.ID, func(_ context.Context, id, by string) error {
		return s.bench.Ask(id, body.ReplicaID, body.Force, by)
	}); err != nil {
		return err
	}
	shown := s.bench.Shown(p.ID, audience(w) == 0)
	over := func() bool { return shown.Run == nil || shown.Run.Over() }
	s.waitUntil(w, r, within, func() bool {
		shown = s.bench.Shown(p.ID, audience(w) == 0)
		return over()
	})
	if over() {
		return answer(w, shown)
	}
	return answerStatus(w, http.StatusAccepted, shown)
}
