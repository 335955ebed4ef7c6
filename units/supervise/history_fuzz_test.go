package supervise

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/restarts"
)

// FuzzHistory: whatever the file of a former manager has for a replica, it is refused, or reads as
// the same after it was written; and the next failure is counted all the same.
func FuzzHistory(f *testing.F) {
	f.Add([]byte(`{"state":{"breaker":"open","failures":3,"next":"2026-01-02T03:04:05Z"},"runs":{},"steady":2,"carried":1}`))
	f.Add([]byte(`{"state":{"breaker":"?","total":-7,"recent":["9999-12-31T23:59:59Z"]}}`))
	f.Add([]byte(`{"state":null,"runs":[]}`))
	f.Add([]byte(`{`))
	policy := restarts.PolicyOf(pool.Pool{Restart: pool.Restart{Initial: time.Second, Factor: 2, Max: time.Minute,
		BreakerFailures: 3, BreakerWindow: time.Minute, BreakerTimeout: time.Minute, StormRestarts: 3,
		StormWindow: time.Minute}})
	f.Fuzz(mutate.Many(func(t *testing.T, text []byte) {
		var h, again history
		if json.Unmarshal(text, &h) != nil {
			return
		}
		first, err := json.Marshal(&h)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(first, &again); err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if second, err := json.Marshal(&again); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s became %s, %v", first, second, err)
		}
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		h.State.Failed(policy, restarts.Crash, at, "seed")
		if next := h.State.Next; next.Before(at) {
			t.Errorf("%s: after a failure the next start is due at %s", text, next)
		}
	}))
}
