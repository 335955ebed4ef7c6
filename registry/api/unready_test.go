package api

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/lease"
)

// TestUnreadyHints: a lease of a pool that does not serve is refused with what is true of its
// state: it is on its way, or someone has to do something.
func TestUnreadyHints(t *testing.T) {
	failure := registry.Fail(registry.CodeModelNotFound, "no such file", "Copy it there.")
	says := map[registry.State]string{
		registry.StateStopped:  "is stopped (the engine exited by itself) and does not start by itself; poolctl resume a starts it.",
		registry.StateRefused:  "MODEL_NOT_FOUND: no such file. Copy it there.",
		registry.StateInvalid:  "MODEL_NOT_FOUND: no such file. Copy it there.",
		registry.StateFailed:   "MODEL_NOT_FOUND: no such file. Copy it there.",
		registry.StateStopping: "is being stopped",
		registry.StateDraining: "is being stopped",
	}
	for _, state := range registry.States() {
		t.Run(string(state), func(t *testing.T) {
			want, known := says[state]
			p := registry.Pool{ID: "a", State: state, Replicas: []registry.Replica{{ID: "r0", State: state}}}
			switch {
			case !known:
				want = "The pool is starting; try again."
			case strings.HasPrefix(want, "MODEL"):
				p.LastError = failure
			case state == registry.StateStopped:
				p.Replicas[0].Reason, p.LastError = "the engine exited by itself", failure // of a former run
			}
			h := newServer(t, Settings{}, units{})
			h.reg.Put(p)
			h.book.SetPool("a", lease.Pool{}, nil)
			w := h.post("/v1/pools/a/leases", "", "", accessWrite)
			retriable := !strings.Contains("stopped refused invalid", string(state))
			if w.Code != 503 || !strings.Contains(w.Body.String(), want) ||
				strings.Contains(w.Body.String(), `"retriable":true`) != retriable ||
				(w.Header().Get("Retry-After") != "") != retriable {
				t.Errorf("%d %s %v, want %q, retriable: %t", w.Code, w.Body, w.Header(), want, retriable)
			}
		})
	}
}
