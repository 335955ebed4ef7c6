package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/lease"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// memory keeps leases as long as a test; err is what every write ends with.
type memory struct {
	mu   sync.Mutex
	err  error
	then func() // called by the next write, before it ends
}

func (m *memory) Load() ([]lease.Lease, error) { return nil, nil }

func (m *memory) Save([]lease.Lease, []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.then != nil {
		m.then()
		m.then = nil
	}
	return m.err
}

// fails has every write from now on end with an error, and the next one call then.
func (m *memory) fails(then func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err, m.then = errors.New("no space left on device"), then
}

// leased is a server with pool a, of one ready replica with two slots.
func leased(t *testing.T) *host {
	h := serve(t, Settings{}, units{})
	h.seat("run1", 2, true, false)
	return h
}

// seat sets the state of pool a in the book and the registry.
func (h *host) seat(run string, slots int, open, draining bool) {
	h.book.SetPool("a", lease.Pool{Draining: draining, Seats: []lease.Seat{
		{Replica: "r0", Run: run, Endpoint: "http://127.0.0.1:21000", Slots: slots, Open: open},
	}}, func(string) string { return "ENGINE_CRASHED: exited with status 1" })
	state := registry.StateReady
	if !open {
		state = registry.StateBackoff
	}
	h.reg.Put(registry.Pool{ID: "a", Engine: "llamacpp", State: state, Ready: open, Draining: draining,
		Replicas: []registry.Replica{
			{ID: "r0", State: state, Ready: open, SlotsTotal: slots}}})
}

// TestReplicaOfALease: a lease may name the replica as it was before a reload.
func TestReplicaOfALease(t *testing.T) {
	p := &registry.Pool{Replicas: []registry.Replica{{ID: "r0b", Name: "r0"}, {ID: "r1"}}}
	for id, want := range map[string]bool{"r0": true, "r0b": true, "r1": true, "r1b": false, "r2": false, "": false} {
		if got := hasReplica(p, id); got != want {
			t.Errorf("%q: %t, want %t", id, got, want)
		}
	}
}

// lease sends a request about leases.
func (h *host) lease(method, path, body string) reply {
	h.t.Helper()
	return h.send(method, "http://socket/v1/pools/a/leases"+path, body)
}

