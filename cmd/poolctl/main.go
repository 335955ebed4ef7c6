// Command poolctl shows and operates a host's engine pools. It uses the API of pool-managerd; the
// command check reads the configuration files itself, import translates those of other programs,
// logs reads the journal, and clean deletes what removed pools left.
//
// It owns the command line and the output. It must not know how anything is started, and it prints
// no control character that it received.
//
// Exit status: 0 done; 1 failed, or check found a problem; 2 wrong use; 3 no such pool; 4 the
// daemon cannot be reached.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/units/memory"
)

// version is set at link time (-X main.version=…).
var version = "0.0.0-dev"

// Exit statuses; the package comment and poolctl(1) explain them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNoPool      = 3
	exitUnreachable = 4
)

func main() { os.Exit(start()) }

func start() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, now: time.Now, every: time.Second, journalctl: "journalctl",
		systemctl: "systemctl",
		available: memory.Available, clear: isTerminal(os.Stdout), bar: isTerminal(os.Stderr),
		colour: isTerminal(os.Stdout) && colours(os.Getenv)}
	return run(ctx, a, os.Args[1:])
}

// run executes a command line and returns the exit status. Only run converts errors to statuses.
func run(ctx context.Context, a *app, args []string) int {
	root := newRoot(a)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if w, is := a.out.(interface{ flush() error }); is {
		if flushed := w.flush(); err == nil && flushed != nil {
			err = &failed{flushed}
		}
	}
	code := exitOf(err)
	report(a.err, err, code)
	return code
}

func exitOf(err error) int {
	var f *failed
	var e *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &e):
		return e.code
	case errors.As(err, &f):
		return exitFailed
	}
	return exitUsage // any other error is the parser's
}

func report(w io.Writer, err error, code int) {
	if err == nil || errors.Is(err, errSilent) {
		return
	}
	text := strings.Join(strings.Fields(clean(err.Error())), " ") // the parser's own have several lines
	fmt.Fprintln(w, "poolctl:", text)
	var e *exitError
	if errors.As(err, &e) && e.hint != "" {
		for line := range strings.SplitSeq(e.hint, "\n") {
			fmt.Fprintln(w, "  "+clean(line))
		}
	}
	if code == exitUsage {
		fmt.Fprintln(w, "  poolctl --help explains the commands.")
	}
}
