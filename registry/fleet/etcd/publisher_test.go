package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
)

// fakeEtcd answers by the clock of the test.
type fakeEtcd struct {
	start time.Time
	fail  func(at time.Duration, call string) error
	found found
	goes  time.Duration // when the key that was found does; 0: never
	calls []string      // "SECONDS call"
	open  int

	patience time.Duration

	mu   sync.Mutex
	lost chan struct{}
}

// lose ends the lease.
func (f *fakeEtcd) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.lost)
}

func (f *fakeEtcd) call(name string) error {
	at := time.Since(f.start)
	f.calls = append(f.calls, fmt.Sprintf("%.1f %s", at.Seconds(), name))
	return f.fail(at, name)
}

func (f *fakeEtcd) look(context.Context) (found, error) { return f.found, f.call("look") }

func (f *fakeEtcd) grant(context.Context) (int64, <-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = make(chan struct{})
	return 7, f.lost, f.call("grant")
}

func (f *fakeEtcd) begin(_ context.Context, _, _ int64, changes []change) error {
	return f.call(fmt.Sprintf("begin %d", len(changes)))
}

func (f *fakeEtcd) write(_ context.Context, _ int64, changes []change) error {
	return f.call(fmt.Sprintf("write %d", len(changes)))
}

func (f *fakeEtcd) begun() {
	if f.patience != requestTime {
		_ = f.call("less time") // no case has it fail
	}
}

func (f *fakeEtcd) gone(ctx context.Context, _ int64, most time.Duration) {
	if left := f.goes - time.Since(f.start); f.goes > 0 && left <= most {
		most, f.found = max(0, left), found{}
	}
	wait(ctx, most)
}

func (f *fakeEtcd) check(context.Context, int64, int) error { return f.call("check") }

func (f *fakeEtcd) conflict(context.Context, string, []byte, time.Duration) error {
	return f.call("conflict")
}

func (f *fakeEtcd) revoke(context.Context, int64) error { return f.call("revoke") }

func (f *fakeEtcd) close() { f.open-- }

