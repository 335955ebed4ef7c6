package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// engine is the state behind the HTTP surface. Its methods are safe for concurrent use.
type engine struct {
	o      options
	loaded atomic.Bool
	health atomic.Int32 // the status of /health once loaded
	hung   atomic.Bool  // no request is answered
	mute   atomic.Bool  // no completion is

	mu       sync.Mutex
	slots    []bool   // true while a completion uses it
	held     [][]byte // memory that /stub/alloc took
	answered int      // completions that were answered to the end
}

func newEngine(o options) *engine {
	e := &engine{o: o, slots: make([]bool, max(o.Slots, 1))}
	e.health.Store(http.StatusOK)
	return e
}

func (e *engine) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+cmp.Or(e.o.HealthPath, "/health"), e.serveHealth)
	e.o.Kind.answers(e, mux)
	mux.HandleFunc("POST /v1/completions", e.complete)
	mux.HandleFunc("POST /completion", e.complete)
	e.controls(mux)
	process := strconv.Itoa(os.Getpid())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Stub-Process", process)
		if e.o.AccessLog {
			fmt.Printf("INFO:     %s - \"%s %s HTTP/1.1\"\n", r.RemoteAddr, r.Method, r.URL.Path)
		}
		if e.hung.Load() {
			<-r.Context().Done()
			return
		}
		if !e.admits(r) {
			fail(w, http.StatusUnauthorized, "Invalid API Key", "authentication_error")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// admits reports whether a request has the key that the engine was started with, or needs none.
func (e *engine) admits(r *http.Request) bool {
	open := r.URL.Path == "/health" || r.URL.Path == "/metrics" || strings.HasPrefix(r.URL.Path, "/stub/")
	return open || e.o.Key == "" || r.Header.Get("Authorization") == "Bearer "+e.o.Key
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a caller that has gone needs no answer
}

// fail answers in llama-server's form of an error.
func fail(w http.ResponseWriter, status int, message, kind string) {
	answer(w, status, map[string]any{"error": map[string]any{"code": status, "message": message, "type": kind}})
}

func (e *engine) serveHealth(w http.ResponseWriter, _ *http.Request) {
	status := int(e.health.Load())
	switch {
	case !e.loaded.Load():
		fail(w, http.StatusServiceUnavailable, "Loading model", "unavailable_error")
	case status != http.StatusOK:
		fail(w, status, "unhealthy as asked", "server_error")
	default:
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	}
}

func (e *engine) serveProps(w http.ResponseWriter, _ *http.Request) {
	if e.o.Props != "" {
		fmt.Fprint(w, e.o.Props)
		return
	}
	answer(w, http.StatusOK, map[string]any{"total_slots": len(e.slots), "build_info": version,
		"model_path": e.o.Model})
}

func (e *engine) serveSlots(w http.ResponseWriter, _ *http.Request) {
	type slot struct {
		ID         int  `json:"id"`
		Processing bool `json:"is_processing"`
	}
	e.mu.Lock()
	list := make([]slot, len(e.slots))
	for i, busy := range e.slots {
		list[i] = slot{i, busy}
	}
	e.mu.Unlock()
	answer(w, http.StatusOK, list)
}

func (e *engine) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	if e.o.Metrics != "" {
		fmt.Fprintln(w, e.o.Metrics)
		return
	}
	busy, done := e.work()
	fmt.Fprintf(w, "llamacpp:requests_processing %d\nllamacpp:tokens_predicted_total %d\n", busy, done)
}

// work is how many completions are under way, and how many have been answered.
func (e *engine) work() (busy, done int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range e.slots {
		if b {
			busy++
		}
	}
	return busy, e.answered
}

// complete answers with one word, after the time that the query's "delay" asks for; a slot is busy
// meanwhile.
func (e *engine) complete(w http.ResponseWriter, r *http.Request) {
	var delay time.Duration
	if text := r.URL.Query().Get("delay"); text != "" {
		var err error
		if delay, err = time.ParseDuration(text); err != nil {
			fail(w, http.StatusBadRequest, err.Error(), "invalid_request_error")
			return
		}
	}
	if !e.loaded.Load() {
		fail(w, http.StatusServiceUnavailable, "Loading model", "unavailable_error")
		return
	}
	if e.mute.Load() {
		<-r.Context().Done()
		return
	}
	slot := e.take()
	if slot < 0 {
		fail(w, http.StatusServiceUnavailable, "no slot is free", "unavailable_error")
		return
	}
	defer e.give(slot)
	select {
	case <-r.Context().Done():
		return
	case <-time.After(delay):
	}
	answer(w, http.StatusOK, map[string]any{"object": "text_completion", "content": "stub",
		"choices": []any{map[string]any{"index": 0, "text": "stub", "finish_reason": "length"}}})
}

// take returns a slot that was free, or -1.
func (e *engine) take() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, busy := range e.slots {
		if !busy {
			e.slots[i] = true
			return i
		}
	}
	return -1
}

func (e *engine) give(slot int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.slots[slot] = false
	e.answered++
}
