package probe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// runs is a schedule that runs until the test ends, and its results.
func runs(t testing.TB, s *Schedule) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// unguarded runs a step as it is.
func unguarded(f func() error) error { return f() }

// asked are the times at which engines were probed, by host.
type asked struct {
	mu    sync.Mutex
	times map[string][]time.Duration
	began time.Time
}

func newAsked() *asked { return &asked{times: make(map[string][]time.Duration), began: time.Now()} }

func (a *asked) note(host string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times[host] = append(a.times[host], time.Since(a.began))
}

// TestIntervals: every engine is probed at once and then at its interval, on the common grid, and
// one that does not answer delays no other.
func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, results := newAsked(), make(map[any][]string)
		s := NewSchedule(func(ctx context.Context, c Check) error {
			a.note(c.Host)
			switch c.Host {
			case "hangs":
				<-ctx.Done()
				return ctx.Err()
			case "slow":
				time.Sleep(c.Timeout)
				return errors.New("no answer")
			case "breaks":
				panic("a broken answer")
			}
			return nil
		}, func(f func() error) (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("panic: %v", p)
				}
			}()
			return f()
		}, func(batch []Result) {
			for _, r := range batch {
				results[r.Key] = append(results[r.Key], fmt.Sprint(r.Err, " ", r.Took))
			}
		})
		runs(t, s)
		every := func(host string, interval, early time.Duration) *Watch {
			return s.Add(Target{Key: host, Interval: interval, Early: early,
				Check: Check{Host: host, Timeout: 2 * time.Second}})
		}
		time.Sleep(200 * time.Millisecond)
		every("five", 5*time.Second, 0)
		every("early", 5*time.Second, 1200*time.Millisecond)
		every("second", time.Second, 0)
		every("breaks", 10*time.Second, 0)
		every("slow", 5*time.Second, 0)
		hangs := every("hangs", 5*time.Second, 0)
		time.Sleep(19 * time.Second)
		hangs.Stop()
		synctest.Wait()
		for host, want := range map[string]string{
			"five":   "[200ms 5s 10s 15s]",
			"early":  "[200ms 4s 9s 14s 19s]",
			"breaks": "[200ms 10s]",
			"slow":   "[200ms 7s 14s]", // its interval begins when a probe has ended
			"hangs":  "[200ms]",
		} {
			var got []time.Duration
			for _, at := range a.times[host] {
				got = append(got, at.Truncate(10*time.Millisecond))
			}
			if fmt.Sprint(got) != want {
				t.Errorf("%s was probed at %v, want %s", host, got, want)
			}
		}
		if n := len(a.times["second"]); n < 19 || n > 20 {
			t.Errorf("one of an interval of a second was probed %d times in 19 seconds", n)
		}
		for host, want := range map[string]string{"five": "<nil> 0s", "slow": "no answer 2s",
			"breaks": "panic: a broken answer 0s"} {
			if got := results[host]; len(got) != len(a.times[host]) || got[0] != want {
				t.Errorf("results of %s: %q, want %q", host, got, want)
			}
		}
		if got := results["hangs"]; got != nil {
			t.Errorf("a probe that was given up has the result %q", got)
		}
	})
}

// TestStoppedSchedule: Run waits for its probes, and what is asked of it later is ignored.
func TestStoppedSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		s := NewSchedule(func(ctx context.Context, _ Check) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			ended = true
			return ctx.Err()
		}, unguarded, func([]Result) { t.Error("a result was delivered") })
		ctx, cancel := context.WithCancel(t.Context())
		w := s.Add(Target{Check: Check{Timeout: time.Hour}, Interval: time.Second})
		time.AfterFunc(time.Second, cancel)
		s.Run(ctx)
		if !ended {
			t.Error("it returned before a probe had ended")
		}
		w.Stop()
		s.Add(Target{})
	})
}

// lineTest is a schedule over real connections.
type lineTest struct {
	t       *testing.T
	p       *Prober
	s       *Schedule
	results chan Result
}

func overLines(t *testing.T) *lineTest {
	l := &lineTest{t: t, p: New(), results: make(chan Result, 100)}
	l.s = l.p.Schedule(unguarded, func(batch []Result) {
		for _, r := range batch {
			l.results <- r
		}
	})
	if l.s.lines == nil {
		t.Fatal("it has no lines")
	}
	t.Cleanup(l.p.Close)
	runs(t, l.s)
	return l
}

// add has a host probed now, and again when a test says so.
func (l *lineTest) add(c Check) *Watch {
	return l.s.Add(Target{Check: c, Interval: time.Hour, Key: c.Host})
}

// again has watches be due now, as if their interval was over.
func (l *lineTest) again(all ...*Watch) {
	l.s.order(func() {
		for _, w := range all {
			l.s.due.drop(w)
		}
		l.s.begin(all...)
	})
}

// want takes the next result.
func (l *lineTest) want(reason string) Result {
	l.t.Helper()
	select {
	case r := <-l.results:
		if got := l.p.Reason(r.Err); got != reason {
			l.t.Fatalf("%v: %v (%s), want %q", r.Key, r.Err, got, reason)
		}
		return r
	case <-time.After(20 * time.Second):
		l.t.Fatal("no result")
	}
	return Result{}
}

