// Command agent runs in a virtual test machine as a service. It opens the virtio-serial port to the
// harness and runs there what the harness asks for. It owns the guest's end of the channel, and
// must not know the tests.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/test/machine/wire"
)

// moduleDir holds kernel modules, named so that their order is the order to load them in.
const moduleDir = "/usr/lib/pool-machine/modules"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

// run serves the port until it breaks.
func run() error {
	if err := loadModules(); err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	defer port.Close()
	a := &agent{out: wire.NewWriter(port), streams: map[uint32]stream{}}
	if err := a.out.Write(wire.Hello, 0, nil); err != nil {
		return err
	}
	in := bufio.NewReaderSize(port, 2*wire.MaxPayload)
	for {
		f, err := wire.Read(in)
		if err != nil {
			return err
		}
		a.take(f)
	}
}

// loadModules loads the drivers of the port, which Debian's kernel has as modules.
func loadModules() error {
	files, err := filepath.Glob(filepath.Join(moduleDir, "*.ko"))
	if err != nil {
		return err
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

// openPort waits for the port to appear and opens it.
func openPort() (*os.File, error) {
	for range 500 {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, file := range names {
			name, err := os.ReadFile(file)
			if err == nil && strings.TrimSpace(string(name)) == wire.Port {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(file)), os.O_RDWR, 0)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, fmt.Errorf("this machine has no virtio port %q", wire.Port)
}

// agent keeps the streams that are open.
type agent struct {
	out *wire.Writer

	mu      sync.Mutex
	streams map[uint32]stream
}

// stream is a program or a connection. Its methods do not block.
type stream interface {
	input(data []byte)
	inputEnd()
	kill()
}

// take carries out one frame of the harness.
func (a *agent) take(f wire.Frame) {
	if f.Type == wire.Open {
		a.open(f)
		return
	}
	a.mu.Lock()
	s := a.streams[f.Stream]
	a.mu.Unlock()
	if s == nil {
		return // it has ended, and the harness did not know yet
	}
	switch f.Type {
	case wire.Input:
		s.input(f.Payload)
	case wire.InputEnd:
		s.inputEnd()
	case wire.Kill:
		s.kill()
	}
}

// open starts what a request asks for.
func (a *agent) open(f wire.Frame) {
	var r wire.Request
	if err := json.Unmarshal(f.Payload, &r); err != nil {
		a.ended(f.Stream, wire.Exit{Code: -1, Error: err.Error()})
		return
	}
	if r.Network != "" {
		a.openConnection(f.Stream, r)
		return
	}
	a.openProgram(f.Stream, r)
}

func (a *agent) add(id uint32, s stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streams[id] = s
}

// ended closes a stream. The harness notices a lost frame by the port's end.
func (a *agent) ended(id uint32, e wire.Exit) {
	a.mu.Lock()
	delete(a.streams, id)
	a.mu.Unlock()
	_ = a.out.WriteJSON(wire.Ended, id, e)
}

// output is a writer that sends frames of one kind. It blocks while the channel is full, and with
// it the program.
type output struct {
	out  *wire.Writer
	kind wire.Type
	id   uint32
}

func (o output) Write(p []byte) (int, error) { return len(p), o.out.Write(o.kind, o.id, p) }