func TestLeases(t *testing.T) {
	t.Run("taken_shown_renewed_and_given_back", func(t *testing.T) {
		h := leased(t)
		r := h.lease("POST", "", `{"holder":"orchestratord/7","ttl_ms":5000}`)
		if r.status != http.StatusCreated || r.json["replica_id"] != "r0" ||
			r.json["endpoint"] != "http://127.0.0.1:21000" || r.json["pool_id"] != "a" {
			t.Fatalf("%d %s", r.status, r.body)
		}
		id := fmt.Sprint(r.json["lease_id"])
		if p := h.get("/v1/pools/a"); p.json["slots_free"] != 1.0 || p.json["active_leases"] != 1.0 {
			t.Errorf("free %v, active %v", p.json["slots_free"], p.json["active_leases"])
		}
		if l := h.get("/v1/pools/a/leases"); !strings.Contains(l.body, id) ||
			!strings.Contains(l.body, "orchestratord/7") {
			t.Errorf("list: %s", l.body)
		}
		if r := h.lease("PUT", "/"+id, `{"ttl_ms":60000}`); r.status != 200 || r.json["lease_id"] != id {
			t.Errorf("renewed: %d %s", r.status, r.body)
		}
		for range 2 {
			if r := h.lease("DELETE", "/"+id, ""); r.status != http.StatusNoContent || r.body != "" {
				t.Errorf("released: %d %s", r.status, r.body)
			}
		}
		if p := h.get("/v1/pools/a"); p.json["slots_free"] != 2.0 {
			t.Errorf("free %v", p.json["slots_free"])
		}
		if r := h.lease("PUT", "/"+id, ""); r.status != 404 || r.json["code"] != "LEASE_NOT_FOUND" {
			t.Errorf("renewed after its release: %d %s", r.status, r.body)
		}
	})
	t.Run("exhausted", func(t *testing.T) {
		h := leased(t)
		var counted string
		h.server.leases.Rejected = func(reason string) { counted += reason }
		h.lease("POST", "", "")
		h.lease("POST", "", "")
		r := h.lease("POST", "", "")
		if counted != "exhausted" {
			t.Errorf("counted %q", counted)
		}
		if r.status != 429 || r.json["code"] != "SLOTS_EXHAUSTED" || r.header.Get("Retry-After") != "1" ||
			r.header.Get("X-Backoff-Ms") != "1000" || r.json["retriable"] != true {
			t.Errorf("%d %v %s", r.status, r.header, r.body)
		}
		if r.json["policy_label"] != "reject" || r.json["engine"] != "llamacpp" {
			t.Errorf("policy_label %v, engine %v", r.json["policy_label"], r.json["engine"])
		}
	})
	t.Run("draining", func(t *testing.T) {
		h := leased(t)
		h.seat("run1", 2, false, true)
		if r := h.lease("POST", "", ""); r.status != 409 || r.json["code"] != "POOL_DRAINING" ||
			r.header.Get("Retry-After") == "" {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
	t.Run("not_ready", func(t *testing.T) {
		h := leased(t)
		h.seat("", 2, false, false)
		if r := h.lease("POST", "", ""); r.status != 503 || r.json["code"] != "POOL_UNREADY" ||
			r.header.Get("Retry-After") == "" {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
	t.Run("lost_with_the_engine", func(t *testing.T) {
		h := leased(t)
		id := fmt.Sprint(h.lease("POST", "", "").json["lease_id"])
		h.seat("run2", 2, true, false)
		r := h.lease("PUT", "/"+id, "")
		if r.status != http.StatusGone || r.json["code"] != "LEASE_LOST" ||
			!strings.Contains(r.body, "ENGINE_CRASHED: exited with status 1") {
			t.Errorf("%d %s", r.status, r.body)
		}
		if p := h.get("/v1/pools/a"); p.json["slots_free"] != 2.0 {
			t.Errorf("free %v", p.json["slots_free"])
		}
	})
	t.Run("not_written_down", func(t *testing.T) {
		h := leased(t)
		store := &memory{err: errors.New("no space left on device")}
		book, err := lease.Open(store, func() lease.Moment { return 1 }, nil)
		if err != nil {
			t.Fatal(err)
		}
		h.runBook(t, book)
		h.seat("run1", 2, true, false)
		if r := h.lease("POST", "", ""); r.status != 503 || r.json["code"] != "STATE_NOT_SAVED" {
			t.Errorf("%d %s", r.status, r.body)
		}
		if n := book.Active("a", "r0"); n != 0 {
			t.Errorf("%d leases without a holder", n)
		}
	})
	t.Run("not_written_down_and_the_slots_show_as_they_are", func(t *testing.T) {
		h := leased(t)
		store := &memory{}
		book, err := lease.Open(store, func() lease.Moment { return 1 }, nil)
		if err != nil {
			t.Fatal(err)
		}
		h.runBook(t, book)
		h.seat("run1", 2, true, false)
		id := fmt.Sprint(h.lease("POST", "", "").json["lease_id"])
		store.fails(func() { h.reg.LeasesChanged("a") }) // another caller's lease has all counted in the middle of it
		if r := h.lease("POST", "", ""); r.status != 503 || h.get("/v1/pools/a").json["slots_free"] != 1.0 {
			t.Errorf("after a lease that was not given: %d, %v free", r.status, h.get("/v1/pools/a").json["slots_free"])
		}
		store.fails(nil)
		if r := h.lease("DELETE", "/"+id, ""); r.status != 503 || h.get("/v1/pools/a").json["slots_free"] != 2.0 {
			t.Errorf("after a failed release: %d, %v free", r.status, h.get("/v1/pools/a").json["slots_free"])
		}
	})
	t.Run("its_end_is_on_the_wall_clock", func(t *testing.T) {
		h := leased(t)
		r := h.lease("POST", "", `{"ttl_ms":3600000}`)
		end := registrytest.Start().Add(time.Minute + time.Hour) // the server's clock, and the lease's time
		if got, ok := r.json["expires_at_ms"].(float64); !ok ||
			time.UnixMilli(int64(got)).Before(end.Add(-10*time.Second)) || time.UnixMilli(int64(got)).After(end) {
			t.Errorf("expires_at_ms is %v, want about %d", r.json["expires_at_ms"], end.UnixMilli())
		}
		life, ok := r.json["taken_at_ms"].(float64)
		if life = r.json["expires_at_ms"].(float64) - life; !ok || life != 3600000 {
			t.Errorf("taken_at_ms is %v, %v before its end", r.json["taken_at_ms"], life)
		}
	})
	for _, c := range []struct{ name, body, says string }{
		{"short_ttl", `{"ttl_ms":999}`, "ttl_ms is 999; it must be 1000 to 86400000"},
		{"unknown_field", `{"ttl":1000}`, `unknown field \"ttl\"`},
		{"unknown_replica", `{"replica_id":"r9"}`, "pool a has no replica"},
		{"long_holder", `{"holder":"` + strings.Repeat("x", 129) + `"}`, "holder is invalid"},
		{"control_character", `{"holder":"a\nb"}`, "holder is invalid"},
	} {
		t.Run("refused/"+c.name, func(t *testing.T) {
			h := leased(t)
			if r := h.lease("POST", "", c.body); r.status != 400 || !strings.Contains(r.body, c.says) {
				t.Errorf("%d %s, want %s", r.status, r.body, c.says)
			}
		})
	}
	t.Run("of_an_unknown_pool", func(t *testing.T) {
		h := leased(t)
		if r := h.send("POST", "http://socket/v1/pools/b/leases", ""); r.status != 404 ||
			r.json["code"] != "POOL_NOT_FOUND" {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
}

// TestLeasesAtOnce: a thousand callers get as many slots as there are, and not one more.
func TestLeasesAtOnce(t *testing.T) {
	h := leased(t)
	const slots, callers = 100, 1000
	h.seat("run1", slots, true, false)
	var all sync.WaitGroup
	var mu sync.Mutex
	got := make(map[int]int)
	for range callers {
		all.Go(func() {
			w := h.post("/v1/pools/a/leases", "", "", accessWrite)
			mu.Lock()
			got[w.Code]++
			mu.Unlock()
			if p, _ := h.reg.Pool("a"); p.SlotsFree < 0 {
				t.Errorf("%d free", p.SlotsFree)
			}
		})
	}
	all.Wait()
	if got[http.StatusCreated] != slots || got[http.StatusTooManyRequests] != callers-slots {
		t.Errorf("answers by status: %v", got)
	}
	if p, _ := h.reg.Pool("a"); p.SlotsFree != 0 || p.ActiveLeases != slots {
		t.Errorf("%d free, %d active", p.SlotsFree, p.ActiveLeases)
	}
}
