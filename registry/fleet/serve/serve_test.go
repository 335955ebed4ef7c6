package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
	"github.com/pool-managerd/pool-managerd/registry/fleet/view"
)

const ttl = 10 * time.Second

// played is a source that delivers what a test has it deliver.
type played struct {
	batches chan view.Batch
	opened  atomic.Int32
	open    atomic.Bool
}

func (p *played) Watch(ctx context.Context, deliver func(view.Batch)) {
	p.opened.Add(1)
	p.open.Store(true)
	defer p.open.Store(false)
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-p.batches:
			deliver(b)
		}
	}
}

// pipes is a listener without a kernel, so that its time is that of the test.
type pipes struct {
	conns chan net.Conn
	end   chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.end:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.end); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "test", Net: "unix"} }

// site is a server with a source, and a client of it.
type site struct {
	*Server
	t      *testing.T
	source *played
	client *http.Client
}

// inTime runs a test with a server, by a clock of its own.
func inTime(t *testing.T, f func(s *site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		source := &played{batches: make(chan view.Batch)}
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		s := &site{t: t, source: source, Server: New(Options{Source: source, Prefix: "/p", TTL: ttl,
			Hint: func(error) string { return "look" }, Log: slog.New(slog.DiscardHandler)})}
		transport := &http.Transport{DisableKeepAlives: true,
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				l.conns <- far
				return near, nil
			}}
		s.client = &http.Client{Transport: transport}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Serve(ctx, l); close(ended) }()
		f(s)
		cancel()
		<-ended
		transport.CloseIdleConnections()
	})
}

// has delivers a list of one host with pools, "x ready" for example.
func (s *site) has(pools ...string) {
	keys := record.Below("/p")
	b := view.Batch{Kind: view.Page, KVs: []view.KV{{Key: keys.Host("m"),
		Value: record.Encode(record.Host{Schema: 1, MachineID: "m", Name: "gpu1"})}}}
	for _, p := range pools {
		b.KVs = append(b.KVs, s.pool(p))
	}
	for _, b := range []view.Batch{{Kind: view.Begin}, b, {Kind: view.End, Revision: 7}} {
		s.source.batches <- b
	}
	synctest.Wait()
}

func (s *site) pool(text string) view.KV {
	id, state, _ := strings.Cut(text, " ")
	return view.KV{Key: record.Below("/p").Pool("m", id),
		Value: record.Encode(record.Pool{Schema: 1, ID: id, State: state})}
}

func (s *site) changes(pools ...string) {
	b := view.Batch{Kind: view.Changed, Revision: 8}
	for _, p := range pools {
		b.KVs = append(b.KVs, s.pool(p))
	}
	s.source.batches <- b
	synctest.Wait()
}

func (s *site) loses(why string) {
	s.source.batches <- view.Batch{Kind: view.Lost, Err: errors.New(why)}
	synctest.Wait()
}

// get is the list, as "gpu1/x ready", or the error's code, message and hint.
func (s *site) get() string {
	s.t.Helper()
	resp, err := s.client.Get("http://pool-fleet/v1/fleet/pools")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var e wire.Error
		err := json.NewDecoder(resp.Body).Decode(&e)
		if err != nil || !e.Retriable || resp.Header.Get("Retry-After") != "1" {
			s.t.Fatalf("%d %+v %v", resp.StatusCode, e, err)
		}
		return fmt.Sprintf("%d %s: %s (%s)", resp.StatusCode, e.Code, e.Message, e.Hint)
	}
	var list wire.FleetPools
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		s.t.Fatal(err)
	}
	text := fmt.Sprintf("%d", list.Revision)
	for _, p := range list.Pools {
		text += " " + p.Node + "/" + p.ID + " " + p.State
	}
	return text
}

// asking is a request that is under way.
func (s *site) asking() <-chan string {
	answer := make(chan string, 1)
	go func() { answer <- s.get() }()
	synctest.Wait()
	return answer
}

func (s *site) want(got, want string) {
	s.t.Helper()
	if got != want {
		s.t.Errorf("got %q, want %q", got, want)
	}
}

