package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// controls are the requests that break the engine, or show what its sandbox lets through.
//
//	POST /stub/health?status=500   /health answers with the status from now on; 200 restores it
//	POST /stub/crash?signal=SEGV   a signal to itself that nothing can catch or delay; SIGKILL when left out
//	POST /stub/exit?code=3         ends with the status
//	POST /stub/alloc?bytes=N       takes N bytes more of memory and touches each page
//	POST /stub/hang                no further request is answered, this one apart
//	POST /stub/spin                one core is used from now on, as by an engine that computes
//	POST /stub/mute                no further completion is answered, everything else is
//	POST /stub/say?line=TEXT       logs the line
//	POST /stub/open?path=/dev/x    200 with what came of opening it for reading and writing as text
//	POST /stub/dial?network=tcp&address=10.0.0.1:80   200 with what came of it as text
func (e *engine) controls(mux *http.ServeMux) {
	mux.HandleFunc("POST /stub/health", e.setHealth)
	mux.HandleFunc("POST /stub/crash", crash)
	mux.HandleFunc("POST /stub/exit", exit)
	mux.HandleFunc("POST /stub/alloc", e.alloc)
	mux.HandleFunc("POST /stub/hang", func(http.ResponseWriter, *http.Request) { e.hung.Store(true) })
	mux.HandleFunc("POST /stub/spin", func(http.ResponseWriter, *http.Request) { go spin() })
	mux.HandleFunc("POST /stub/mute", func(http.ResponseWriter, *http.Request) { e.mute.Store(true) })
	mux.HandleFunc("POST /stub/dial", dial)
	mux.HandleFunc("POST /stub/say", func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println(r.URL.Query().Get("line"))
	})
	mux.HandleFunc("POST /stub/open", openNode)
}

func (e *engine) setHealth(w http.ResponseWriter, r *http.Request) {
	status, err := strconv.Atoi(r.URL.Query().Get("status"))
	if err != nil || status < 200 || status > 599 {
		fail(w, http.StatusBadRequest, "status must be 200 to 599", "invalid_request_error")
		return
	}
	e.health.Store(int32(status))
}

// crash sends a signal to itself. Go's runtime catches most of them, so that only SIGKILL and
// SIGSTOP do what they do to another program; SIGSEGV, SIGABRT and the like end it with status 2
// and a trace.
func crash(w http.ResponseWriter, r *http.Request) {
	signal := syscall.SIGKILL
	if name := r.URL.Query().Get("signal"); name != "" {
		signal = unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG"))
	}
	if signal == 0 {
		fail(w, http.StatusBadRequest, "no such signal", "invalid_request_error")
		return
	}
	if err := unix.Kill(os.Getpid(), signal); err != nil {
		fail(w, http.StatusInternalServerError, err.Error(), "server_error")
	}
}

func exit(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.URL.Query().Get("code"))
	if err != nil || code < 0 || code > 255 {
		fail(w, http.StatusBadRequest, "code must be 0 to 255", "invalid_request_error")
		return
	}
	end(code)
}

// alloc keeps the memory until the process ends.
func (e *engine) alloc(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.URL.Query().Get("bytes"), 10, 64)
	if err != nil || n < 1 {
		fail(w, http.StatusBadRequest, "bytes must be 1 or more", "invalid_request_error")
		return
	}
	piece := make([]byte, n)
	for i := 0; i < len(piece); i += os.Getpagesize() {
		piece[i] = 1
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held = append(e.held, piece)
	fmt.Fprintln(w, "allocated", n)
}

// dial returns what becomes of a connection from inside the sandbox: "connected", or the error.
func dial(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	c, err := net.DialTimeout(q.Get("network"), q.Get("address"), 2*time.Second)
	if err == nil {
		// A datagram socket connects without a packet: only a write shows what a filter does.
		_, err = c.Write([]byte("x"))
		c.Close()
	}
	if err != nil {
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "connected")
}

// spin uses one core for as long as the engine runs.
func spin() {
	for n := uint64(1); n != 0; n |= 1 {
		n *= 6364136223846793005
	}
}
