//go:build machine

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// callLog collects what dbus-monitor prints.
type callLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *callLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// calls returns the method calls so far, one a line.
func (l *callLog) calls() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var calls []string
	for line := range strings.Lines(l.buf.String()) {
		if strings.HasPrefix(line, "method call") {
			calls = append(calls, strings.TrimSpace(line))
		}
	}
	return calls
}

// watchCalls follows every method call that the manager makes on the bus until the test ends.
func (s *site) watchCalls() *callLog {
	s.t.Helper()
	pid := fmt.Sprint(s.unit(host.ManagerUnit).MainPID)
	var names []string
	for line := range strings.Lines(s.must("busctl", "list", "--no-legend", "--no-pager")) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == pid && strings.HasPrefix(f[0], ":") {
			names = append(names, f[0])
		}
	}
	if len(names) == 0 {
		s.t.Fatal("the manager has no connection to the bus")
	}
	args := []string{"dbus-monitor", "--system"}
	for _, name := range names {
		args = append(args, "type='method_call',sender='"+name+"'")
	}
	log := &callLog{}
	p, err := s.M.Start(s.t.Context(), machine.Command{Args: args, Stdout: log, Stderr: log})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		// The test's context has ended, and the monitor with it.
		_, _ = p.Wait()
	})
	return log
}

// TestQuietMinute: while nothing happens, the manager asks PID 1 for nothing: no method call in a
// minute, though engines run and are probed. A change right after it is seen, so the watch was
// awake.
func TestQuietMinute(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	for _, id := range []string{"a", "b", "c"} {
		h.pool(id, stub().quick())
	}
	h.pool("waits", stub("--load", "1h").quick())
	h.reload()
	for _, id := range []string{"a", "b", "c"} {
		h.wait(id, isReady)
	}
	h.wait("waits", inState("starting"))

	log := h.watchCalls()
	h.eventually(func(context.Context) error {
		log.mu.Lock()
		defer log.mu.Unlock()
		if log.buf.Len() == 0 {
			return fmt.Errorf("dbus-monitor has not begun")
		}
		return nil
	})
	first := h.get("a").LastHeartbeat
	// What engines have on the disk is counted every five minutes, by a unit: in one of two minutes
	// at most.
	for minute := range 2 {
		before := len(log.calls())
		h.must2min("systemd-run", "--quiet", "--wait", fmt.Sprintf("--unit=test-minute-%d", minute), "sleep", "60")
		calls := log.calls()[before:]
		if len(calls) == 0 {
			break
		}
		if minute > 0 {
			t.Errorf("%d calls in a quiet minute:\n%s", len(calls), strings.Join(calls, "\n"))
		}
	}
	asked := len(log.calls())
	if last := h.get("a").LastHeartbeat; last-first < 50_000 {
		t.Errorf("the engine was not probed for the whole minute: heartbeats from %d to %d ms", first, last)
	}
	h.pool("d", stub().quick())
	h.reload()
	h.wait("d", isReady)
	h.eventually(func(context.Context) error {
		if len(log.calls()) == asked {
			return fmt.Errorf("dbus-monitor saw no call of a start: it has watched nothing")
		}
		return nil
	})
}

// must2min is must for a program that takes up to two minutes.
func (s *site) must2min(args ...string) {
	s.t.Helper()
	ctx, cancel := s.within(2 * time.Minute)
	defer cancel()
	if _, err := s.Host.Run(ctx, args...); err != nil {
		s.t.Fatal(err)
	}
}

// TestHungBus: while the message bus does not move, the API answers, engines are probed, and no
// engine is touched; when it runs again, it reports what has happened.
func TestHungBus(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub().quick())
	h.pool("b", stub().quick())
	h.reload()
	h.wait("a", isReady)
	b := h.wait("b", isReady)
	before, manager := h.engines(), h.unit(host.ManagerUnit)
	bus := fmt.Sprint(h.unit("dbus.service").MainPID)

	h.must("kill", "-STOP", bus)
	thaw := sync.OnceFunc(func() { h.must("kill", "-CONT", bus) })
	t.Cleanup(thaw)
	// A change that needs PID 1 hangs, and nothing else with it. systemctl would hang as well, so
	// the signal goes to the process.
	h.pool("later", stub().quick())
	h.must("kill", "-HUP", fmt.Sprint(manager.MainPID))
	h.control("a", "/stub/health?status=500")
	h.wait("a", failsWith("HEALTH_FAILED"))
	h.control("a", "/stub/health?status=200")
	h.wait("a", isReady)
	for range 20 {
		ctx, cancel := h.within(5 * time.Second) // a hung bus call would last for as long as the bus is stopped
		if _, err := h.Pools(ctx); err != nil {
			t.Errorf("the API while the bus hangs: %v", err)
		}
		cancel()
	}
	h.must("kill", "-KILL", fmt.Sprint(b.Replicas[0].PID))
	thaw()

	h.wait("later", isReady)
	h.wait("b", restarted(1))
	now := h.engines()
	if a := host.EngineUnit("a"); now[a] != before[a] {
		t.Errorf("%s was touched: %+v, it was %+v", a, now[a], before[a])
	}
	if u := h.unit(host.ManagerUnit); u.Process() != manager.Process() {
		t.Errorf("the manager was restarted: %+v, it was %+v", u, manager)
	}
}
