// Command pool-gpu serves facts about this host's NVIDIA GPUs over a unix socket, and keeps the
// reservations of their memory. It is the only program that loads NVIDIA's library, so that a
// driver which hangs, lacks a function or is replaced harms no other process.
//
// It owns flags and wiring only: the rules are in package serve, the library in package driver.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/pool-managerd/pool-managerd/cmd/cmdline"
	"github.com/pool-managerd/pool-managerd/nvml/driver"
	"github.com/pool-managerd/pool-managerd/nvml/serve"
)

// version is set at link time (-X main.version=…).
var version = "0.0.0-dev"

// Exit statuses. From exitReplaced on, a new process of the unit helps.
const (
	exitOK       = 0
	exitFailed   = 1
	exitReplaced = 10 // the driver was replaced under this process
	exitHung     = 11 // a call into the driver does not return
)

type options struct {
	library string
	socket  string
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	var o options
	if status, ends := cmdline.Parse(o.flags(), version, args, stdout, stderr); ends {
		return status
	}
	l, err := listen(o.socket)
	if err != nil {
		fmt.Fprintln(stderr, "pool-gpu:", err)
		return exitFailed
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err = serve.Run(ctx, l, serve.Options{
		Library: driver.New(driver.Options{Library: o.library}),
		Log:     slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime})),
	})
	return status(err, stderr)
}

func (o *options) flags() *flag.FlagSet {
	f := flag.NewFlagSet("pool-gpu", flag.ContinueOnError)
	f.StringVar(&o.library, "library", driver.DefaultLibrary, "NVIDIA's management library, by name or `path`")
	f.StringVar(&o.socket, "socket", "", "listen at this `path`, where systemd passes no socket")
	return f
}

// status is what the process ends with.
func status(err error, stderr io.Writer) int {
	var hung *serve.HungError
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(stderr, "pool-gpu:", err)
	switch {
	case errors.Is(err, serve.ErrMismatch):
		return exitReplaced
	case errors.As(err, &hung):
		return exitHung
	default:
		return exitFailed
	}
}

// listen takes the one socket that systemd passed (sd_listen_fds(3)), or makes one for root alone
// at path.
func listen(path string) (net.Listener, error) {
	if path == "" {
		passed, err := activation.Listeners()
		if err != nil {
			return nil, fmt.Errorf("socket passed by systemd: %w", err)
		}
		if len(passed) != 1 || passed[0] == nil {
			return nil, fmt.Errorf("systemd passed %d sockets, and pool-gpu.socket has one; --socket PATH runs it by "+
				"hand", len(passed))
		}
		return passed[0], nil
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("another process listens at %s already", path)
	} else if errors.Is(err, syscall.ECONNREFUSED) { // left behind by a process that died
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	defer syscall.Umask(syscall.Umask(0o177))
	return net.Listen("unix", path)
}

// withoutTime leaves the time to the journal.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		return slog.Attr{}
	}
	return a
}