func TestList(t *testing.T) {
	t.Run("the_first_request_waits_for_the_list", func(t *testing.T) {
		inTime(t, func(s *site) {
			if s.source.opened.Load() != 0 {
				t.Error("etcd is read before anyone asked")
			}
			answer := s.asking()
			s.has("x ready")
			s.want(<-answer, "7 gpu1/x ready")
			s.changes("x backoff", "y ready")
			s.want(s.get(), "8 gpu1/x backoff gpu1/y ready")
		})
	})
	t.Run("not_forever", func(t *testing.T) {
		inTime(t, func(s *site) {
			begun := time.Now()
			s.want(s.get(), "503 FLEET_UNAVAILABLE: the fleet has not been read yet (Try again. If that "+
				"does not help, systemctl status pool-fleet has the reason.)")
			if took := time.Since(begun); took != patience {
				t.Errorf("it took %s", took)
			}
		})
	})
	t.Run("an_etcd_that_is_away_is_named_at_once", func(t *testing.T) {
		inTime(t, func(s *site) {
			begun, answer := time.Now(), s.asking()
			s.loses("connection refused")
			s.want(<-answer, "503 FLEET_UNAVAILABLE: etcd cannot be read: connection refused (look)")
			if took := time.Since(begun); took != 0 {
				t.Errorf("it took %s", took)
			}
		})
	})
	t.Run("what_was_read_is_believed_for_the_time_of_a_lease", func(t *testing.T) {
		inTime(t, func(s *site) {
			answer := s.asking()
			s.has("x ready")
			<-answer
			s.loses("no leader")
			time.Sleep(ttl)
			s.want(s.get(), "7 gpu1/x ready")
			time.Sleep(time.Second)
			s.want(s.get(), "503 FLEET_UNAVAILABLE: etcd has not answered for 11s: no leader (look)")
			s.has("x backoff")
			s.want(s.get(), "7 gpu1/x backoff")
		})
	})
	t.Run("a_quiet_fleet_stays_believed", func(t *testing.T) {
		inTime(t, func(s *site) {
			answer := s.asking()
			s.has("x ready")
			<-answer
			for range 20 {
				time.Sleep(2 * time.Second)
				s.source.batches <- view.Batch{Kind: view.Alive}
			}
			s.want(s.get(), "7 gpu1/x ready")
		})
	})
	t.Run("no_such_path", func(t *testing.T) {
		inTime(t, func(s *site) {
			resp, err := s.client.Get("http://pool-fleet/v1/pools")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var e wire.Error
			if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || resp.StatusCode != 404 || e.Hint == "" {
				t.Errorf("%d %+v %v", resp.StatusCode, e, err)
			}
		})
	})
}

// reading is a stream that is read at once, whenever the test looks at it.
type reading struct {
	resp   *http.Response
	events chan string
}

func (s *site) opens() *http.Response {
	s.t.Helper()
	resp, err := s.client.Get("http://pool-fleet/v1/fleet/events")
	if err != nil {
		s.t.Fatal(err)
	}
	return resp
}

func (s *site) reads() *reading {
	s.t.Helper()
	r := &reading{s.opens(), make(chan string, 10*queue)}
	go r.pump()
	return r
}

func (r *reading) pump() {
	defer close(r.events)
	lines := bufio.NewScanner(r.resp.Body)
	for lines.Scan() {
		if data, is := strings.CutPrefix(lines.Text(), "data: "); is {
			r.events <- eventText(data)
		}
	}
}

// eventText is an event as "pool gpu1/x ready".
func eventText(data string) string {
	var e wire.FleetEvent
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return err.Error()
	}
	text := e.Kind
	switch {
	case e.PoolID != "":
		text += " " + e.Node + "/" + e.PoolID
	case e.Node != "":
		text += " " + e.Node
	}
	if e.Pool != nil {
		text += " " + e.Pool.State
	}
	if e.LastError != "" {
		text += " " + e.LastError + " (" + e.Hint + ")"
	}
	return text
}

func (r *reading) wants(t *testing.T, events ...string) {
	t.Helper()
	for _, want := range events {
		if got := <-r.events; got != want {
			t.Fatalf("the stream has %q, want %q", got, want)
		}
	}
}

