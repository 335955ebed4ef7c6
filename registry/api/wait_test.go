package api

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// awaited is a host on which pool a is as it is after a request was saved, and what becomes of it
// once the caller waits.
func awaited(t *testing.T, saved registry.Pool) *host {
	h := serve(t, Settings{}, units{})
	h.server.operator = &operators{}
	saved.ID = "a"
	h.reg.Put(saved)
	return h
}

// TestWait: the answer to a request with wait comes when the operation is over, and says how.
func TestWait(t *testing.T) {
	later := time.UnixMilli(1)
	draining := registry.Pool{State: registry.StateDraining, Drain: &registry.Drain{Until: later}}
	restarting := registry.Pool{State: registry.StateDraining, Drain: &registry.Drain{Until: later, Restart: true}}
	starting := registry.Pool{State: registry.StateStarting}
	reloading := registry.Pool{State: registry.StateReady, Ready: true, Reload: &registry.Reload{Phase: "beside"}}
	serves := &registry.Pool{State: registry.StateReady, Ready: true}
	fails := &registry.Pool{State: registry.StateFailed,
		LastError: registry.Fail(registry.CodeBreakerOpen, "it crashed", "Look.")}
	rolledBack := &registry.Pool{State: registry.StateReady, Ready: true,
		LastError: registry.Fail(registry.CodeEngineCrashed, "it crashed", "Look.")}
	stopped := &registry.Pool{State: registry.StateStopped, Drain: draining.Drain}
	cut := &registry.Pool{State: registry.StateStopped, Drain: draining.Drain,
		LastError: registry.Fail(registry.CodeDrainTimeout, "2 requests were cut", "")}
	refused := &registry.Pool{State: registry.StateRefused, Drain: draining.Drain}
	for _, c := range []struct {
		name, method, path string
		saved              registry.Pool
		then               *registry.Pool // nil: the pool is removed
		failure            string         // empty: none
	}{
		{"drain", "POST", "/v1/pools/a/drain", draining, stopped, ""},
		{"drain_by_an_alias", "POST", "/v2/pools/a/drain", draining, stopped, ""},
		{"drain_that_cut_requests", "POST", "/v1/pools/a/drain", draining, cut, "DRAIN_TIMEOUT: 2 requests were cut"},
		{"drain_of_a_refused_pool", "POST", "/v1/pools/a/drain", draining, refused, ""},
		{"drain_and_resumed", "POST", "/v1/pools/a/drain", draining, serves, "it was resumed meanwhile"},
		{"drain_and_removed", "POST", "/v1/pools/a/drain", draining, nil, "the pool was removed meanwhile"},
		{"resume", "POST", "/v1/pools/a/resume", starting, serves, ""},
		{"resume_that_fails", "POST", "/v1/pools/a/resume", starting, fails, "it is failed: BREAKER_OPEN: it crashed"},
		{"resume_and_drained", "POST", "/v1/pools/a/resume", starting, stopped, "it was drained meanwhile"},
		{"restart", "POST", "/v1/pools/a/restart", restarting, serves, ""},
		{"reset", "POST", "/v1/pools/a/reset", starting, serves, ""},
		{"reload", "POST", "/v1/pools/a/reload", reloading, serves, ""},
		{"reload_that_is_rolled_back", "POST", "/v1/pools/a/reload", reloading, rolledBack,
			"the former version serves: ENGINE_CRASHED: it crashed"},
		{"removal", "DELETE", "/v1/pools/a", *serves, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := awaited(t, c.saved)
			answered := make(chan reply, 1)
			go func() { answered <- h.send(c.method, "http://socket"+c.path+"?wait=1m", "") }()
			h.waitStreams(1)
			if c.then == nil {
				h.reg.Remove("a")
			} else {
				next := *c.then
				next.ID = "a"
				h.reg.Put(next)
			}
			r := <-answered
			operation, _ := r.json["operation"].(map[string]any)
			failure, _ := operation["error"].(string)
			if r.status != 200 || operation["done"] != true || failure != c.failure {
				t.Errorf("%d %s, want the failure %q", r.status, r.body, c.failure)
			}
			if c.then != nil && r.json["state"] != string(c.then.State) {
				t.Errorf("the pool is %v, want %s", r.json["state"], c.then.State)
			}
			h.waitStreams(0)
		})
	}
}

