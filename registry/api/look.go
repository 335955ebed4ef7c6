package api

import (
	"net/http"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// getAccess answers with what the caller may do, so that a page offers nothing that is refused.
func (s *Server) getAccess(w http.ResponseWriter, _ *http.Request) error {
	c := &exchangeOf(w).caller
	return answer(w, wire.Access{Identity: c.identity(), May: c.may.word(), Pools: c.pools()})
}

// word is the access as the API has it.
func (a access) word() string {
	switch a {
	case accessWrite:
		return "write"
	case accessDetails:
		return "details"
	}
	return "read"
}

// getHistory answers with a pool's last hour. What is in it is no secret: states and their reasons
// are those of GET /v1/pools.
func (s *Server) getHistory(w http.ResponseWriter, r *http.Request) error {
	p, err := s.pool(r)
	if err != nil {
		return err
	}
	return answer(w, s.history.Of(p.ID))
}
