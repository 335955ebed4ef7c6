package probe

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestKeys: requests to an engine with a key carry it, and those to others do not. One that the
// engine refuses is read again, and the one that the engine took is kept.
func TestKeys(t *testing.T) {
	var takes, written atomic.Value
	takes.Store("one")
	written.Store("one")
	var requests atomic.Int32
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.Header.Get("Authorization") != "Bearer "+takes.Load().(string) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte("ok"))
	}))
	t.Cleanup(engine.Close)
	p := New()
	t.Cleanup(p.Close)
	host := strings.TrimPrefix(engine.URL, "http://")
	check := Check{Kind: HTTP, Host: host, Path: "/props", Status: 200, Timeout: time.Minute}
	steps := []struct {
		name           string
		takes, written string
		good           bool
	}{
		{"the_key_is_sent", "one", "one", true},
		{"a_new_key_that_the_engine_has_not_taken_changes_nothing", "one", "two", true},
		{"a_restarted_engine_has_it", "two", "two", true},
		{"another_key_is_no_use", "three", "two", false},
		{"nothing_is_written_down", "three", "", false},
		{"it_is_there_again", "three", "three", true},
	}
	ask := func() []error {
		_, get := p.Get(t.Context(), engine.URL+"/slots", 100)
		_, generate := p.Generate(t.Context(), Generation{URL: engine.URL + "/x", Timeout: time.Minute,
			Read: func([]byte) error { return nil }})
		return []error{p.Probe(t.Context(), check), get, generate}
	}
	for _, err := range ask() {
		if err == nil {
			t.Error("without a key it is let in")
		}
	}
	p.UseKey(host, func() string { return written.Load().(string) })
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			takes.Store(s.takes)
			written.Store(s.written)
			for i, err := range ask() {
				if (err == nil) != s.good {
					t.Errorf("question %d: %v", i, err)
				}
			}
		})
	}
	t.Run("a_key_that_was_taken_is_sent_at_once", func(t *testing.T) {
		before := requests.Load()
		ask()
		if n := requests.Load() - before; n != 3 {
			t.Errorf("%d requests for three questions", n)
		}
	})
	t.Run("a_schedule_takes_the_new_key", func(t *testing.T) {
		results := make(chan error, 100)
		s := p.Schedule(func(f func() error) error { return f() }, func(batch []Result) {
			for _, r := range batch {
				results <- r.Err
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		defer func() { cancel(); <-done }()
		s.Add(Target{Check: check, Interval: time.Millisecond})
		good := func() {
			t.Helper()
			if err := <-results; err != nil {
				t.Errorf("a probe: %v", err)
			}
		}
		good()
		good() // on the connection that was kept
		written.Store("four")
		takes.Store("four")
		for range 10 { // one that was on its way may have met the change
			if err := <-results; err == nil {
				good()
				return
			}
		}
		t.Error("no probe has the new key")
	})
	t.Run("an_engine_without_a_key", func(t *testing.T) {
		p.UseKey(host, nil)
		for _, err := range ask() {
			if err == nil {
				t.Error("the former key is sent")
			}
		}
	})
}