// TestEvents: a stream begins with all that is there, goes on with changes, and shows losses.
func TestEvents(t *testing.T) {
	inTime(t, func(s *site) {
		first := s.reads()
		s.has("x ready", "y ready")
		first.wants(t, "host gpu1", "pool gpu1/x ready", "pool gpu1/y ready", "synced")
		s.changes("x backoff")
		first.wants(t, "pool gpu1/x backoff")
		second := s.reads()
		second.wants(t, "host gpu1", "pool gpu1/x backoff", "pool gpu1/y ready", "synced")
		s.loses("no leader")
		s.loses("no leader")
		third := s.reads()
		third.wants(t, "host gpu1", "pool gpu1/x backoff", "pool gpu1/y ready", "lost no leader (look)")
		s.has("x ready")
		for _, r := range []*reading{first, second} {
			r.wants(t, "lost no leader (look)", "pool gpu1/x ready", "pool-gone gpu1/y", "synced")
		}
		third.wants(t, "pool gpu1/x ready", "pool-gone gpu1/y", "synced")
		time.Sleep(3 * linger) // signs of life alone; a stream keeps etcd read
		s.changes("x failed")
		first.wants(t, "pool gpu1/x failed")
		for _, r := range []*reading{first, second, third} {
			r.resp.Body.Close()
		}
		time.Sleep(3 * linger)
		if synctest.Wait(); s.source.open.Load() || len(s.streams) != 0 {
			t.Errorf("etcd is read, for %d streams that ended", len(s.streams))
		}
	})
}

// TestSlowReader: who reads nothing keeps no other waiting, and is let go.
func TestSlowReader(t *testing.T) {
	inTime(t, func(s *site) {
		slowOne, other := s.opens(), s.reads()
		s.has("x ready")
		other.wants(t, "host gpu1", "pool gpu1/x ready", "synced")
		for i := range 3 * queue {
			state := fmt.Sprintf("state%d", i)
			s.changes("x " + state)
			other.wants(t, "pool gpu1/x "+state)
		}
		s.mu.Lock()
		n := len(s.streams)
		s.mu.Unlock()
		if n != 1 {
			t.Errorf("%d streams are open", n)
		}
		time.Sleep(2 * slow)
		all, err := io.ReadAll(slowOne.Body)
		if err == nil && strings.Contains(string(all), fmt.Sprintf("state%d\"", 3*queue-1)) {
			t.Error("the slow one got everything")
		}
		other.resp.Body.Close()
		slowOne.Body.Close()
	})
}

// TestTooMany: a stream or a connection more than the limits is refused, or waits, until one ends.
func TestTooMany(t *testing.T) {
	inTime(t, func(s *site) {
		var open []*http.Response
		for range streams {
			open = append(open, s.opens())
		}
		over := s.opens()
		if over.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("the stream beyond the limit got %d", over.StatusCode)
		}
		over.Body.Close()
		open[0].Body.Close()
		synctest.Wait()
		again := s.opens()
		if again.StatusCode != http.StatusOK {
			t.Errorf("after one ended: %d", again.StatusCode)
		}
		for _, r := range append(open[1:], again) {
			r.Body.Close()
		}
	})
	t.Run("connections", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			inner := &pipes{make(chan net.Conn, 3), make(chan struct{})}
			l := limit(inner, 2)
			var ends []net.Conn
			for range 3 {
				near, far := net.Pipe()
				defer near.Close()
				inner.conns <- far
			}
			for range 2 {
				c, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				ends = append(ends, c)
			}
			third := make(chan error, 2)
			go func() { _, err := l.Accept(); third <- err }()
			synctest.Wait()
			if len(third) != 0 {
				t.Error("a third connection was accepted")
			}
			ends[0].Close()
			ends[0].Close() // counts once
			if err := <-third; err != nil {
				t.Error(err)
			}
			go func() { _, err := l.Accept(); third <- err }()
			synctest.Wait()
			l.Close()
			if err := <-third; !errors.Is(err, net.ErrClosed) {
				t.Errorf("%v", err)
			}
		})
	})
}
