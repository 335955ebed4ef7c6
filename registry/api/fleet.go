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
	Models(ctx context.Context) (wire.FleetModels, error)
}

// fleetTimeout bounds a question to the program that reads etcd. Clients wait three seconds.
const fleetTimeout = 2800 * time.Millisecond

func (s *Server) fleetRoutes() []route {
	return []route{
		{http.MethodGet, "/v1/fleet/pools", accessRead, func(w http.ResponseWriter, r *http.Request) error {
			return answerFleet(w, r, s.fleet.Pools)
		}},
		{http.MethodGet, "/v1/fleet/models", accessRead, func(w http.ResponseWriter, r *http.Request) error {
			return answerFleet(w, r, s.fleet.Models)
		}},
	}
}

func answerFleet[T any](w http.ResponseWriter, r *http.Request, ask func(context.Context) (T, error)) error {
	ctx, cancel := context.WithTimeout(r.Context(), fleetTimeout)
	defer cancel()
	list, err := ask(ctx)
	if err != nil {
		return err
	}
	return answerList(w, r, list)
}