// TestLines: what an answer to a probe over a line may be, and that it is asked for again where the
// engine closed the connection. Each case begins after a first answer, which left the connection
// open.
func TestLines(t *testing.T) {
	half := len(ok) / 2
	long := "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("x", 5000)
	for name, c := range map[string]struct {
		connections [][]string
		reason      string
		requests    string
	}{
		"good":                  {[][]string{{ok, ok}}, "", "0 GET, 0 GET"},
		"in_pieces":             {[][]string{{ok, ok[:half] + pieceMark + ok[half:]}}, "", "0 GET, 0 GET"},
		"longer_than_a_read":    {[][]string{{ok, long}}, "", "0 GET, 0 GET"},
		"another_status":        {[][]string{{ok, "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"}}, ReasonStatus, "0 GET, 0 GET"},
		"not_http":              {[][]string{{ok, "hello\r\n\r\n"}}, ReasonHTTP, "0 GET, 0 GET"},
		"closed_when_asked":     {[][]string{{ok}, {ok}}, "", "0 GET, 0 GET, 1 GET"},
		"closed_twice":          {[][]string{{ok}, {}}, ReasonReset, "0 GET, 0 GET, 1 GET"},
		"cut_off":               {[][]string{{ok, ok[:half] + cutMark}}, ReasonReset, "0 GET, 0 GET"},
		"the_end_of_a_line":     {[][]string{{ok, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok" + cutMark}}, "", "0 GET, 0 GET"},
		"bytes_behind_it":       {[][]string{{ok, ok + "HTTP"}, {ok}}, "", "0 GET, 0 GET"},
		"of_the_former_request": {[][]string{{ok + "HTTP/1.1 500 No\r\n\r\n"}, {ok}}, "", "0 GET, 1 GET"},
	} {
		t.Run(name, func(t *testing.T) {
			s, l := script(t, c.connections...), overLines(t)
			w := l.add(Check{Kind: HTTP, Host: s.host, Path: "/health", Status: 200, Timeout: 10 * time.Second})
			l.want("")
			l.again(w)
			l.want(c.reason)
			if got := s.requests(); got != c.requests {
				t.Errorf("requests by connection: %s; want %s", got, c.requests)
			}
		})
	}
}

// TestHungLines: an engine that does not answer in time has failed, without a goroutine that waits
// for it, and its connection is closed. Others that were asked after it are answered meanwhile.
func TestHungLines(t *testing.T) {
	hang, released := make(chan bool, 1), make(chan struct{})
	url := engine(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
			<-r.Context().Done() // the connection was closed
			close(released)
		default:
		}
	})
	good := engine(t, func(http.ResponseWriter, *http.Request) {})
	l := overLines(t)
	first := l.add(check(url, 300*time.Millisecond))
	l.want("")
	second := l.add(check(good, 10*time.Second))
	l.want("")
	hang <- true
	l.again(first, second)
	if r := l.want(""); r.Key != second.target.Key {
		t.Errorf("the first result is of %v", r.Key)
	}
	waits := make(chan bool)
	l.s.order(func() { waits <- first.line != 0 && first.cancel == nil })
	if !<-waits {
		t.Error("a goroutine waits for the engine that hangs")
	}
	if r := l.want(ReasonTimeout); r.Err.Error() != "no answer within 300ms" || r.Took < 300*time.Millisecond {
		t.Errorf("%v after %s", r.Err, r.Took)
	}
	<-released
	l.again(first)
	l.want("")
}

// TestStoppedLines: a probe that is given up closes its connection and has no result.
func TestStoppedLines(t *testing.T) {
	arrived, closed := make(chan struct{}), make(chan struct{})
	n := 0
	url := engine(t, func(_ http.ResponseWriter, r *http.Request) {
		if n++; n == 2 {
			close(arrived)
			<-r.Context().Done()
			close(closed)
		}
	})
	l := overLines(t)
	w := l.add(check(url, time.Minute))
	l.want("")
	l.again(w)
	<-arrived
	w.Stop()
	<-closed
	select {
	case r := <-l.results:
		t.Errorf("a result: %+v", r)
	default:
	}
	if n := settled(l.p, 0); n != 0 {
		t.Errorf("%d connections are open", n)
	}
}

// TestALineIsSharedWithRequests: other requests to an engine use the connection of its probe
// between probes, and a probe while one is under way opens another.
func TestALineIsSharedWithRequests(t *testing.T) {
	s, l := script(t, []string{ok, ok, ok, ok}), overLines(t)
	w := l.add(Check{Kind: HTTP, Host: s.host, Path: "/health", Status: 200, Timeout: 10 * time.Second})
	l.want("")
	for range 2 {
		l.again(w)
		l.want("")
	}
	if body, err := l.p.Get(t.Context(), "http://"+s.host+"/slots", 10); err != nil || string(body) != "ok" {
		t.Errorf("%q, %v", body, err)
	}
	if got, want := s.requests(), "0 GET, 0 GET, 0 GET, 0 GET"; got != want {
		t.Errorf("requests %s, want %s", got, want)
	}
}

// TestManyLines: more engines than one look at the poller reports, due at the same moment, each
// answer of which is taken.
func TestManyLines(t *testing.T) {
	l := overLines(t)
	var all []*Watch
	var servers []string
	for range 150 {
		servers = append(servers, engine(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	}
	for _, url := range servers {
		all = append(all, l.add(check(url, time.Minute)))
	}
	for range all {
		l.want("")
	}
	for range 3 {
		l.again(all...)
		var got []string
		for range all {
			got = append(got, l.want("").Key.(string))
		}
		slices.Sort(got)
		if n := len(slices.Compact(got)); n != len(all) {
			t.Errorf("%d of %d engines have a result", n, len(all))
		}
	}
}
