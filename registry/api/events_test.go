package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// reader reads a stream of events.
type reader struct {
	t     testing.TB
	lines *bufio.Scanner
	end   func()
}

// events opens a stream.
func (h *host) events(query, last string) *reader {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://socket/v1/events"+query, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := h.overSocket().Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	r := &reader{h.t, bufio.NewScanner(resp.Body), func() { cancel(); resp.Body.Close() }}
	h.t.Cleanup(r.end)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		h.t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	if !r.lines.Scan() || !strings.HasPrefix(r.lines.Text(), ": pool-managerd") {
		h.t.Fatalf("no greeting: %q", r.lines.Text())
	}
	return r
}

// next is the next event: its id, kind and data, all empty at the end of the stream.
func (r *reader) next() (id, kind, data string) {
	r.t.Helper()
	for r.lines.Scan() {
		name, value, _ := strings.Cut(r.lines.Text(), ": ")
		switch name {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			data = value
		case "":
			if data != "" {
				r.check(kind, data)
				return id, kind, data
			}
		}
	}
	return "", "", ""
}

// check validates the data of an event.
func (r *reader) check(kind, data string) {
	r.t.Helper()
	schema := "Event"
	if kind == "gap" {
		schema = "Gap"
	}
	d, err := described()
	if err == nil {
		err = visit(d.doc.Components.Schemas[schema], []byte(data))
	}
	if err != nil {
		r.t.Errorf("%s is not as described: %v", data, err)
	}
}

// note has something happen to a pool.
func (h *host) note(pool string, n int) {
	h.reg.Note(registry.Event{Kind: registry.KindDrain, PoolID: pool, Cause: fmt.Sprintf("number %d", n)})
}

