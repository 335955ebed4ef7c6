// Command pool-gate is the gate in an engine's unit: PID 1 runs it as ExecStartPost=, and the unit
// becomes active when it exits with 0. "pool-gate memory" is the step before the engine,
// "pool-gate gpu" the one after the gate for an engine with GPUs, "pool-gate release" that of units
// of former versions, "pool-gate exec" executes an engine, "pool-gate seccomp" writes the system
// call filter of one that podman or docker runs, "pool-gate places" makes in its image the places
// of its mounts, "pool-gate docker" runs it by docker's client and moves it into its unit, and
// "pool-gate disk" counts for the manager what engines have on the disk. It owns flags only; the
// rules are in package gate.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/units/disk"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/gate"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/image"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/seccomp"
)

// version is set at link time (-X main.version=…).
var version = "0.0.0-dev"

// gcPercent keeps the heap small: a hundred gates may wait at the same time, each with very little
// in memory (runtime/debug, SetGCPercent: the default of 100 lets the heap grow to 4 MiB first).
const gcPercent = 10

func main() {
	debug.SetGCPercent(gcPercent)
	os.Exit(run(os.Args[1:], os.Stderr))
}

func run(args []string, stderr io.Writer) int {
	logger := log.New(stderr, exit.LogPrefix, 0)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(args) > 0 {
		switch args[0] {
		case "memory":
			return memory(ctx, args[1:], stderr, logger)
		case "gpu":
			return gpu(ctx, args[1:], stderr, logger)
		case "exec":
			return execute(args[1:], stderr, logger)
		case "disk":
			return usage(ctx, args[1:], os.Stdout, stderr, logger)
		case "--version":
			fmt.Println("pool-gate", version)
			return exit.Ready
		case "seccomp":
			return seccompFile(args[1:], stderr, logger)
		case "places":
			return places(args[1:], stderr, logger)
		case "docker":
			return byDocker(ctx, args[1:], stderr, logger)
		case "release":
			return release(ctx, args[1:], stderr, logger)
		}
	}
	return ready(ctx, args, stderr, logger)
}

// flags returns a flag set that prints the usage of all commands.
func flags(stderr io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet("pool-gate", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprintln(stderr, gate.Usage()) }
	return f
}

// ready is the readiness gate.
func ready(ctx context.Context, args []string, stderr io.Writer, logger *log.Logger) int {
	o := gate.Options{Log: logger}
	f := flags(stderr)
	f.StringVar(&o.URL, "url", "", "health endpoint of the engine")
	f.StringVar(&o.Unix, "unix", "", "unix socket of the engine, which is asked instead of the port")
	f.BoolVar(&o.Key, "key", false, "send the engine's key, a credential of the unit")
	f.StringVar(&o.Body, "body", "", "regular expression, in base64, that the body of a healthy answer matches")
	f.IntVar(&o.Expect, "expect", 200, "status that means healthy")
	f.DurationVar(&o.Stall, "stall", 5*time.Minute, "time without progress until the load counts as stalled")
	f.DurationVar(&o.Deadline, "deadline", 0, "the longest time that the load may take; 0: any time")
	f.StringVar(&o.Engine, "engine", "", "kind of the engine")
	f.BoolVar(&o.Monitor, "monitor", false, "the main process is podman's monitor, and the engine its child")
	f.BoolVar(&o.GPU, "gpu", false, "the engine has a GPU and is not ready without it")
	if err := f.Parse(args); err != nil {
		return exit.Usage
	}
	if o.URL == "" || f.NArg() > 0 || o.Stall <= 0 || o.Deadline < 0 || o.GPU && o.Engine == "" {
		f.Usage()
		return exit.Usage
	}
	if err := o.FromEnvironment(); err != nil {
		o.Log.Println(err)
		return exit.Usage
	}
	return gate.Run(ctx, o)
}

// memory is the step before the engine.
func memory(ctx context.Context, args []string, stderr io.Writer, logger *log.Logger) int {
	o := gate.MemoryOptions{Log: logger}
	f := flags(stderr)
	f.Func("need", "bytes by device", func(text string) (err error) {
		o.Need, err = gate.ParseNeeds(text)
		return err
	})
	f.Func("nodes", "device nodes that the engine is going to open", func(text string) error {
		o.Nodes = strings.Split(text, ",")
		return nil
	})
	f.Uint64Var(&o.Host, "host", 0, "bytes of main memory")
	f.Uint64Var(&o.Mapped, "mapped", 0, "part of it that the kernel may read again")
	f.BoolVar(&o.Warn, "warn", false, "too little main memory is no reason not to start")
	f.Uint64Var(&o.MemoryMax, "memory-max", 0, "limit of the unit's main memory")
	f.DurationVar(&o.Wait, "wait", 10*time.Second, "how long to retry while there is too little memory")
	f.StringVar(&o.Socket, "socket", wire.Socket, "socket of pool-gpu")
	if err := f.Parse(args); err != nil {
		return exit.Usage
	}
	if f.NArg() > 0 || len(o.Need) == 0 && o.Host == 0 && len(o.Nodes) == 0 || o.Wait < 0 {
		f.Usage()
		return exit.Usage
	}
	return gate.Memory(ctx, o)
}

