// Command stubengine stands in for an inference engine where a test needs a hundred engines at
// once, or a fault on request: it serves the HTTP surface of llama-server that pool-managerd reads
// (/health, /slots, /props, /metrics, /v1/completions with a one-word answer), loads for as long as
// an option says, and breaks on request. It computes nothing. Real inference is tested with the
// real llama-server instead.
//
// It takes llama-server's flags (-m, -c, -np, …) and ignores those that mean nothing to it, so that
// a pool of engine "llamacpp" runs it as it is; a pool of engine "command" passes --port {port}.
// Executed by the name standin-sglang or standin-trtllm-serve, it stands in for one of those
// instead (kind.go).
//
// Its own flags are in options.go. While it runs, POST requests below /stub/ control it; they are
// in control.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// version is what --version prints behind "version: ", in llama-server's form.
const version = "1.0.0-stub (0000000)"

// stopPatience is how long requests in flight may continue after SIGTERM, as llama-server's 30 s.
const stopPatience = 30 * time.Second

func main() {
	kind := kindOf(os.Args[0])
	if kind.printsVersion(os.Args[1:], os.Stdout) {
		return
	}
	o, err := parse(os.Args[1:], os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "stubengine:", err)
		os.Exit(1)
	}
	// Those of Python listen when the model is loaded.
	o.Kind, o.ListenLate = kind, o.ListenLate || kind != likeLlama
	if o.Version {
		// llama-server prints its version on standard error.
		fmt.Fprintln(os.Stderr, "version: "+version)
		return
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "stubengine:", err)
		os.Exit(1)
	}
}

// run serves until SIGTERM and returns nil after a graceful end.
func run(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if o.IgnoreTerm {
		signal.Ignore(syscall.SIGTERM)
	}
	if o.Model != "" {
		f, err := os.Open(o.Model)
		if err != nil {
			return err // as llama-server: a bad model is exit status 1
		}
		f.Close()
	}
	o = byModel(o)
	if o.CrashAfter >= 0 {
		time.AfterFunc(o.CrashAfter, func() { end(o.ExitCode) })
	}
	if o.Say != "" {
		fmt.Println(o.Say)
	}
	memory, err := takeMemory(o, os.Stdout)
	if err != nil {
		return err
	}
	defer memory.Close()
	e := newEngine(o)
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		load(ctx, o)
		e.loaded.Store(true)
		fmt.Println("stubengine: the model is loaded")
	}()
	if o.ListenLate {
		<-loaded
	}
	address := o.address()
	if o.GRPC {
		return serveGRPC(ctx, loaded, address)
	}
	err = serve(ctx, e, address)
	time.Sleep(o.Unload)
	return err
}

// byModel derives the way of loading from the model's name, so that a test can reload an engine to
// a model that does something else: one named like crash.gguf ends the engine while it loads, one
// like slow.gguf takes two seconds.
func byModel(o options) options {
	switch name := filepath.Base(o.Model); {
	case strings.HasPrefix(name, "crash"):
		o.Load, o.CrashAfter, o.ExitCode = time.Hour, 200*time.Millisecond, 3
	case strings.HasPrefix(name, "slow"):
		o.Load = 2 * time.Second
	}
	return o
}

// end exits at once with the status, as a crash would.
func end(status int) {
	fmt.Fprintf(os.Stderr, "stubengine: ending with status %d as asked\n", status)
	os.Exit(status)
}

func serve(ctx context.Context, e *engine, address string) error {
	l, err := net.Listen(networkOf(address), address)
	if err != nil {
		return err
	}
	fmt.Println("stubengine: listening on", address)
	srv := &http.Server{Handler: e.routes(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	fmt.Println("stubengine: SIGTERM; requests in flight may finish")
	patience, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	if err := srv.Shutdown(patience); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}
