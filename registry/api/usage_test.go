package api

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// TestUsageIsReadOnceASecond: any number of callers cost one reading of the cgroups in that time, a
// clock that was set back costs one more, and a new second has new figures.
func TestUsageIsReadOnceASecond(t *testing.T) {
	reads := 0 // under the lock of usages
	u := usages{read: func(string) wire.Memory { reads++; return wire.Memory{} }}
	snapshot := func() *registry.Snapshot {
		one := []registry.Replica{{ID: "r0", Unit: "u"}}
		return &registry.Snapshot{Pools: []*registry.Pool{{ID: "a", Replicas: one}}}
	}
	begin := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		name string
		at   time.Duration
		want int
	}{
		{"first", 0, 1}, {"within_a_second", usageAge - 1, 1}, {"the_next", usageAge, 2}, {"set_back", 0, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					if _, err := u.of(begin.Add(c.at), snapshot); err != nil {
						t.Error(err)
					}
				})
			}
			if all.Wait(); reads != c.want {
				t.Errorf("%d readings, want %d", reads, c.want)
			}
		})
	}
}

// TestUsage: the route has the registry's pools, and 304 for a caller that has the answer.
func TestUsage(t *testing.T) {
	h := serve(t, Settings{}, units{})
	h.reg.Put(registrytest.Gemma())
	r := h.get("/v1/usage")
	if r.status != http.StatusOK || !strings.Contains(r.body, `"pool_id":"gemma"`) ||
		!strings.Contains(r.body, `"memory_bytes":null`) {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if again := h.get("/v1/usage", "If-None-Match", r.header.Get("ETag")); again.status != http.StatusNotModified {
		t.Errorf("%d %s", again.status, again.body)
	}
}
