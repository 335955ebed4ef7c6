// Command pool-gate is the readiness gate in an engine's unit: PID 1 runs it as ExecStartPost=, and the unit
// becomes active when it exits with 0. It owns flags only; the rule is in package gate.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/units/gate"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
)

// gcPercent keeps the heap small: a hundred gates may wait at the same time, each with next to nothing in memory
// (runtime/debug, SetGCPercent: the default of 100 lets the heap grow to 4 MiB first).
const gcPercent = 10

func main() {
	debug.SetGCPercent(gcPercent)
	os.Exit(run(os.Args[1:], os.Stderr))
}

func run(args []string, stderr io.Writer) int {
	o := gate.Options{Log: log.New(stderr, "pool-gate: ", 0)}
	f := flag.NewFlagSet("pool-gate", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprintln(stderr, gate.Usage()) }
	f.StringVar(&o.URL, "url", "", "health endpoint of the engine")
	f.IntVar(&o.Expect, "expect", 200, "status that means healthy")
	f.DurationVar(&o.Stall, "stall", 5*time.Minute, "time without progress until the load counts as stalled")
	if err := f.Parse(args); err != nil {
		return exit.Usage
	}
	if o.URL == "" || f.NArg() > 0 || o.Stall <= 0 {
		f.Usage()
		return exit.Usage
	}
	if err := o.FromEnvironment(); err != nil {
		o.Log.Println(err)
		return exit.Usage
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return gate.Run(ctx, o)
}
