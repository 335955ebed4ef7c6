package supervise

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// manager is one supervisor in a world.
type manager struct {
	t      *testing.T
	w      *world
	s      *Supervisor
	reg    *registry.Registry
	stop   context.CancelFunc
	done   chan struct{}
	err    error // of Run, once done is closed
	status string
	// how often a good probe was said to change nothing since the last change, and of the loop: the
	// registry's version at that change
	spared    atomic.Int64
	checkedAt uint64
}

// start runs a manager in the world; a second one in the same world is a restarted manager.
func (w *world) manage(t *testing.T, d Desired, parts ...func(*Options)) *manager {
	m := &manager{t: t, w: w, reg: registry.New(), done: make(chan struct{})}
	o := Options{
		PID1: w, Stager: w, Preparer: w, Prober: checked{w, m}, Ports: &listPorts{by: make(map[pool.Replica]int)},
		PortFree: w.portFree,
		Registry: m.reg, Observer: noObserver{}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Clock: keep.ClockOf("this", func() (int64, time.Time) { return time.Now().UnixNano(), time.Now() }),
		Host:  render.Host{GatePath: "/usr/lib/pool-managerd/pool-gate"},
		Status: func(line string) {
			m.status = line
		}, Beat: func() { w.with(func() { w.beats++ }) }, BeatEvery: 10 * time.Second,
	}
	for _, part := range parts {
		part(&o)
	}
	m.s = New(o)
	ctx, cancel := context.WithCancel(t.Context())
	m.stop = cancel
	go func() {
		defer close(m.done)
		m.err = m.s.Run(ctx, d)
	}()
	t.Cleanup(m.kill)
	synctest.Wait()
	return m
}

// kill ends the manager as a crash would: nothing is reported to the engines.
func (m *manager) kill() {
	m.stop()
	<-m.done
}

func (m *manager) apply(d Desired) {
	m.t.Helper()
	if err := m.s.Apply(m.t.Context(), d); err != nil {
		m.t.Fatal(err)
	}
	synctest.Wait()
}

func (m *manager) pool(id string) registry.Pool {
	p, _ := m.reg.Pool(id)
	return p
}

func (m *manager) wantState(id string, state registry.State, ready bool) {
	m.t.Helper()
	synctest.Wait()
	p, ok := m.reg.Pool(id)
	if !ok || p.State != state || p.Ready != ready {
		m.t.Fatalf("pool %s: known=%t state=%s ready=%t last_error=%v, want %s ready=%t", id, ok, p.State, p.Ready,
			p.LastError, state, ready)
	}
}

func (m *manager) wantCode(id string, code registry.Code) {
	m.t.Helper()
	p := m.pool(id)
	if p.LastError == nil || p.LastError.Code != code {
		m.t.Fatalf("pool %s: last_error = %v, want %s", id, p.LastError, code)
	}
}

// llama is a pool of one CPU replica with every default that config fills in.
func llama(id string, changes ...func(*pool.Pool)) pool.Pool {
	p := pool.Pool{
		ID: id, Engine: engine.LlamaCpp, Model: pool.Model("file:/srv/models/" + id + ".gguf"), Replicas: 1,
		Devices:      [][]string{nil},
		Provisioning: pool.Provisioning{Mode: pool.ModeBinary},
		Health: pool.Health{Interval: 5 * time.Second, Timeout: 2 * time.Second, Failures: 3, Successes: 1,
			StartTimeout: time.Minute, Mode: pool.FailFast},
		Restart: pool.Restart{Initial: time.Second, Factor: 2, Max: time.Minute, ResetAfter: 10 * time.Minute,
			BreakerFailures: 5, BreakerWindow: 10 * time.Minute, BreakerTimeout: 5 * time.Minute},
		Drain: pool.Drain{Deadline: 30 * time.Second},
	}
	for _, c := range changes {
		c(&p)
	}
	return p
}

// besideOf is the unit that a reload starts beside unitOf.
func besideOf(id string) string { return pool.Replica{Pool: id, Side: 1}.Unit() }

func unitOf(id string) string { return pool.Replica{Pool: id}.Unit() }