// TestSessions: which requests etcd gets, and when.
func TestSessions(t *testing.T) {
	never := func(time.Duration, string) error { return nil }
	between := func(from, to time.Duration, name string, err error) func(time.Duration, string) error {
		return func(at time.Duration, call string) error {
			if at >= from && at < to && strings.HasPrefix(call, name) {
				return err
			}
			return nil
		}
	}
	away := errors.New("no member answered")
	other := found{revision: 3, host: record.Encode(record.Host{Schema: record.Schema, BootID: "other", Name: "twin",
		TTL: 3, Started: "2100-01-01T00:00:00Z"})} // clocks mean nothing
	for _, c := range []struct {
		name  string
		d     time.Duration
		ttl   time.Duration // 0: that of the other tests
		fail  func(time.Duration, string) error
		found found
		goes  time.Duration
		steps map[time.Duration]func(p *Publisher, f *fakeEtcd, box fleet.Mailbox)
		want  string
		log   string // parts, in order
		// counted is published, conflict, failures and writes; empty: not looked at.
		counted string
	}{
		{name: "quiet", d: 65 * time.Second, fail: never,
			want: "0.0 look, 0.0 grant, 0.0 begin 2, 30.0 check, 60.0 check", log: "is published",
			counted: "true false 0 2"},
		{name: "failures_are_tried_again_and_logged_now_and_then", d: 44 * time.Second, ttl: 10 * time.Second,
			fail: between(0, 40*time.Second, "look", away),
			want: "0.0 look, 0.5 look, 1.5 look, 3.5 look, 7.5 look, 11.5 look, 15.5 look, 19.5 look, 23.5 look, " +
				"27.5 look, 31.5 look, 35.5 look, 39.5 look, 43.5 look, 43.5 grant, 43.5 begin 2",
			log: "attempts=1 … attempts=10 … is published", counted: "true false 13 2"},
		{name: "the_pause_is_shorter_where_the_lease_is", d: 8 * time.Second, fail: between(0, 7*time.Second, "look", away),
			want: "0.0 look, 0.5 look, 1.5 look, 3.5 look, 5.5 look, 7.5 look, 7.5 grant, 7.5 begin 2"},
		{name: "another_reason_is_logged_too", d: 8 * time.Second, ttl: 10 * time.Second,
			fail: func(at time.Duration, call string) error {
				if at < time.Second {
					return away
				}
				return between(0, time.Minute, "look", rpctypes.ErrPermissionDenied)(at, call)
			},
			want: "0.0 look, 0.5 look, 1.5 look, 3.5 look, 7.5 look",
			log:  "attempts=1 … attempts=3 … A role for each host"},
		{name: "a_member_that_reads_and_cannot_write_is_tried_less_often", d: 62 * time.Second,
			fail: between(0, time.Minute, "grant", away),
			want: "0.0 look, 0.0 grant, 0.5 look, 0.5 grant, 1.5 look, 1.5 grant, 3.5 look, 3.5 grant, 7.5 look, " +
				"7.5 grant, 15.5 look, 15.5 grant, 30.5 look, 30.5 grant, 45.5 look, 45.5 grant, 60.5 look, 60.5 grant, " +
				"60.5 begin 2", log: "attempts=1 … is published"},
		{name: "a_member_that_is_slow_gets_more_time", d: 20 * time.Second,
			fail: between(0, 10*time.Second, "begin", errSlow),
			want: "0.0 look, 0.0 grant, 0.0 begin 2, 0.5 within 6s, 0.5 look, 0.5 grant, 0.5 begin 2, 1.5 within 12s, " +
				"1.5 look, 1.5 grant, 1.5 begin 2, 3.5 within 12s, 3.5 look, 3.5 grant, 3.5 begin 2, 7.5 within 12s, " +
				"7.5 look, 7.5 grant, 7.5 begin 2, 15.5 within 12s, 15.5 look, 15.5 grant, 15.5 begin 2, 15.5 less time",
			log: "more time … is published"},
		{name: "a_write_that_failed_ends_the_session", d: 10 * time.Second,
			fail: between(0, 4*time.Second, "write", away),
			steps: map[time.Duration]func(*Publisher, *fakeEtcd, fleet.Mailbox){
				2 * time.Second: func(_ *Publisher, _ *fakeEtcd, box fleet.Mailbox) { box.Put(state("x!")) }},
			want: "0.0 look, 0.0 grant, 0.0 begin 2, 2.0 write 1, 2.5 look, 2.5 grant, 2.5 begin 2",
			log:  "attempts=1 … again"},
		{name: "a_session_that_always_fails_soon_is_tried_less_often", d: 9 * time.Second,
			fail: between(0, time.Minute, "write", rpctypes.ErrPermissionDenied),
			steps: map[time.Duration]func(*Publisher, *fakeEtcd, fleet.Mailbox){
				0: func(p *Publisher, _ *fakeEtcd, box fleet.Mailbox) { box.Put(state(many(150)...)) }},
			want: "0.0 look, 0.0 grant, 0.0 begin 100, 0.0 write 51, 0.5 look, 0.5 grant, 0.5 begin 100, 0.5 write 51, " +
				"1.5 look, 1.5 grant, 1.5 begin 100, 1.5 write 51, 3.5 look, 3.5 grant, 3.5 begin 100, 3.5 write 51, " +
				"7.5 look, 7.5 grant, 7.5 begin 100, 7.5 write 51", log: "A role for each host"},
		{name: "a_lost_lease", d: 5 * time.Second, fail: never,
			steps: map[time.Duration]func(*Publisher, *fakeEtcd, fleet.Mailbox){
				2 * time.Second: func(_ *Publisher, f *fakeEtcd, _ fleet.Mailbox) { f.lose() }},
			want: "0.0 look, 0.0 grant, 0.0 begin 2, 2.5 look, 2.5 grant, 2.5 begin 2", log: "ended the lease"},
		{name: "leases_that_are_lost_one_after_another", d: 15 * time.Second, fail: never,
			steps: map[time.Duration]func(*Publisher, *fakeEtcd, fleet.Mailbox){
				1 * time.Second:          func(_ *Publisher, f *fakeEtcd, _ fleet.Mailbox) { f.lose() },
				2 * time.Second:          func(_ *Publisher, f *fakeEtcd, _ fleet.Mailbox) { f.lose() },
				4 * time.Second:          func(_ *Publisher, f *fakeEtcd, _ fleet.Mailbox) { f.lose() },
				6 * time.Second:          func(_ *Publisher, f *fakeEtcd, _ fleet.Mailbox) { f.lose() },
				13500 * time.Millisecond: func(_ *Publisher, f *fakeEtcd, _ fleet.Mailbox) { f.lose() }},
			want: "0.0 look, 0.0 grant, 0.0 begin 2, 1.5 look, 1.5 grant, 1.5 begin 2, 3.0 look, 3.0 grant, 3.0 begin 2, " +
				"5.0 look, 5.0 grant, 5.0 begin 2, 7.0 look, 7.0 grant, 7.0 begin 2, 14.0 look, 14.0 grant, 14.0 begin 2",
			log: "attempts=1 … ended the lease", counted: "true false 5 12"},
		{name: "an_etcd_that_publishes_and_then_is_slow_is_tried_less_often", d: 13 * time.Second,
			fail: between(0, 8*time.Second, "write", rpctypes.ErrTimeout),
			steps: map[time.Duration]func(*Publisher, *fakeEtcd, fleet.Mailbox){
				1 * time.Second: func(_ *Publisher, _ *fakeEtcd, box fleet.Mailbox) { box.Put(state("x!")) },
				2 * time.Second: func(_ *Publisher, _ *fakeEtcd, box fleet.Mailbox) { box.Put(state("x")) },
				4 * time.Second: func(_ *Publisher, _ *fakeEtcd, box fleet.Mailbox) { box.Put(state("x!")) },
				7 * time.Second: func(_ *Publisher, _ *fakeEtcd, box fleet.Mailbox) { box.Put(state("x")) }},
			want: "0.0 look, 0.0 grant, 0.0 begin 2, 1.0 write 1, 1.5 look, 1.5 grant, 1.5 begin 2, 2.0 write 1, 3.0 look, " +
				"3.0 grant, 3.0 begin 2, 4.0 write 1, 6.0 look, 6.0 grant, 6.0 begin 2, 7.0 write 1, 11.0 look, 11.0 grant, " +
				"11.0 begin 2"},
		{name: "the_manager_does_not_answer", d: 10 * time.Second, fail: never,
			steps: map[time.Duration]func(*Publisher, *fakeEtcd, fleet.Mailbox){
				2 * time.Second: func(_ *Publisher, _ *fakeEtcd, box fleet.Mailbox) { box.Put(fleet.State{}) },
				8 * time.Second: func(_ *Publisher, _ *fakeEtcd, box fleet.Mailbox) { box.Put(state("x")) }},
			want: "0.0 look, 0.0 grant, 0.0 begin 2, 2.0 revoke, 8.0 look, 8.0 grant, 8.0 begin 2"},
		{name: "keys_are_gone", d: 31 * time.Second, fail: between(0, time.Minute, "check", errTaken),
			want: "0.0 look, 0.0 grant, 0.0 begin 2, 30.0 check, 30.5 look, 30.5 grant, 30.5 begin 2",
			log:  "changed or deleted by another"},
		{name: "another_boot_that_goes_with_its_lease", d: 9 * time.Second, fail: never, found: other,
			goes: 2700 * time.Millisecond,
			want: "0.0 look, 2.0 look, 2.7 look, 2.7 grant, 2.7 begin 2", log: "is published"},
		{name: "another_boot_that_outlives_its_lease", d: 9 * time.Second, fail: never, found: other,
			want: "0.0 look, 2.0 look, 4.0 look, 5.0 look, 5.0 conflict, 6.5 look, 6.5 conflict, " +
				"8.0 look, 8.0 conflict", log: "twin"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeEtcd{start: time.Now(), fail: c.fail, found: c.found, goes: c.goes}
				log := &lines{}
				p := New(testOptions(nil, "a", log))
				p.o.Log = slog.New(slog.NewTextHandler(log, nil))
				p.o.TTL = cmp.Or(c.ttl, ttl)
				p.random = func() float64 { return 0 }
				p.o.Progress = fleet.NewProgress("etcd")
				p.connect = func() (store, error) {
					f.open++
					if f.patience = p.patience(); f.patience != requestTime {
						_ = f.call("within " + f.patience.String()) // no case has it fail
					}
					return f, nil
				}
				box := fleet.NewMailbox()
				box.Put(state("x"))
				ctx, cancel := context.WithTimeout(t.Context(), c.d)
				defer cancel()
				for at, step := range c.steps {
					if at == 0 {
						step(p, f, box)
						continue
					}
					go func() {
						time.Sleep(at)
						step(p, f, box)
					}()
				}
				p.Run(ctx, box)
				p.Close()
				if got := strings.Join(f.calls, ", "); got != c.want {
					t.Errorf("etcd got\n%s\nwant\n%s", got, c.want)
				}
				s := p.o.Progress.Status()
				counted := fmt.Sprint(s.Published, s.Conflict, s.Failures, s.Writes)
				if c.counted != "" && counted != c.counted {
					t.Errorf("counted %s, want %s", counted, c.counted)
				}
				if f.open != 0 {
					t.Errorf("%d connections are open", f.open)
				}
				rest := log.String()
				for _, part := range strings.Split(c.log, " … ") {
					_, after, found := strings.Cut(rest, part)
					if !found {
						t.Errorf("the log lacks %q: %s", part, log)
					}
					rest = after
				}
			})
		})
	}
}

