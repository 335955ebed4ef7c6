package api

import (
	"context"
	"net/http"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// Fleet is what is known of all hosts that publish in etcd. Errors are a *registry.Failure.
type Fleet interface {
	Pools(ctx context.Context) (wire.FleetPools, error)
}

// fleetTimeout bounds a question to the program that reads etcd. Clients wait three seconds.
const fleetTimeout = 2800 * time.Millisecond

func (s *Server) getFleetPools(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), fleetTimeout)
	defer cancel()
	list, err := s.fleet.Pools(ctx)
	if err != nil {
		return err
	}
	return answerList(w, r, list)
}
