package api

import (
	"net/http"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// usageAge is how old an answer of GET /v1/usage may be: any number of callers cost one reading of
// the engines' cgroups in that time. It is a little less than the second after which callers ask
// again.
const usageAge = 900 * time.Millisecond

// usages is the newest answer of GET /v1/usage.
type usages struct {
	read func(unit string) wire.Memory

	mu    sync.Mutex
	taken time.Time
	kept  encoded
}

// of returns the answer, made again where the last one is too old.
func (u *usages) of(now time.Time, snapshot func() *registry.Snapshot) (encoded, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if age := now.Sub(u.taken); u.kept.body != nil && age >= 0 && age < usageAge {
		return u.kept, nil
	}
	e, err := encodeList(wire.UsageOf(snapshot(), u.read))
	if err != nil {
		return e, err
	}
	u.taken, u.kept = now, e
	return e, nil
}

func (s *Server) getUsage(w http.ResponseWriter, r *http.Request) error {
	e, err := s.usage.of(s.now(), s.registry.Snapshot)
	if err != nil {
		return err
	}
	return e.writeUnlessKnown(w, r)
}