func many(n int) []string {
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf("p%03d", i))
	}
	return ids
}

// TestPatience: after failures a session has more time until it has begun, and after that the time
// of its lease, within bounds.
func TestPatience(t *testing.T) {
	for _, c := range []struct{ ttl, patience, before, after time.Duration }{
		{ttl: 10 * time.Second, patience: requestTime, before: 10 * time.Second, after: 10 * time.Second},
		{ttl: 10 * time.Second, patience: longestRequest, before: longestRequest, after: 10 * time.Second},
		{ttl: 5 * time.Second, patience: longestRequest, before: longestRequest, after: 5 * time.Second},
		{ttl: time.Minute, patience: requestTime, before: longestRequest, after: longestRequest},
		{ttl: time.Second, patience: requestTime, before: requestTime, after: requestTime},
	} {
		o := testOptions([]string{"http://127.0.0.1:1"}, "a", nil)
		o.TTL = c.ttl
		s, err := dial(o, c.patience)
		if err != nil {
			t.Fatal(err)
		}
		before := s.(*client).work
		s.begun()
		if after := s.(*client).work; before != c.before || after != c.after {
			t.Errorf("ttl %s, patience %s: %s and then %s, want %s and %s", c.ttl, c.patience, before, after,
				c.before, c.after)
		}
		s.close()
	}
}

