package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// answering is a client of a server that answers each request with serve.
func answering(t *testing.T, o Options, serve http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(serve)
	t.Cleanup(s.Close)
	o.URL, o.OneShot = s.URL, true
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRequests: what a method sends is what the description has: the path with its parameters
// escaped, those that are given in the query and the header, and the body.
func TestRequests(t *testing.T) {
	no, deadline := false, int64(1500)
	for _, c := range []struct {
		name string
		ask  func(ctx context.Context, c *Client) error
		want string
	}{
		{"of_one_pool", func(ctx context.Context, c *Client) error {
			_, err := c.GetPool(ctx, "a b/../c?d")
			return err
		}, "GET /v1/pools/a%20b%2F..%2Fc%3Fd - - "},
		{"two_parameters_in_the_path", func(ctx context.Context, c *Client) error {
			_, err := c.DeleteLease(ctx, "a", "l-{id}")
			return err
		}, "DELETE /v1/pools/a/leases/l-%7Bid%7D - - "},
		{"nothing_optional", func(ctx context.Context, c *Client) error {
			_, err := c.PostResume(ctx, "a", PostResumeParams{})
			return err
		}, "POST /v1/pools/a/resume - - "},
		{"body_key_and_wait", func(ctx context.Context, c *Client) error {
			_, err := c.PostDrain(ctx, "a", wire.DrainRequest{DeadlineMS: &deadline},
				PostDrainParams{IdempotencyKey: "k1", Wait: 90 * time.Second})
			return err
		}, `POST /v1/pools/a/drain?wait=1m30s k1 - {"deadline_ms":1500}`},
		{"events", func(ctx context.Context, c *Client) error {
			s, err := c.GetEvents(ctx, GetEventsParams{Pool: "a", Kind: "crash,drain", Follow: &no, LastEventID: "e-7"})
			if err == nil {
				err = s.Close()
			}
			return err
		}, "GET /v1/events?follow=false&kind=crash%2Cdrain&pool=a - e-7 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			client := answering(t, Options{Token: "secret", CorrelationID: "c1"},
				func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					header := func(name string) string {
						if v := r.Header.Get(name); v != "" {
							return v
						}
						return "-"
					}
					got = fmt.Sprintf("%s %s %s %s %s", r.Method, r.RequestURI, header("Idempotency-Key"),
						header("Last-Event-ID"), strings.TrimSpace(string(body)))
					if r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("X-Correlation-Id") != "c1" {
						t.Errorf("%v", r.Header)
					}
					_, _ = io.WriteString(w, "{}")
				})
			if err := c.ask(t.Context(), client); err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestAnswers: a value, the bytes as they were sent, text, nothing, and a list that did not change.
func TestAnswers(t *testing.T) {
	c := answering(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case strings.HasSuffix(r.URL.Path, "/unit"):
			_, _ = io.WriteString(w, "[Unit]\n")
		case r.Header.Get("If-None-Match") == `"t"`:
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("ETag", `"t"`)
			_, _ = io.WriteString(w, `{"pools":[{"id":"a","later":1}],"problems":[]}`)
		}
	})
	list, err := c.GetPools(t.Context(), GetPoolsParams{})
	if err != nil || len(list.Value.Pools) != 1 || list.Value.Pools[0].ID != "a" || list.Status != 200 ||
		!strings.Contains(string(list.Raw), `"later":1`) || list.NotModified {
		t.Errorf("%+v %v", list, err)
	}
	again, err := c.GetPools(t.Context(), GetPoolsParams{IfNoneMatch: list.ETag})
	if err != nil || !again.NotModified || len(again.Value.Pools) != 0 {
		t.Errorf("%+v %v", again, err)
	}
	if unit, err := c.GetPoolUnit(t.Context(), "a"); err != nil || unit.Value != "[Unit]\n" {
		t.Errorf("%+v %v", unit, err)
	}
	if none, err := c.DeleteLease(t.Context(), "a", "l"); err != nil || none.Status != 204 {
		t.Errorf("%+v %v", none, err)
	}
}

// TestErrors: an error of the API is a Failure with its code and hint; no answer, and one that is
// no answer of the API, are errors of their own.
func TestErrors(t *testing.T) {
	t.Run("failure", func(t *testing.T) {
		c := answering(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(wire.Error{Code: "POOL_DRAINING", Message: "m", Hint: "h", Retriable: true})
		})
		_, err := c.PostLease(t.Context(), "a", wire.LeaseRequest{}, PostLeaseParams{})
		var f *Failure
		var answer *wire.Error
		if !errors.As(err, &f) || f.Status != 409 || f.Answer.Hint != "h" || !f.Answer.Retriable ||
			!errors.As(err, &answer) || err.Error() != "POOL_DRAINING: m" {
			t.Errorf("%#v", err)
		}
	})
	for name, serve := range map[string]http.HandlerFunc{
		"of_another_program": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "nginx", http.StatusBadGateway) },
		"a_redirection":      func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) },
		"an_empty_error":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); _, _ = io.WriteString(w, "{}") },
		"another_type":       func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"id":1}`) },
		"no_json":            func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := answering(t, Options{Token: "secret"}, serve).GetPool(t.Context(), "a")
			var u *Unexpected
			if !errors.As(err, &u) || !strings.HasPrefix(err.Error(), u.Addr+": the answer is ") {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("nothing_listens", func(t *testing.T) {
		socket := filepath.Join(t.TempDir(), "none.sock")
		c, err := New(Options{Sockets: []string{socket}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.GetHealth(t.Context())
		var u *Unreachable
		if !errors.As(err, &u) || u.Addr != socket || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v", err)
		}
	})
	t.Run("no_answer_in_time", func(t *testing.T) {
		c := answering(t, Options{Timeout: 50 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		})
		_, err := c.GetHealth(t.Context())
		var u *Unreachable
		if !errors.As(err, &u) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
	t.Run("its_caller_leaves", func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		c := answering(t, Options{}, func(_ http.ResponseWriter, r *http.Request) {
			leave()
			<-r.Context().Done()
		})
		_, err := c.GetHealth(ctx)
		var u *Unreachable
		if !errors.Is(err, context.Canceled) || errors.As(err, &u) {
			t.Errorf("%v", err)
		}
	})
}

// TestOptions: where the API is must be said once, and readably.
func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{}, {Sockets: []string{"/s"}, URL: "http://h:1"}, {URL: "h:1"}, {URL: "ftp://h"}, {URL: "http://"},
		{URL: "http://user:secret@h:1"},
	} {
		if _, err := New(o); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestStream: events come with the id that the next reader resumes at; the end is no error, and a
// connection that breaks is one.
func TestStream(t *testing.T) {
	breaks := false
	c := answering(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, ": hello\n\nid: e-1\nevent: crash\ndata: {\"seq\":1}\n\n: alive\n\n"+
			"id: e-3\nevent: gap\ndata: {\"missed\":1}\n\n")
		if breaks {
			_ = http.NewResponseController(w).Flush()
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	})
	read := func() (got string, end error) {
		s, err := c.GetEvents(t.Context(), GetEventsParams{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for {
			e, err := s.Next()
			if err != nil {
				return got, err
			}
			got += fmt.Sprintf("%s %s %s\n", e.ID, e.Kind, e.Data)
		}
	}
	const want = "e-1 crash {\"seq\":1}\ne-3 gap {\"missed\":1}\n"
	if got, err := read(); got != want || !errors.Is(err, io.EOF) {
		t.Errorf("%q %v", got, err)
	}
	breaks = true
	var u *Unreachable
	if _, err := read(); !errors.As(err, &u) || errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}
