// Command gputrial tries the product on this host's GPU: it is the program of `make gpu-bundle`.
//
//	gputrial run [--dir BUNDLE] [--out DIR] [--limit DURATION] [--fake]   all steps, and a report in DIR
//
// It owns flags and printing; the steps are in package test/gpu/trial. Its other commands are for
// itself: "pid1" becomes the container's systemd, and "inside" runs the steps in there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/test/gpu/trial"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gputrial:", err)
		os.Exit(1)
	}
}

// usage is what a wrong command line gets.
var errUsage = errors.New("usage: gputrial run [--dir BUNDLE] [--out DIR] [--limit DURATION] [--fake]")

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	f := flag.NewFlagSet("gputrial", flag.ContinueOnError)
	dir := f.String("dir", ".", "the unpacked bundle")
	out := f.String("out", "gputrial-out", "where the report goes")
	limit := f.Duration("limit", 350*time.Second, "the longest time for all steps together")
	fake := f.Bool("fake", false, "the GPUs are those of the fake library")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	switch {
	case args[0] == "run" && f.NArg() == 0:
		return outside(ctx, *dir, *out, *fake)
	case args[0] == "inside":
		return trial.Inside(ctx, trial.Find(ctx, trial.Home, filepath.Join(trial.Home, "out"), *fake))
	case args[0] == "pid1" && f.NArg() == 2:
		return trial.PID1(f.Arg(0), f.Arg(1))
	}
	return errUsage
}

// outside runs the trial and prints the report. Faults that it found are an error.
func outside(ctx context.Context, dir, out string, fake bool) error {
	if os.Geteuid() != 0 {
		return errors.New("only root may make the container and read every process: run it as root")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	began := time.Now()
	report, err := trial.Run(ctx, trial.Find(ctx, dir, out, fake), func(t trial.Table) {
		fmt.Fprintf(os.Stderr, "%5.1f s  %s (%.1f s) %s\n", time.Since(began).Seconds(), t.Title, t.Seconds, t.NotRun)
	})
	if err != nil {
		return err
	}
	fmt.Print(report.Markdown())
	faults := report.Faults()
	for _, f := range faults {
		fmt.Fprintln(os.Stderr, "fault:", f)
	}
	if len(faults) > 0 {
		return fmt.Errorf("%d faults", len(faults))
	}
	return nil
}