// TestWithoutALeader: a request that members refuse, since they have no leader, is made again over
// the time of an election; one that fails otherwise is not.
func TestWithoutALeader(t *testing.T) {
	for _, c := range []struct {
		name    string
		refused time.Duration
		then    error
		want    string
		is      error
	}{
		{name: "a_member_that_is_cut_off", refused: 50 * time.Millisecond, want: "0.0 0.1"},
		{name: "an_election", refused: 2 * time.Second, want: "0.0 0.1 0.3 0.7 1.5 2.3"},
		{name: "no_quorum", refused: time.Hour, want: "0.0 0.1 0.3 0.7 1.5 2.3", is: rpctypes.ErrNoLeader},
		{name: "another_failure", then: rpctypes.ErrTimeout, want: "0.0", is: rpctypes.ErrTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				var at []string
				err := (&client{attempts: &attempts{}}).asks(t.Context(), requestTime, func(context.Context) error {
					at = append(at, fmt.Sprintf("%.1f", time.Since(begun).Seconds()))
					if time.Since(begun) < c.refused {
						return rpctypes.ErrNoLeader
					}
					return c.then
				})
				if got := strings.Join(at, " "); got != c.want || !errors.Is(err, c.is) {
					t.Errorf("asked at %s, want %s; %v", got, c.want, err)
				}
				if strain := c.then != nil; isStrain(err) != strain {
					t.Errorf("%v is taken for strain: %t", err, !strain)
				}
			})
		})
	}
}
