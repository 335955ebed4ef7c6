package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/lease"
)

// keyed sends a POST with an Idempotency-Key over the unix socket.
func (h *host) keyed(path, body, key string) reply {
	h.t.Helper()
	return h.ask(h.overSocket(), http.MethodPost, "http://socket"+path, body, "Content-Type", "application/json",
		keyHeader, key)
}

// withSlots is a host whose pool a has so many slots, and pool b as many.
func withSlots(t *testing.T, slots int) *host {
	h := serve(t, Settings{}, units{})
	for _, id := range []string{"a", "b"} {
		h.reg.Put(registry.Pool{ID: id, State: registry.StateReady, Ready: true})
		h.book.SetPool(id, lease.Pool{Seats: []lease.Seat{{Replica: "r0", Run: "run", Slots: slots, Open: true}}}, nil)
	}
	return h
}

// TestLeasesWithAKey: a caller that did not get its answer asks again, and has the same slot.
func TestLeasesWithAKey(t *testing.T) {
	const path, body = "/v1/pools/a/leases", `{"holder":"me","ttl_ms":60000}`
	h := withSlots(t, 2)
	first := h.keyed(path, body, "k1")
	again := h.keyed(path, body, "k1")
	if first.status != 201 || again.status != 201 || again.json["lease_id"] != first.json["lease_id"] {
		t.Fatalf("%d %s, then %d %s", first.status, first.body, again.status, again.body)
	}
	if n := len(h.book.Leases("a")); n != 1 {
		t.Errorf("%d leases are held", n)
	}
	h.keyed(path, `{"holder":"me","ttl_ms":61000}`, "k1").wantError(t, 422, "IDEMPOTENCY_KEY_REUSED")
	if r := h.keyed(path, body, "k2"); r.status != 201 || r.json["lease_id"] == first.json["lease_id"] {
		t.Errorf("another key: %d %s", r.status, r.body)
	}
	if r := h.keyed("/v1/pools/b/leases", body, "k1"); r.status != 201 ||
		r.json["lease_id"] == first.json["lease_id"] {
		t.Errorf("of another pool: %d %s", r.status, r.body)
	}
	h.keyed(path, body, "k3").wantError(t, 429, "SLOTS_EXHAUSTED")
	if r := h.keyed(path, body, "k1"); r.status != 201 {
		t.Errorf("with every slot in use: %d %s", r.status, r.body)
	}
	id, _ := first.json["lease_id"].(string)
	if err := h.book.Release(t.Context(), "a", id); err != nil {
		t.Fatal(err)
	}
	if r := h.keyed(path, body, "k1"); r.status != 201 || r.json["lease_id"] == id {
		t.Errorf("after its release: %d %s", r.status, r.body)
	}
	for _, key := range []string{"", strings.Repeat("x", 129), "a\tb", "ä"} {
		h.keyed(path, body, key).wantError(t, 400, "INVALID_PARAMS")
	}
}

// TestOperationsWithAKey: one that was carried out is not again, one that failed is.
func TestOperationsWithAKey(t *testing.T) {
	h := serve(t, Settings{}, units{})
	o := &operators{}
	h.server.operator = o
	h.reg.Put(registry.Pool{ID: "a", State: registry.StateReady, Ready: true})
	asked := func() string {
		was := o.asked
		o.asked = ""
		return was
	}
	const path = "/v1/pools/a/restart"
	o.err = registry.Fail(registry.CodeStateNotSaved, "no", "h")
	h.keyed(path, "", "k1").wantError(t, 503, "STATE_NOT_SAVED")
	o.err = nil
	if asked(); h.keyed(path, "", "k1").status != 202 || asked() == "" {
		t.Error("a request that failed was not carried out when it was sent again")
	}
	if r := h.keyed(path, "", "k1"); r.status != 202 || r.json["id"] != "a" || asked() != "" {
		t.Errorf("the same again: %d %s", r.status, r.body)
	}
	h.keyed(path, "{}", "k1").wantError(t, 422, "IDEMPOTENCY_KEY_REUSED")
	if r := h.keyed("/v1/pools/a/reset", "", "k1"); r.status != 202 || asked() == "" {
		t.Errorf("another operation with the key: %d %s", r.status, r.body)
	}
	if r := h.keyed(path, "", "k2"); r.status != 202 || asked() == "" {
		t.Errorf("another key: %d %s", r.status, r.body)
	}
}

// TestKeysOfOperations: while a request is carried out, the same is a conflict; keys belong to
// their caller, and their number is bounded.
func TestKeysOfOperations(t *testing.T) {
	var k operations
	key := func(n int) *once {
		o := &once{}
		copy(o.key[:], fmt.Sprint(n))
		return o
	}
	if done, err := k.begin(key(1)); done || err != nil {
		t.Fatalf("%t %v", done, err)
	}
	var e *Error
	if _, err := k.begin(key(1)); !errors.As(err, &e) || e.Status != 409 || !e.Body.Retriable {
		t.Errorf("while it is carried out: %v", err)
	}
	k.end(key(1), nil)
	if done, err := k.begin(key(1)); !done || err != nil {
		t.Errorf("afterwards: %t %v", done, err)
	}
	for n := range 3 * mostKeys {
		_, _ = k.begin(key(n + 2))
		k.end(key(n+2), nil)
	}
	if len(k.known) != mostKeys || len(k.order) != mostKeys {
		t.Errorf("%d keys and %d in order", len(k.known), len(k.order))
	}
	of := func(uid uint32) requestKey {
		r := httptest.NewRequest("POST", "/v1/pools/a/reset", nil)
		r.Header.Set(keyHeader, "k")
		o, err := onceOf(&exchange{caller: caller{kind: callerUser, uid: uid}}, r, [32]byte{})
		if err != nil {
			t.Fatal(err)
		}
		return o.key
	}
	one, again, two := of(1), of(1), of(2)
	if one == two || one != again {
		t.Error("two callers share a key, or one has two")
	}
}

// TestAnOperationThatPanics does not keep its key.
func TestAnOperationThatPanics(t *testing.T) {
	h := newServer(t, Settings{}, units{})
	r := httptest.NewRequest("POST", "/v1/pools/a/reset", nil)
	r.Header.Set(keyHeader, "k")
	func() {
		defer func() { _ = recover() }()
		_ = h.server.carryOutOnce(&exchange{}, r, "a", nil)
	}()
	if n := len(h.server.operations.known); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}
