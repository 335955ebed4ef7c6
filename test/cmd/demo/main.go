// Command demo shows pool-managerd at work on a machine that has no GPU and may not even run
// systemd: it boots a test machine, installs the package there, and lets a real llama-server serve
// a tiny generated model. Every command is printed as it is run, with its real output. Then two
// GPUs that do not exist are put into the machine, and the demo says so. At the end the API stays
// reachable from this machine until Ctrl-C; with DEMO_EXIT=1 the demo ends by itself.
//
// With the argument fleet it shows three machines that publish in one etcd instead, of which one
// loses its power and another one its network.
//
// It owns the sequence of steps only; what it shows is tested in test/e2e.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	show := run
	if len(os.Args) > 1 && os.Args[1] == "fleet" {
		show = showFleet
	}
	if err := show(ctx, os.Getenv("DEMO_EXIT") == "1"); err != nil {
		if ctx.Err() != nil {
			fmt.Println("\nInterrupted.")
			return
		}
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, exit bool) (err error) {
	began := time.Now()
	dir, err := os.MkdirTemp("", "pool-managerd-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	say("Building a tiny GGUF model, and booting a Debian machine with a real systemd and a real llama-server.")
	parts, err := host.Build(ctx, dir)
	if err != nil {
		return err
	}
	m, err := machine.Boot(ctx, machine.Config{
		Release: machine.Forky,
		Files:   append(parts.Files(), machine.File{Guest: packageInside, Host: parts.Deb}),
		Log:     func(line string) { fmt.Println("  " + line) },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	s := stage{h: host.New(m)}
	if err := s.show(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, s.h.Story(context.WithoutCancel(ctx), time.Time{}))
	}
	say("The demo took %s.", time.Since(began).Round(time.Second))
	if exit {
		return nil
	}
	return s.stay(ctx)
}

// say prints a line of the story.
func say(format string, args ...any) {
	fmt.Printf("\n# "+format+"\n", args...)
}
