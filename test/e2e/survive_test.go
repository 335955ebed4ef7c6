//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestEnginesOutliveTheManager: nothing that happens to the manager, the message bus or PID 1's own
// process touches an engine, and the manager's first answer afterwards is right.
func TestEnginesOutliveTheManager(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.pool("real", llama().quick())
	h.pool("stub", stub().quick())
	h.pool("scarred", stub().quick())
	h.reload()
	for _, id := range []string{"real", "stub", "scarred"} {
		h.wait(id, isReady)
	}
	// One engine has a restart behind it, so that a counter that falls back to zero is seen.
	h.control("scarred", "/stub/crash")
	h.wait("scarred", restarted(1))

	restarts := 1
	for _, c := range []struct {
		name string
		do   func(h *site)
		// again is a process that must be another one afterwards: the test's own proof that
		// something happened.
		again string
	}{
		{"manager_killed", func(h *site) { h.must("systemctl", "kill", "--kill-whom=main", "--signal=KILL", host.ManagerUnit) }, host.ManagerUnit},
		{"manager_restarted", func(h *site) { h.must("systemctl", "restart", host.ManagerUnit) }, host.ManagerUnit},
		{"package_upgraded", func(h *site) { h.upgrade() }, host.ManagerUnit},
		{"bus_restarted", func(h *site) { h.must("systemctl", "restart", "dbus.service") }, "dbus.service"},
		{"bus_killed", func(h *site) {
			h.must("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "dbus.service")
			h.must("systemctl", "start", "dbus.service")
		}, "dbus.service"},
		{"daemon_reload", func(h *site) { h.must("systemctl", "daemon-reload") }, ""},
		{"daemon_reexec", func(h *site) { h.must("systemctl", "daemon-reexec") }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			before := h.engines()
			if len(before) != 3 {
				t.Fatalf("three engines should run: %v", before)
			}
			var former host.Unit
			if c.again != "" {
				former = h.unit(c.again)
			}
			c.do(h)
			if c.again != "" {
				h.eventually(func(ctx context.Context) error {
					u, err := h.Unit(ctx, c.again)
					if err == nil && (u.MainPID == 0 || u.MainPID == former.MainPID) {
						err = fmt.Errorf("%s has not come back: %+v, it was %+v", c.again, u, former)
					}
					return err
				})
			}
			h.firstAnswerIs(before)
			h.untouched(before)
			// The manager receives later changes.
			restarts++
			h.control("scarred", "/stub/crash")
			h.wait("scarred", restarted(restarts))
		})
	}
}

// firstAnswerIs asks the API once, over a connection that may have waited in the socket, and fails
// the test unless the answer shows each engine ready, as PID 1 has it.
func (s *site) firstAnswerIs(engines map[string]host.Process) {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	list, err := s.Pools(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	shown := make(map[string]host.Process)
	for _, p := range list.Pools {
		for _, r := range p.Replicas {
			if p.Ready && r.Ready {
				shown[r.Unit] = host.Process{PID: r.PID, Invocation: r.InvocationID, Restarts: r.RestartCount}
			}
		}
	}
	for unit, want := range engines {
		if shown[unit] != want {
			s.t.Errorf("%s is %+v; the first answer has %+v in %v", unit, want, shown[unit], list.Pools)
		}
	}
}

// upgrade installs the same source as a package of a newer version.
func (s *site) upgrade() {
	s.t.Helper()
	newer, err := machines.newer(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := s.within(patience * 2)
	defer cancel()
	if err := s.Upgrade(ctx, newer); err != nil {
		s.t.Fatal(err)
	}
}

// TestPID1RestartsEnginesWithoutTheManager: a crash while no manager runs is handled by PID 1
// alone, and the manager reports it when it is back.
func TestPID1RestartsEnginesWithoutTheManager(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub("--load", "500ms").quick())
	h.reload()
	first := h.wait("a", isReady)
	h.must("systemctl", "stop", "pool-managerd.socket", host.ManagerUnit)
	h.must("kill", "-KILL", fmt.Sprint(first.Replicas[0].PID))
	h.eventually(func(ctx context.Context) error {
		u, err := h.Unit(ctx, host.EngineUnit("a"))
		if err == nil && (u.NRestarts != 1 || u.ActiveState != "active") {
			err = fmt.Errorf("it is not back: %+v", u)
		}
		return err
	})
	if u := h.unit(host.ManagerUnit); u.MainPID != 0 {
		t.Fatalf("the manager runs: %+v", u)
	}
	before := h.engines()
	h.must("systemctl", "start", "pool-managerd.socket", host.ManagerUnit)
	h.wait("a", restarted(1))
	h.untouched(before)
}

// TestOrphansDrainThenStop: an engine whose pool file went while the manager was down is drained,
// so that its request ends well, and then stopped; the API and the log report it.
func TestOrphansDrainThenStop(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("kept", stub().quick())
	h.pool("orphan", stub().with("slots = 2").quick())
	h.reload()
	kept := h.wait("kept", isReady)
	endpoint := h.wait("orphan", isReady).Replicas[0].Endpoint
	before := map[string]host.Process{host.EngineUnit("kept"): h.engine("kept")}

	h.must("systemctl", "stop", "pool-managerd.socket", host.ManagerUnit)
	h.removePool("orphan")
	busy := make(chan error, 1)
	go func() {
		ctx, cancel := h.within()
		defer cancel()
		a, err := h.AtEndpoint(ctx, endpoint, "POST", "/v1/completions?delay=5s", nil)
		if err == nil && a.Status != 200 {
			err = fmt.Errorf("%d %s", a.Status, a.Body)
		}
		busy <- err
	}()
	h.eventually(func(ctx context.Context) error {
		a, err := h.AtEndpoint(ctx, endpoint, "GET", "/slots", nil)
		if err == nil && !containsTrue(a.Body) {
			err = fmt.Errorf("no slot is busy: %s", a.Body)
		}
		return err
	})
	h.must("systemctl", "start", "pool-managerd.socket", host.ManagerUnit)

	h.wait("orphan", inState("draining"))
	select {
	case err := <-busy:
		t.Fatalf("the request ended before the drain was seen: %v", err)
	default:
	}
	if err := <-busy; err != nil {
		t.Errorf("the request that was under way: %v", err)
	}
	h.waitGone("orphan")
	if out := h.must("journalctl", "--no-pager", "-o", "cat", "-u", host.ManagerUnit, "POOL_ID=orphan"); out == "" {
		t.Error("the log does not mention the orphan")
	}
	h.untouched(before)
	h.wait("kept", isReady, condition{"the same process", func(p host.Pool) bool {
		return p.Replicas[0].PID == kept.Replicas[0].PID
	}})
}

// containsTrue reports whether a slot is busy in the answer of /slots.
func containsTrue(body []byte) bool { return strings.Contains(string(body), "true") }
