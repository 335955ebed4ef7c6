package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestPace: an account has a burst, then its rate, and no account waits for another.
func TestPace(t *testing.T) {
	p := newPacer()
	one, other := account{kind: accountUser, uid: 1000}, account{kind: accountUser, uid: 1001}
	now := time.Unix(1_000_000, 0)
	const burst = int(paceBurst / paceEvery)
	for i := range burst + 1 {
		if wait := p.reserve(one, true, now).wait; wait != 0 {
			t.Fatalf("request %d of a burst waits %s", i, wait)
		}
	}
	for i := range 10 {
		if wait, want := p.reserve(one, true, now).wait, time.Duration(i+1)*paceEvery; wait != want {
			t.Errorf("request %d after the burst waits %s, want %s", i, wait, want)
		}
	}
	if wait := p.reserve(other, true, now).wait; wait != 0 {
		t.Errorf("another account waits %s", wait)
	}
	if wait := p.reserve(one, true, now.Add(11*paceEvery)).wait; wait != 0 {
		t.Errorf("after its turns have passed it waits %s", wait)
	}
	if wait := p.reserve(one, true, now.Add(time.Hour)).wait; wait != 0 {
		t.Errorf("after an hour it waits %s", wait)
	}
	for i := range 3 * pacedLimit {
		host := addressAccount(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		if wait := p.reserve(host, true, now).wait; wait != 0 || len(p.next) > pacedLimit {
			t.Fatalf("host %d waits %s, %d accounts", i, wait, len(p.next))
		}
	}
}

// TestACrowdHasOneRowOfTurns: accounts that open more connections than they get share one rate,
// those that may change pools by auth_optional as well. Others wait for none of them, and they are
// free again after a while without it.
func TestACrowdHasOneRowOfTurns(t *testing.T) {
	p := newPacer()
	now := time.Unix(1_000_000, 0)
	for uid := range uint32(20) {
		p.crowds(account{kind: accountUser, uid: uid}, now)
	}
	for i := range 100 {
		of := account{kind: accountUser, uid: uint32(i % 20)}
		if got, want := p.reserve(of, i%2 == 0, now).wait, time.Duration(i)*crowdEvery; got != want {
			t.Errorf("request %d of the crowd waits %s, want %s", i, got, want)
		}
	}
	quiet := account{kind: accountUser, uid: 1000}
	if wait := p.reserve(quiet, true, now).wait; wait != 0 {
		t.Errorf("another account waits %s", wait)
	}
	for _, rated := range []bool{true, false} {
		if wait := p.reserve(account{kind: accountUser}, rated, now.Add(crowdingFor)).wait; wait != 0 {
			t.Errorf("after %s it waits %s", crowdingFor, wait)
		}
	}
	for i := range 3 * pacedLimit {
		p.crowds(account{kind: accountUser, uid: uint32(i)}, now)
		if len(p.crowding) > pacedLimit {
			t.Fatalf("%d accounts are remembered", len(p.crowding))
		}
	}
}

// TestTurnsAreReturned: a caller that sends requests without end and does not wait for the answers
// leaves no row of turns behind it, whether it leaves by itself or its connection is closed.
func TestTurnsAreReturned(t *testing.T) {
	for name, crowd := range map[string]bool{"alone": false, "in_a_crowd": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := bareServer(t)
				of := account{kind: accountUser, uid: 1000}
				ask := func(ctx context.Context, hung chan struct{}) {
					x := &exchange{from: &connection{account: of, hung: hung}, caller: caller{may: accessRead}}
					s.await(ctx, x, time.Now())
				}
				if crowd {
					s.pace.crowds(of, time.Now())
				} else {
					for range int(paceBurst/paceEvery) + 1 {
						ask(t.Context(), nil)
					}
				}
				began := time.Now()
				ctx, leave := context.WithCancel(t.Context())
				leave()
				hung := make(chan struct{})
				close(hung)
				for range 5000 {
					ask(ctx, nil)
					ask(t.Context(), hung)
				}
				ask(t.Context(), nil)
				if took := time.Since(began); took > 2*crowdEvery {
					t.Errorf("the next request waited %s", took)
				}
			})
		})
	}
}

// bareServer is a server with no pools.
func bareServer(t *testing.T) *Server {
	t.Helper()
	s, err := New(Options{Registry: registry.New(), Backend: units{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPaceOfRequests: callers that may only read are held to their rate; root, the group and
// callers that may change pools are not, and the end of the server waits for no turn.
func TestPaceOfRequests(t *testing.T) {
	const requests = int(paceBurst/paceEvery) + 500
	for _, c := range []struct {
		name string
		from *connection
		by   caller
		want time.Duration
	}{
		{"a_user", &connection{local: true, account: account{kind: accountUser, uid: 1000}}, caller{kind: callerUser, may: accessRead}, 499 * paceEvery},
		{"root", &connection{local: true, account: account{kind: accountUser, privileged: true}}, caller{kind: callerUser, may: accessRead}, 0},
		{"an_unknown_process", &connection{}, caller{kind: callerUnseen}, 499 * paceEvery},
		{"the_token", &connection{account: account{kind: accountUser, uid: 1000}}, caller{kind: callerToken, may: accessWrite}, 0},
		{"a_program_that_needs_no_token", &connection{}, caller{kind: callerLocal, may: accessWrite}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := bareServer(t)
				began := time.Now()
				ask := func() {
					x := &exchange{from: c.from, caller: c.by}
					s.await(t.Context(), x, time.Now())
				}
				for range requests {
					ask()
				}
				if took := time.Since(began); took != c.want {
					t.Errorf("%d requests took %s, want %s", requests, took, c.want)
				}
				s.endStreams()
				began = time.Now()
				for range requests {
					ask()
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("after the end it took %s", took)
				}
			})
		})
	}
	t.Run("served", func(t *testing.T) {
		s := bareServer(t)
		before := len(s.pace.next)
		r := httptest.NewRequest(http.MethodGet, "/health", nil)
		s.ServeHTTP(httptest.NewRecorder(), r)
		if len(s.pace.next) != before+1 {
			t.Error("a request had no turn")
		}
	})
}
