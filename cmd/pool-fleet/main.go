// Command pool-fleet publishes this host: it follows the manager by its API, and reports to the
// orchestrator and writes to the etcd that its settings name. With an etcd it also shows what all
// hosts have there, on a unix socket. It may be killed at any time; no engine, lease or request
// depends on it.
//
// It owns flags, files, signals and wiring; the rules are in registry/fleet.
package main

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/pool-managerd/pool-managerd/cmd/cmdline"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/systemd"
)

// version is set at link time (-X main.version=…).
var version = "0.0.0-dev"

// Exit statuses.
const (
	exitOK     = 0 // ended as asked, or to read its settings again
	exitFailed = 1
)

// What the collector is to keep of memory. A fleet of 2300 hosts, the most that is read, has some
// 90 MiB live with its list encoded; MemoryMax= of the unit is 256 MiB, of which the heap may have
// less: without the second, what is allocated for a list comes on top of twice of what lives.
const (
	gcPercent   = 50
	memoryLimit = 160 << 20 // bytes
)

// defaultSocket is the manager's, where any user may read.
const defaultSocket = "/run/pool-managerd/api.sock"

type options struct {
	settings string
	socket   string
	fleet    string // the socket that it serves
	root     string // below which the host's own files are
}

func main() {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	var o options
	if status, ends := cmdline.Parse(o.flags(), version, args, stdout, stderr); ends {
		return status
	}
	log := slog.New(systemd.NewLogHandler(systemd.LogOptions{Identifier: "pool-fleet", Stderr: stderr}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	defer signal.Stop(again)
	p, err := newProgram(o, log)
	if err != nil {
		log.Error("could not start: " + err.Error())
		return exitFailed
	}
	p.run(ctx, again)
	return exitOK
}

func (o *options) flags() *flag.FlagSet {
	f := flag.NewFlagSet("pool-fleet", flag.ContinueOnError)
	f.StringVar(&o.settings, "settings", fleet.SettingsFile, "read from `FILE` what the manager wrote")
	f.StringVar(&o.socket, "socket", defaultSocket, "follow the manager at the unix socket `PATH`")
	f.StringVar(&o.fleet, "fleet-socket", fleet.Socket, "show the fleet at the unix socket `PATH`")
	f.StringVar(&o.root, "root", "/", "find machine-id, boot id and memory below `DIR`")
	return f
}
