// Command fakegpu replaces the kernel driver of GPUs that a test machine does not have: it keeps
// their state, gives memory to engines until they end, and simulates faults. The fake
// libnvidia-ml.so.1 (test/fakenvml) reports its state to each program that loads it.
//
//	fakegpu serve [--dir DIR] [--gpus N] [--vram BYTES] [--mig N]
//	fakegpu ctl [--dir DIR] COMMAND [ARGUMENT…]
//
// Engines connect to DIR/take.sock and send one line, a JSON object of bytes by UUID; the answer is
// "ok" or "out of memory". The memory is released when the connection ends, as a process's memory
// is when it exits. The commands are in commands.go.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/pool-managerd/pool-managerd/test/fakenvml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fakegpu:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: fakegpu serve|ctl")
	}
	f := flag.NewFlagSet("fakegpu", flag.ContinueOnError)
	dir := f.String("dir", fakenvml.Dir, "directory of the state")
	gpus := f.Int("gpus", 2, "number of GPUs")
	vram := f.Uint64("vram", 24<<30, "memory of each, in bytes")
	mig := f.Int("mig", 0, "partitions of the last GPU")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "serve":
		state := fakenvml.Default(*gpus, *vram)
		if *mig > 0 && *gpus > 0 {
			state.GPUs[*gpus-1].Cut(*mig)
		}
		return serve(*dir, state)
	case "ctl":
		return ask(*dir, f.Args())
	}
	return fmt.Errorf("unknown command %q", args[0])
}

// serve serves the state until SIGTERM.
func serve(dir string, state fakenvml.State) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	d := newDriver(dir, state)
	if err := d.write(); err != nil {
		return err
	}
	take, err := listen(filepath.Join(dir, "take.sock"), 0o666)
	if err != nil {
		return err
	}
	ctl, err := listen(filepath.Join(dir, "ctl.sock"), 0o600)
	if err != nil {
		return err
	}
	var both sync.WaitGroup
	both.Go(func() { accept(ctx, take, d.take) })
	both.Go(func() { accept(ctx, ctl, d.command) })
	both.Wait()
	return os.Remove(filepath.Join(dir, fakenvml.StateFile)) // the driver is unloaded
}

func listen(path string, mode os.FileMode) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, mode)
}

// accept serves connections until ctx ends, and returns when the last of them is closed.
func accept(ctx context.Context, l *net.UnixListener, serve func(context.Context, *net.UnixConn)) {
	var open sync.WaitGroup
	defer open.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		open.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			serve(ctx, c)
		})
	}
}

// ask sends a command to the server and prints its answer.
func ask(dir string, args []string) error {
	c, err := net.Dial("unix", filepath.Join(dir, "ctl.sock"))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := json.NewEncoder(c).Encode(args); err != nil {
		return err
	}
	answer := struct{ Text, Error string }{}
	if err := json.NewDecoder(bufio.NewReader(c)).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return fmt.Errorf("%s", answer.Error)
	}
	fmt.Print(answer.Text)
	return nil
}