// TestWaitOfADownload: it is over in any of its final states.
func TestWaitOfADownload(t *testing.T) {
	for _, state := range []registry.DownloadState{registry.DownloadDone, registry.DownloadFailed,
		registry.DownloadCancelled} {
		t.Run(string(state), func(t *testing.T) {
			h := serve(t, Settings{}, units{})
			shelf := &finishing{}
			h.server.library = shelf
			answered := make(chan reply, 1)
			go func() { answered <- h.send("POST", "http://socket/v1/downloads?wait=60s", `{"model":"hf:a/b"}`) }()
			h.waitStreams(1)
			shelf.state.Store(&state)
			if r := <-answered; r.status != 200 || r.json["state"] != string(state) {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
}

// finishing has one download, which ends when the test says so.
type finishing struct {
	libraries
	state atomic.Pointer[registry.DownloadState]
}

func (f *finishing) Downloads() []registry.Download {
	d := registry.Download{Model: "hf:a/b", State: registry.DownloadRunning}
	if s := f.state.Load(); s != nil {
		d.State = *s
	}
	return []registry.Download{d}
}

// TestWaitThatEndsBeforeTheOperation: the answer is the operation as it is, which goes on.
func TestWaitThatEndsBeforeTheOperation(t *testing.T) {
	begin := func(h *host, ctx context.Context) <-chan reply {
		answered := make(chan reply, 1)
		go func() {
			defer close(answered)
			req, err := http.NewRequestWithContext(ctx, "POST", "http://socket/v1/pools/a/resume?wait=1m", nil)
			if err != nil {
				return
			}
			resp, err := h.overSocket().Do(req)
			if err != nil {
				return
			}
			_ = resp.Body.Close()
			answered <- reply{status: resp.StatusCode}
		}()
		h.waitStreams(1)
		return answered
	}
	starting := registry.Pool{State: registry.StateStarting}
	goesOn := func(t *testing.T, r reply) {
		t.Helper()
		operation, _ := r.json["operation"].(map[string]any)
		if r.status != 202 || operation["done"] != false || r.json["state"] != "starting" {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	t.Run("its_time_is_over", func(t *testing.T) {
		h := awaited(t, starting)
		goesOn(t, h.send("POST", "http://socket/v1/pools/a/resume?wait=20ms", ""))
	})
	t.Run("too_many_wait", func(t *testing.T) {
		h := awaited(t, starting)
		h.server.streams.limits = limits{}
		goesOn(t, h.send("POST", "http://socket/v1/pools/a/resume?wait=1m", ""))
	})
	t.Run("the_server_ends", func(t *testing.T) {
		h := awaited(t, starting)
		answered := begin(h, t.Context())
		h.stop()
		if r := <-answered; r.status != 202 {
			t.Errorf("answered %d", r.status)
		}
	})
	t.Run("its_caller_leaves", func(t *testing.T) {
		h := awaited(t, starting)
		ctx, leave := context.WithCancel(t.Context())
		answered := begin(h, ctx)
		if n := h.server.conns.size(); n != 0 {
			t.Errorf("it has %d places of requests", n)
		}
		leave()
		h.waitStreams(0) // long before its minute
		if r, ok := <-answered; ok {
			t.Errorf("answered %d", r.status)
		}
	})
	t.Run("without_wait", func(t *testing.T) {
		h := awaited(t, starting)
		for _, query := range []string{"", "?wait=0s"} {
			r := h.send("POST", "http://socket/v1/pools/a/resume"+query, "")
			if r.status != 202 || r.json["operation"] != nil {
				t.Errorf("%s: %d %s", query, r.status, r.body)
			}
		}
	})
}

// TestWaitAgain: a request with a key is carried out once, and waits each time.
func TestWaitAgain(t *testing.T) {
	h := awaited(t, registry.Pool{State: registry.StateStarting})
	o := h.server.operator.(*operators)
	if r := h.keyed("/v1/pools/a/restart?wait=10ms", "", "k"); r.status != 202 || o.asked == "" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	o.asked = ""
	h.reg.Put(registry.Pool{ID: "a", State: registry.StateReady, Ready: true})
	if r := h.keyed("/v1/pools/a/restart?wait=1m", "", "k"); r.status != 200 || o.asked != "" {
		t.Errorf("%d %s, asked %q", r.status, r.body, o.asked)
	}
}

// TestQueries: a parameter that a path does not take, and a wait that is none, are refused before
// anything is done.
func TestQueries(t *testing.T) {
	for _, c := range []struct{ method, target, message, hint string }{
		{"POST", "/v1/pools/a/drain?wait=30", `the parameter wait is "30"`, "wait=30s for example"},
		{"POST", "/v1/pools/a/drain?wait=61s", "a duration of 0s to 60s", "the same Idempotency-Key waits again"},
		{"POST", "/v1/pools/a/drain?wait=-1s", `the parameter wait is "-1s"`, ""},
		{"POST", "/v1/pools/a/drain?wait", `the parameter wait is ""`, ""},
		{"POST", "/v1/pools/a/drain?wait=1s&wait=2s", `the parameter "wait" is there twice`, "Send it once."},
		{"POST", "/v1/pools/a/drain?Wait=1s", `unknown parameter "Wait"`, "This path takes wait;"},
		{"POST", "/v1/downloads?wait=1h", `the parameter wait is "1h"`, ""},
		{"DELETE", "/v1/pools/a?wait=1h", `the parameter wait is "1h"`, ""},
		{"POST", "/v1/pools/a/leases?wait=1s", `unknown parameter "wait"`, "takes no parameters in the query"},
		{"GET", "/v1/pools?state=ready", `unknown parameter "state"`, "takes no parameters in the query"},
		{"GET", "/v2/meta/version?x=1", `unknown parameter "x"`, ""},
		{"GET", "/health?probe=1", `unknown parameter "probe"`, ""},
		{"GET", "/v1/events?follow=false&pol=a", `unknown parameter "pol"`, "pool, kind, replay, follow"},
		{"GET", "/v1/events?follow=false&pool=a&pool=b", `the parameter "pool" is there twice`, ""},
		{"GET", "/v1/pools?a=%zz", "the query cannot be read", "each part escaped"},
		{"GET", "/v1/pools?a;b", "the query cannot be read", ""},
		{"GET", "/v1/pools?" + strings.Repeat("x", 100), `unknown parameter "` + strings.Repeat("x", 40) + `"`, ""},
	} {
		t.Run(c.method+"_"+c.target[:min(40, len(c.target))], func(t *testing.T) {
			h := awaited(t, registry.Pool{State: registry.StateReady, Ready: true})
			r := h.ask(h.overSocket(), c.method, "http://socket"+c.target, "")
			r.wantError(t, 400, "INVALID_PARAMS")
			message, _ := r.json["message"].(string)
			hint, _ := r.json["hint"].(string)
			if !strings.Contains(message, c.message) || !strings.Contains(hint, c.hint) {
				t.Errorf("%s", r.body)
			}
			if asked := h.server.operator.(*operators).asked; asked != "" {
				t.Errorf("asked %q", asked)
			}
		})
	}
}
