// Command pool-managerd is the daemon: it keeps this host's engine pools running as transient
// systemd units and serves what is ready.
//
// It owns flags and wiring only; the rules are in the packages below.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/pool-managerd/pool-managerd/cmd/cmdline"
	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/units/fetchunit"
)

// version is set at link time (-X main.version=…).
var version = "0.0.0-dev"

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
)

type options struct {
	configFile string
	poolsDir   string
	runtimeDir string
	stateDir   string
	gate       string
	fetch      string
	gpuSocket  string
	check      bool
}

func main() {
	debug.SetGCPercent(gcCalm)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	var o options
	if status, ends := cmdline.Parse(o.flags(stderr), version, args, stdout, stderr); ends {
		return status
	}
	if o.check {
		return check(o, stdout, stderr)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := serve(ctx, o); err != nil {
		fmt.Fprintln(stderr, "pool-managerd:", err)
		return exitFailed
	}
	return exitOK
}

func (o *options) flags(stderr io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet("pool-managerd", flag.ContinueOnError)
	f.StringVar(&o.configFile, "config", "/etc/pool-managerd/config.toml", "the host's configuration")
	f.StringVar(&o.poolsDir, "pools-dir", "/etc/pool-managerd/pools.d", "the directory of pool files")
	f.StringVar(&o.runtimeDir, "runtime-dir", "/run/pool-managerd", "hand-off files")
	f.StringVar(&o.stateDir, "state-dir", "/var/lib/pool-managerd", "verified digests and engine versions")
	f.StringVar(&o.gate, "gate", "/usr/lib/pool-managerd/pool-gate", "the readiness gate that engine units run")
	f.StringVar(&o.fetch, "fetch", fetchunit.Program, "the program that downloads models, in units of its own")
	f.StringVar(&o.gpuSocket, "gpu-socket", wire.Socket, "where the GPU helper, pool-gpu, listens")
	f.BoolVar(&o.check, "check", false, "check the configuration, print every problem, and exit")
	f.Usage = func() {
		fmt.Fprintln(stderr, "usage: pool-managerd [--check] [--config FILE] [--pools-dir DIR]\n\nStarted by "+
			"pool-managerd.service, with the sockets of pool-managerd.socket. See pool-managerd(8).")
		f.PrintDefaults()
	}
	return f
}

// check prints every problem of the configuration at once.
func check(o options, stdout, stderr io.Writer) int {
	problems := hostconfig.Check(o.configFile, o.poolsDir, filepath.Join(o.stateDir, hostconfig.FormerFile))
	out := stdout
	if len(problems) > 0 {
		out = stderr
	}
	if err := hostconfig.Print(out, hostconfig.Report{Problems: problems}); err != nil || len(problems) > 0 {
		return exitFailed
	}
	return exitOK
}
