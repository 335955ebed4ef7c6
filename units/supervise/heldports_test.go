package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// ports are the sockets that the world's PID 1 holds.
type ports struct {
	held    map[pool.Port]bool
	once    map[int]bool // ports that were held before: nothing listens there now
	holdErr error        // what each attempt to hold a port ends with
}

func (p *ports) has(port int) bool {
	for held := range p.held {
		if held.Number == port {
			return true
		}
	}
	return false
}

// refuses reports whether a connection finds no listener, where PID 1 held one before.
func (p *ports) refuses(host string) bool {
	port, _ := strconv.Atoi(host[strings.LastIndexByte(host, ':')+1:])
	return p.once[port] && !p.has(port)
}

func (p *ports) sorted() []pool.Port {
	return slices.SortedFunc(maps.Keys(p.held), func(a, b pool.Port) int {
		return strings.Compare(a.Socket(), b.Socket())
	})
}

// stopped is a socket unit that was stopped by hand.
func (p *ports) stopped(port pool.Port) {
	delete(p.held, port)
	p.once = map[int]bool{port.Number: true}
}

func (w *world) HoldPort(_ context.Context, p *render.Port) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("hold %s", p.Socket.Name)
	switch {
	case w.holdErr != nil:
		return w.holdErr
	case w.held[p.Port]:
		return nil
	case w.portHeld[p.Number] || w.ports.has(p.Number):
		return &systemd.JobError{Unit: p.Socket.Name, Type: "start", Result: "failed"}
	}
	w.held[p.Port] = true
	return nil
}

func (w *world) HeldPorts(context.Context) ([]pool.Port, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ports.sorted(), nil
}

func (w *world) ReleasePort(_ context.Context, p pool.Port) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("release %s", p.Socket())
	delete(w.held, p)
	return nil
}

// wantHeld are the ports that PID 1 holds.
func (w *world) wantHeld(t *testing.T, want ...pool.Port) {
	t.Helper()
	if held, _ := w.HeldPorts(t.Context()); !slices.Equal(held, want) {
		t.Errorf("PID 1 holds %v, want %v; calls %v", held, want, w.calls)
	}
}

func alone(p *pool.Pool) { p.Sandbox.Network = pool.NetworkNone }

func forwards(o *Options) { o.Host.Forwarder = "/usr/lib/systemd/systemd-socket-proxyd" }

func portOf(id string, port int) pool.Port {
	return pool.Port{Replica: pool.Replica{Pool: id}, Number: port}
}

// TestPortsWithoutANetwork: PID 1 holds the port of an engine without a network from before its
// start until the pool is gone.
func TestPortsWithoutANetwork(t *testing.T) {
	ready := func(t *testing.T, w *world, changes ...func(*pool.Pool)) *manager {
		m := w.manage(t, pools(llama("a", append(changes, alone)...)), forwards)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		return m
	}
	scenario(t, "are_held_before_the_engine_starts", func(t *testing.T, w *world) {
		m := ready(t, w)
		w.wantHeld(t, portOf("a", 21000))
		hold := slices.Index(w.calls, "hold pool-port@a.r0.21000.socket")
		if start := slices.Index(w.calls, "start "+unitOf("a")); hold < 0 || start < hold {
			t.Errorf("calls %v", w.calls)
		}
		if got := m.pool("a").Replicas[0].Endpoint; got != endpoint {
			t.Errorf("endpoint %s", got)
		}
		gate := fmt.Sprint(w.props[unitOf("a")])
		if !strings.Contains(gate, "--unix /run/pool-engine/a.r0/engine.sock") {
			t.Errorf("the gate is not given the socket: %s", gate)
		}
	})
	scenario(t, "stay_held_when_the_engine_crashes_and_when_it_is_drained", func(t *testing.T, w *world) {
		m := ready(t, w, failing)
		threeFailures(w)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateFailed, false)
		w.wantHeld(t, portOf("a", 21000))
		m.drain(time.Second)
		time.Sleep(2 * time.Second)
		w.wantHeld(t, portOf("a", 21000))
	})
	scenario(t, "are_released_with_the_pool", func(t *testing.T, w *world) {
		m := ready(t, w)
		m.apply(pools(llama("b", alone)))
		time.Sleep(time.Second)
		if w.called("release pool-port@a.r0.21000.socket") != 1 {
			t.Errorf("calls %v", w.calls)
		}
		w.wantHeld(t, portOf("b", 21001))
	})
	scenario(t, "that_another_program_has_are_left_to_it", func(t *testing.T, w *world) {
		w.portHeld[21000] = true
		m := w.manage(t, pools(llama("a", alone)), forwards)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		w.wantHeld(t, portOf("a", 21001))
	})
	scenario(t, "that_cannot_be_held_are_a_failed_start", func(t *testing.T, w *world) {
		w.holdErr = errors.New("no such unit type")
		m := w.manage(t, pools(llama("a", alone)), forwards)
		m.wantCode("a", registry.CodeEngineStartFailed)
		if w.called("start") != 0 {
			t.Errorf("an engine was started without a port: %v", w.calls)
		}
	})
	scenario(t, "of_a_former_manager_are_kept_or_released", func(t *testing.T, w *world) {
		for _, p := range []pool.Port{portOf("a", 21000), portOf("a", 23000), portOf("gone", 22000)} {
			w.held[p] = true
		}
		ready(t, w)
		time.Sleep(time.Second)
		w.wantHeld(t, portOf("a", 21000))
	})
	scenario(t, "whose_unit_was_stopped_are_held_again", func(t *testing.T, w *world) {
		m := ready(t, w)
		w.with(func() { w.stopped(portOf("a", 21000)) })
		time.Sleep(11 * time.Second)
		w.wantHeld(t, portOf("a", 21000))
		m.wantState("a", registry.StateReady, true)
	})
	scenario(t, "of_an_engine_with_a_network_are_not_held", func(t *testing.T, w *world) {
		w.held[portOf("a", 21000)] = true // of the time before the pool's file was changed
		m := w.manage(t, pools(llama("a", func(p *pool.Pool) { p.Sandbox.Network = pool.NetworkLoopback })), forwards)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		w.wantHeld(t)
		w.illWith("refused")
		time.Sleep(11 * time.Second)
		if w.called("hold") != 0 {
			t.Errorf("calls %v", w.calls)
		}
	})
	scenario(t, "that_the_file_names_pass_from_one_side_to_the_other", func(t *testing.T, w *world) {
		fixed := func(p *pool.Pool) { p.Port = 9300 }
		m := ready(t, w, fixed)
		w.wantHeld(t, portOf("a", 9300))
		m.reload("b.gguf", time.Second)
		time.Sleep(2 * time.Second)
		other := pool.Replica{Pool: "a", Side: 1}
		w.passGate(other.Unit())
		time.Sleep(2 * time.Second)
		w.wantHeld(t, pool.Port{Replica: other, Number: 9300})
	})
	scenario(t, "need_a_forwarder_on_the_host", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", alone)))
		m.wantCode("a", registry.CodeProvisionFailed)
	})
}