func TestEvents(t *testing.T) {
	t.Run("events_are_sent_at_once_and_none_from_before", func(t *testing.T) {
		h := serve(t, Settings{}, units{})
		h.note("a", 1)
		r := h.events("", "")
		h.note("a", 2)
		if _, kind, data := r.next(); kind != "drain" || !strings.Contains(data, `"cause":"number 2"`) ||
			!strings.Contains(data, `"pool_id":"a"`) {
			t.Errorf("%s %s", kind, data)
		}
	})
	t.Run("a_flip_of_ready_is_an_event", func(t *testing.T) {
		h := serve(t, Settings{}, units{})
		r := h.events("", "")
		h.reg.Put(registry.Pool{ID: "a", Ready: true, State: registry.StateReady})
		if _, kind, data := r.next(); kind != "ready" || !strings.Contains(data, `"ready":true`) ||
			!strings.Contains(data, `"reason":"healthy"`) {
			t.Errorf("%s %s", kind, data)
		}
	})
	t.Run("a_reader_that_comes_back_misses_nothing", func(t *testing.T) {
		h := serve(t, Settings{}, units{})
		r := h.events("", "")
		h.note("a", 1)
		id, _, _ := r.next()
		r.end()
		h.note("a", 2)
		h.note("a", 3)
		r = h.events("", id)
		for _, want := range []string{"number 2", "number 3"} {
			if _, _, data := r.next(); !strings.Contains(data, want) {
				t.Errorf("%s, want %s", data, want)
			}
		}
	})
	t.Run("events_that_are_kept_no_more_are_a_gap", func(t *testing.T) {
		h := serve(t, Settings{}, units{})
		for i := range 3001 {
			h.note("a", i)
		}
		r := h.events("", h.server.epoch+"-1")
		id, kind, data := r.next()
		if kind != "gap" || !strings.Contains(data, `"missed":1976,"up_to_seq":1977,`) || id != h.server.epoch+"-1977" {
			t.Errorf("%s %s %s, want a gap", id, kind, data)
		}
		if id, kind, _ := r.next(); kind != "drain" || id != h.server.epoch+"-1978" {
			t.Errorf("%s %s behind the gap", id, kind)
		}
		if _, kind, _ := h.events("", id).next(); kind != "drain" {
			t.Errorf("%s, although the reader knows of the gap", kind)
		}
	})
	t.Run("a_slow_reader_is_told_how_many_it_missed", func(t *testing.T) {
		h := newServer(t, Settings{}, units{})
		var got strings.Builder
		slow := &slowReader{Builder: &got, first: func() {
			for i := range 3000 {
				h.note("a", i)
			}
		}}
		h.note("a", 0)
		out := &stream{q: eventQuery{replay: true, follow: true}, w: slow, control: http.NewResponseController(slow)}
		if err := h.server.stream(t.Context(), out); err == nil {
			t.Fatal("the stream did not end")
		}
		if !strings.Contains(got.String(), `data: {"missed":1976,"up_to_seq":1977,"cause":`) {
			t.Errorf("no gap in %.300s", got.String())
		}
	})
	for _, last := range []string{"other-1", "-1", "%s-999"} {
		t.Run("the_numbers_of_another_daemon_are_a_gap/"+last, func(t *testing.T) {
			h := serve(t, Settings{}, units{})
			h.note("a", 1)
			r := h.events("", strings.Replace(last, "%s", h.server.epoch, 1))
			if _, kind, data := r.next(); kind != "gap" || !strings.Contains(data, `"missed":null,"up_to_seq":0`) {
				t.Errorf("%s %s, want a gap", kind, data)
			}
			if _, _, data := r.next(); !strings.Contains(data, "number 1") {
				t.Errorf("%s behind the gap", data)
			}
		})
	}
	t.Run("a_reader_goes_on_over_a_restart", func(t *testing.T) {
		h := serve(t, Settings{}, units{})
		r := h.events("", "")
		h.note("a", 1)
		id, _, _ := r.next()
		r.end()
		h.note("a", 2)
		next := newServer(t, Settings{}, units{})
		next.reg.Continue(h.reg.Past())
		next.server.epoch = h.server.epoch
		next.listen()
		next.note("a", 3)
		r = next.events("", id)
		for i, want := range []string{"number 2", "number 3"} {
			if id, kind, data := r.next(); kind != "drain" || !strings.Contains(data, want) ||
				id != fmt.Sprintf("%s-%d", h.server.epoch, i+2) {
				t.Errorf("%s %s %s, want %s", id, kind, data, want)
			}
		}
	})
	t.Run("of_some_kinds", func(t *testing.T) {
		h := serve(t, Settings{}, units{})
		r := h.events("?kind=crash,storm&pool=a", "")
		h.note("a", 1)
		for _, pool := range []string{"b", "a"} {
			h.reg.Note(registry.Event{Kind: registry.KindStorm, PoolID: pool, Cause: "of " + pool})
		}
		if _, kind, data := r.next(); kind != "storm" || !strings.Contains(data, "of a") {
			t.Errorf("%s %s", kind, data)
		}
	})
	t.Run("of_one_pool", func(t *testing.T) {
		h := serve(t, Settings{}, units{})
		r := h.events("?pool=b", "")
		h.note("a", 1)
		h.note("b", 2)
		if _, _, data := r.next(); !strings.Contains(data, "number 2") {
			t.Errorf("%s", data)
		}
	})
	t.Run("replayed_and_no_more", func(t *testing.T) {
		h := serve(t, Settings{}, units{})
		h.note("a", 1)
		r := h.events("?replay=true&follow=false", "")
		if _, _, data := r.next(); !strings.Contains(data, "number 1") {
			t.Errorf("%s", data)
		}
		if _, kind, data := r.next(); data != "" {
			t.Errorf("%s %s after the end", kind, data)
		}
	})
	t.Run("the_end_of_the_daemon_ends_it_at_once", func(t *testing.T) {
		h := serve(t, Settings{}, units{})
		r := h.events("", "")
		began := time.Now()
		h.stop()
		if _, _, data := r.next(); data != "" {
			t.Errorf("%s", data)
		}
		if took := time.Since(began); took > endTimeout {
			t.Errorf("it held the end of the daemon up for %s", took)
		}
	})
	for _, c := range []struct{ query, last, says string }{
		{"?pol=a", "", "unknown parameter"}, {"?replay=perhaps", "", "replay must be true or false"}, {"", "nonsense", "Last-Event-ID was not issued"}, {"?kind=crash,fire", "", "unknown kind"}, {"?kind=", "", "unknown kind"},
		{"?pool=a&pool=b", "", "is there twice"}, {"?pool=%zz", "", "the query cannot be read"},
	} {
		t.Run("refused/"+strings.Trim(c.query+c.last, "?"), func(t *testing.T) {
			h := serve(t, Settings{}, units{})
			if r := h.get("/v1/events"+c.query, "Last-Event-ID", c.last); r.status != 400 ||
				!strings.Contains(r.body, c.says) {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
	t.Run("too_many", func(t *testing.T) {
		h := serve(t, Settings{}, units{})
		h.server.streams.limits = limits{}
		if r := h.get("/v1/events"); r.status != http.StatusTooManyRequests || r.json["code"] != "TOO_MANY_STREAMS" {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
}

// slowReader takes long for its first event, while a lot happens, and leaves some events later.
type slowReader struct {
	*strings.Builder
	first func()
	wrote int
}

func (r *slowReader) Header() http.Header              { return http.Header{} }
func (r *slowReader) WriteHeader(int)                  {}
func (r *slowReader) Flush()                           {}
func (r *slowReader) SetWriteDeadline(time.Time) error { return nil }
func (r *slowReader) Write(p []byte) (int, error) {
	r.wrote++
	switch r.wrote {
	case 2: // behind the greeting
		r.first()
	case 10:
		return 0, errors.New("gone")
	}
	return r.Builder.Write(p)
}
