//go:build machine

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// together is how many scenarios run at once. Most of their time is waiting for PID 1's timers, so
// that this is more than the processors.
const together = "4"

// machines is the one piece of state that the tests of this package share: installed machines, each
// used by one test at a time, and used again by the next.
var machines *park

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if f := flag.Lookup("test.parallel"); f != nil {
		if err := f.Value.Set(together); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "pool-managerd-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	machines = &park{dir: dir, free: make(map[kind][]*host.Host), caps: make(map[kind]chan struct{})}
	defer machines.close()
	return m.Run()
}

// kind is what makes two machines interchangeable.
type kind struct {
	release machine.Release
	backend machine.Kind
	extra   string // packages of Debian beyond those that every machine has, with commas between them
	calls   string // system calls that a container permits beyond the usual ones, with commas between them
}

// park lends installed machines to tests.
type park struct {
	dir string

	build sync.Once
	parts host.Parts
	err   error // of build

	buildNewer sync.Once
	newerDeb   string // the package of a newer version
	newerErr   error  // of buildNewer

	mu   sync.Mutex
	free map[kind][]*host.Host
	caps map[kind]chan struct{} // how many of a kind may exist: their memory is the host's
}

// artifacts builds what every machine gets, once.
func (p *park) artifacts(ctx context.Context) error {
	p.build.Do(func() { p.parts, p.err = host.Build(ctx, p.dir) })
	return p.err
}

// newer returns the package of a newer version. It is built when a test first asks for it, beside
// the tests that run without it.
func (p *park) newer(ctx context.Context) (string, error) {
	p.buildNewer.Do(func() { p.newerDeb, p.newerErr = host.BuildNewer(ctx, p.dir) })
	return p.newerDeb, p.newerErr
}

func (p *park) cap(k kind) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.caps[k] == nil {
		n := 4
		if k.backend == machine.VM {
			n = 1
		}
		p.caps[k] = make(chan struct{}, n)
	}
	return p.caps[k]
}

// take returns a machine in the state after installation, booted if none is free.
func (p *park) take(ctx context.Context, k kind, log func(string)) (*host.Host, error) {
	if err := p.artifacts(ctx); err != nil {
		return nil, err
	}
	select {
	case p.cap(k) <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	if n := len(p.free[k]); n > 0 {
		h := p.free[k][n-1]
		p.free[k] = p.free[k][:n-1]
		p.mu.Unlock()
		return h, nil
	}
	p.mu.Unlock()
	cfg := machine.Config{Release: k.release, Backend: k.backend, Log: log}
	if k.extra != "" {
		cfg.Packages = strings.Split(k.extra, ",")
	}
	if k.calls != "" {
		cfg.Calls = strings.Split(k.calls, ",")
	}
	h, err := host.Boot(ctx, cfg, p.parts)
	if err != nil {
		<-p.cap(k)
		return nil, err
	}
	return h, nil
}

// put takes a machine back. One that a failed test used, or that cannot be brought back to its
// first state, is not used again.
func (p *park) put(ctx context.Context, k kind, h *host.Host, failed bool) error {
	defer func() { <-p.cap(k) }()
	if failed {
		return h.Close()
	}
	if err := h.Reset(ctx, host.Config); err != nil {
		return fmt.Errorf("after the test: %w", errors.Join(err, h.Close()))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free[k] = append(p.free[k], h)
	return nil
}

func (p *park) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range p.free {
		for _, h := range list {
			if err := h.Close(); err != nil {
				fmt.Fprintln(os.Stderr, "a machine left something behind:", err)
			}
		}
	}
}