// gpu is the step after the readiness gate of an engine with GPUs.
func gpu(ctx context.Context, args []string, stderr io.Writer, logger *log.Logger) int {
	var env gate.Options
	o := gate.GPUOptions{Log: logger}
	f := flags(stderr)
	f.Func("devices", "UUIDs of the engine's GPUs", func(text string) error {
		o.Devices = strings.Split(text, ",")
		return nil
	})
	f.StringVar(&o.Engine, "engine", "", "kind of the engine")
	f.StringVar(&o.Proof, "proof", pool.ProofAll, "GPUs that the engine must hold memory of: all, any, or off")
	f.IntVar(&o.Layers.Model, "layers", engine.AllLayers, "layers that the pool asks to have on its GPUs")
	f.IntVar(&o.Layers.Draft, "draft-layers", engine.AllLayers, "the same of a draft model")
	f.BoolVar(&o.Whole, "whole", false, "refuse an engine that leaves more to the CPU")
	f.DurationVar(&o.Wait, "wait", 5*time.Second, "how long the engine may take to hold memory")
	f.StringVar(&o.Socket, "socket", wire.Socket, "socket of pool-gpu")
	if err := f.Parse(args); err != nil {
		return exit.Usage
	}
	if f.NArg() > 0 || o.Engine == "" || len(o.Devices) == 0 || slices.Contains(o.Devices, "") || o.Wait < 0 ||
		!slices.Contains(pool.Proofs(), o.Proof) {
		f.Usage()
		return exit.Usage
	}
	if err := env.FromEnvironment(); err != nil {
		logger.Println(err)
		return exit.Usage
	}
	o.MainPID, o.Invocation = env.MainPID, env.Invocation
	return gate.GPU(ctx, o)
}

// usage counts what is in directories of engines.
func usage(ctx context.Context, args []string, stdout, stderr io.Writer, logger *log.Logger) int {
	f := flags(stderr)
	if err := f.Parse(args); err != nil {
		return exit.Usage
	}
	if f.NArg() == 0 {
		f.Usage()
		return exit.Usage
	}
	for _, root := range f.Args() {
		err := disk.Walk(ctx, root, func(name string, u disk.Usage) error { return disk.Print(stdout, name, u) })
		if err != nil {
			logger.Println(err)
			return exit.Failed
		}
	}
	if _, err := fmt.Fprintln(stdout, disk.Done); err != nil {
		logger.Println(err)
		return exit.Failed
	}
	return exit.Ready
}

// execute becomes the engine.
func execute(args []string, stderr io.Writer, logger *log.Logger) int {
	f := flags(stderr)
	variable := f.String("key", "", "variable that gets the engine's key")
	var set []string
	f.Func("set", "variable and value that replace an inherited one, as NAME=value", func(text string) error {
		if name, _, found := strings.Cut(text, "="); !found || name == "" {
			return errors.New("want NAME=value")
		}
		set = append(set, text)
		return nil
	})
	if err := f.Parse(args); err != nil {
		return exit.Usage
	}
	if *variable == "" && set == nil || f.NArg() == 0 {
		f.Usage()
		return exit.Usage
	}
	return gate.Exec(*variable, set, f.Args(), logger)
}

// release ends the reservation that memory made.
func release(ctx context.Context, args []string, stderr io.Writer, logger *log.Logger) int {
	f := flags(stderr)
	socket := f.String("socket", wire.Socket, "socket of pool-gpu")
	if err := f.Parse(args); err != nil {
		return exit.Usage
	}
	if f.NArg() > 0 {
		f.Usage()
		return exit.Usage
	}
	return gate.Release(ctx, *socket, logger)
}

// seccompFile is the step before an engine that podman or docker runs.
func seccompFile(args []string, stderr io.Writer, logger *log.Logger) int {
	o, out := seccomp.Options{Arch: runtime.GOARCH}, ""
	f := flags(stderr)
	f.StringVar(&out, "out", "", "file to write")
	f.Func("allow", "more system calls", func(text string) error {
		o.Allow = strings.Split(text, ",")
		return nil
	})
	f.BoolVar(&o.Netlink, "netlink", false, "allow sockets of AF_NETLINK")
	if err := f.Parse(args); err != nil {
		return exit.Usage
	}
	if f.NArg() > 0 || out == "" || slices.Contains(o.Allow, "") {
		f.Usage()
		return exit.Usage
	}
	syscall.Umask(0o022) // not the unit's: docker's client, which is not root, reads it
	data, err := seccomp.Marshal(o)
	if err == nil {
		err = os.WriteFile(out, data, 0o644)
	}
	if err != nil {
		logger.Println("the engine's system call filter:", err)
		return exit.Failed
	}
	return exit.Ready
}

// places makes in an image what is mounted in it: what a path is on the host, folder or file.
func places(args []string, stderr io.Writer, logger *log.Logger) int {
	root, at := "", make(map[string]string) // by the place, what of the host is mounted there
	f := flags(stderr)
	f.StringVar(&root, "root", "", "the image's file system")
	f.Func("driver", "HOST:INSIDE, a path of the host that is mounted at another", func(text string) error {
		host, inside, found := strings.Cut(text, ":")
		if !found {
			return errors.New("no colon")
		}
		at[inside] = host
		return nil
	})
	if err := f.Parse(args); err != nil {
		return exit.Usage
	}
	if root == "" || f.NArg()+len(at) == 0 {
		f.Usage()
		return exit.Usage
	}
	syscall.Umask(0o022) // not the unit's: the user of the container passes them
	tree, err := image.OpenTree(root)
	if err != nil {
		logger.Println("the engine's image:", err)
		return exit.Failed
	}
	defer tree.Close()
	for _, path := range f.Args() {
		at[path] = path
	}
	for _, path := range slices.Sorted(maps.Keys(at)) {
		info, err := os.Stat(at[path])
		if err := tree.Place(path, err == nil && info.IsDir()); err != nil {
			logger.Println("a place for a mount in the engine's image:", err)
			return exit.Failed
		}
	}
	return exit.Ready
}
