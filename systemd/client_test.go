package systemd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// runClient runs a client at a fake bus until the end of the test and returns its updates.
func runClient(t *testing.T, b *fakeBus) (*Client, <-chan Update) {
	t.Helper()
	c := NewClient(Options{Pattern: "e@*", Address: b.address})
	updates := make(chan Update, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, func(u Update) { updates <- u }) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run = %v, want nil", err)
			}
		case <-time.After(time.Minute):
			t.Error("Run does not return")
		}
	})
	return c, updates
}

// expect waits for an update of a kind and fails on any other.
func expect(t *testing.T, updates <-chan Update, kind UpdateKind) Update {
	t.Helper()
	select {
	case u := <-updates:
		if u.Kind != kind {
			t.Fatalf("got %s (%s, %v), want %s", u.Kind, brief(u.Unit), u.Err, kind)
		}
		return u
	case <-time.After(time.Minute):
		t.Fatalf("no %s came", kind)
	}
	return Update{}
}

func brief(st Status) string {
	return fmt.Sprintf("%s %s/%s result=%s pid=%d main=%d:%d pre=%d:%d post=%d:%d restarts=%d job=%d",
		st.Name, st.ActiveState, st.SubState, st.Result, st.MainPID, st.ExecMainCode, st.ExecMainStatus,
		st.PreCode, st.PreStatus, st.PostCode, st.PostStatus, st.NRestarts, st.JobID)
}

// serveAll answers everything.
func serveAll(t *testing.T) func(*peer) {
	return func(p *peer) {
		for m := p.next(); m != nil; m = p.next() {
			p.answer(t, m)
		}
	}
}

func TestClientSynchronises(t *testing.T) {
	c, updates := runClient(t, startFakeBus(t, &fakeBus{serve: serveAll(t)}))
	u := expect(t, updates, Synced)
	if len(u.Units) != 1 || u.Units[0].MainPID != 7 || u.Features.Version != "257" || !u.Features.Has("RestartSteps") {
		t.Errorf("synced with %d units, version %s", len(u.Units), u.Features.Version)
	}
	if c.Calls() < 20 {
		t.Errorf("%d calls counted", c.Calls())
	}
}

func TestClientWaitsForPID1ToAppear(t *testing.T) {
	_, updates := runClient(t, startFakeBus(t, &fakeBus{serve: func(p *peer) {
		for m := p.next(); m != nil; m = p.next() {
			if member(m) == "GetNameOwner" {
				p.fail(m, "org.freedesktop.DBus.Error.NameHasNoOwner")
				p.signal(driverName, driverPath, driverInterface, "NameOwnerChanged", busName, "", fakeOwner)
				continue
			}
			p.answer(t, m)
		}
	}}))
	expect(t, updates, Synced)
}

// TestClientComesBack drops the first connection in the middle of each step.
func TestClientComesBack(t *testing.T) {
	for _, step := range []string{"Hello", "AddMatch", "GetNameOwner", "Subscribe", "Introspect", "ListUnitsByPatterns",
		"Get"} {
		t.Run(step, func(t *testing.T) {
			_, updates := runClient(t, startFakeBus(t, &fakeBus{serve: func(p *peer) {
				for m := p.next(); m != nil; m = p.next() {
					if p.number == 1 && member(m) == step {
						return
					}
					p.answer(t, m)
				}
			}}))
			if u := expect(t, updates, Lost); !errors.Is(u.Err, ErrDisconnected) {
				t.Errorf("Lost with %v, want ErrDisconnected", u.Err)
			}
			expect(t, updates, Synced)
		})
	}
}

// TestClientDoesNotTakeAnErrorForAnAbsentUnit: a unit that cannot be read may be running.
func TestClientDoesNotTakeAnErrorForAnAbsentUnit(t *testing.T) {
	_, updates := runClient(t, startFakeBus(t, &fakeBus{serve: func(p *peer) {
		for m := p.next(); m != nil; m = p.next() {
			if p.number == 1 && member(m) == "Get" && m.Body[1] == "MainPID" {
				p.fail(m, "org.freedesktop.DBus.Error.AccessDenied")
				continue
			}
			p.answer(t, m)
		}
	}}))
	if u := expect(t, updates, Lost); !errors.Is(u.Err, ErrAccessDenied) {
		t.Errorf("Lost with %v, want ErrAccessDenied", u.Err)
	}
	if u := expect(t, updates, Synced); len(u.Units) != 1 {
		t.Errorf("%d units after the second attempt", len(u.Units))
	}
}

func TestClientSurvivesNonsense(t *testing.T) {
	nonsense := map[string]func(p *peer, m *dbus.Message){
		"ListUnitsByPatterns": func(p *peer, m *dbus.Message) { p.reply(m, fakeOwner, []string{"e@a"}) },
		"GetNameOwner":        func(p *peer, m *dbus.Message) { p.reply(m, driverName) },
		"Introspect":          func(p *peer, m *dbus.Message) { p.reply(m, fakeOwner, "<node/>") },
		"Get":                 func(p *peer, m *dbus.Message) { p.reply(m, fakeOwner, uint32(1), "x") },
	}
	for step, answer := range nonsense {
		t.Run(step, func(t *testing.T) {
			_, updates := runClient(t, startFakeBus(t, &fakeBus{serve: func(p *peer) {
				for m := p.next(); m != nil; m = p.next() {
					if p.number == 1 && member(m) == step {
						answer(p, m)
						continue
					}
					p.answer(t, m)
				}
			}}))
			expect(t, updates, Lost)
			expect(t, updates, Synced)
		})
	}
}

func TestClientIgnoresForgedSenders(t *testing.T) {
	died := []any{unitInterface, map[string]dbus.Variant{"ActiveState": dbus.MakeVariant("failed")}, []string{}}
	_, updates := runClient(t, startFakeBus(t, &fakeBus{serve: func(p *peer) {
		for m := p.next(); m != nil; m = p.next() {
			if member(m) == "ListUnitsByPatterns" && slices.Contains(m.Body[1].([]string), "e@a") {
				p.reply(m, fakeOwner, []listing{}) // the look-up after UnitRemoved
				continue
			}
			p.answer(t, m)
			if member(m) == "Get" && m.Body[1] == "LoadState" { // the last of the first read
				p.signal(":1.66", unitPath("e@a"), propsInterface, "PropertiesChanged", died...)
				p.signal(":1.66", managerPath, managerInterface, "UnitRemoved", "e@a", unitPath("e@a"))
				p.signal(":1.66", driverPath, driverInterface, "NameOwnerChanged", busName, fakeOwner, ":1.66")
				p.signal(fakeOwner, managerPath, managerInterface, "UnitRemoved", uint32(1)) // nonsense
				p.signal(fakeOwner, managerPath, managerInterface, "JobRemoved", "nonsense") // too
				p.signal(fakeOwner, "/", propsInterface, "PropertiesChanged", unitInterface) // too
				p.signal(fakeOwner, managerPath, managerInterface, "UnitRemoved", "e@a", unitPath("e@a"))
			}
		}
	}}))
	expect(t, updates, Synced)
	expect(t, updates, Removed) // the genuine signal is the first that is believed
}

func TestClientOwnerChange(t *testing.T) {
	c, updates := runClient(t, startFakeBus(t, &fakeBus{serve: func(p *peer) {
		for m := p.next(); m != nil; m = p.next() {
			if member(m) == "RestartUnit" { // PID 1 executes itself again instead of answering
				p.signal(driverName, driverPath, driverInterface, "NameOwnerChanged", busName, fakeOwner, "")
				p.fail(m, "org.freedesktop.DBus.Error.NoReply")
				p.signal(driverName, driverPath, driverInterface, "NameOwnerChanged", busName, "", fakeOwner)
				continue
			}
			p.answer(t, m)
		}
	}}))
	expect(t, updates, Synced)
	if _, err := c.Restart(t.Context(), "e@a"); !errors.Is(err, ErrDisconnected) {
		t.Errorf("Restart = %v, want ErrDisconnected", err)
	}
	expect(t, updates, Lost)
	expect(t, updates, Synced)
	if n := c.Lost(); n != 1 {
		t.Errorf("%d connections lost, want 1", n)
	}
}

func TestClientWithoutABus(t *testing.T) {
	b := &fakeBus{address: "unix:path=" + t.TempDir() + "/none"}
	c, updates := runClient(t, b)
	if u := expect(t, updates, Lost); !errors.Is(u.Err, ErrDisconnected) ||
		!strings.Contains(u.Err.Error(), b.address) {
		t.Errorf("Lost with %v, want ErrDisconnected and the address", u.Err)
	}
	if _, err := c.Stop(t.Context(), "e@a"); !errors.Is(err, ErrDisconnected) {
		t.Errorf("Stop = %v, want ErrDisconnected at once", err)
	}
}

// TestClientEndsWhileTheBusIsDeaf: nothing hangs on a bus that accepts and does not answer; the
// test's cleanup waits for Run.
func TestClientEndsWhileTheBusIsDeaf(t *testing.T) {
	b := startFakeBus(t, &fakeBus{deaf: true})
	c, _ := runClient(t, b)
	for c.Calls() == 0 { // until it connects
		time.Sleep(time.Millisecond)
	}
}

// TestCallsOfAHungPID1 sends more than the bus would take, to a PID 1 that answers no call: each
// caller gets its context's error, the bus is never asked too much, and what hangs ends with the
// connection.
func TestCallsOfAHungPID1(t *testing.T) {
	hang := make(chan struct{})
	var mu sync.Mutex
	unanswered := 0
	b := startFakeBus(t, &fakeBus{serve: func(p *peer) {
		for m := p.next(); m != nil; m = p.next() {
			if member(m) != "StopUnit" {
				p.answer(t, m)
				continue
			}
			mu.Lock()
			unanswered++
			mu.Unlock()
			go func() {
				<-hang
				p.conn.Close()
			}()
		}
	}})
	c, updates := runClient(t, b)
	expect(t, updates, Synced)
	var callers sync.WaitGroup
	for range 300 {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := c.Stop(ctx, "e@a"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Stop = %v, want DeadlineExceeded", err)
			}
		})
	}
	callers.Wait()
	mu.Lock()
	if unanswered == 0 || unanswered+window >= 128 {
		t.Errorf("the bus has %d unanswered calls; it allows 128 with the session's %d", unanswered, window)
	}
	mu.Unlock()

	waiting := make(chan error, 1)
	go func() { _, err := c.Stop(context.Background(), "e@a"); waiting <- err }()
	close(hang)
	if err := <-waiting; !errors.Is(err, ErrDisconnected) {
		t.Errorf("a call over the loss = %v, want ErrDisconnected", err)
	}
	expect(t, updates, Lost)
	expect(t, updates, Synced)
}

func TestRunRefusesABadPattern(t *testing.T) {
	for _, pattern := range []string{"", "[a"} {
		if err := NewClient(Options{Pattern: pattern}).Run(t.Context(), func(Update) {}); err == nil {
			t.Errorf("Run with pattern %q = nil", pattern)
		}
	}
}

func TestCallErrorIs(t *testing.T) {
	targets := []error{ErrNoSuchUnit, ErrUnitExists, ErrJobExists, ErrAccessDenied, ErrDisconnected, ErrNotReferenced}
	for name, want := range map[string]error{
		"org.freedesktop.systemd1.NoSuchUnit":                         ErrNoSuchUnit,
		"org.freedesktop.systemd1.UnitExists":                         ErrUnitExists,
		"org.freedesktop.systemd1.TransactionIsDestructive":           ErrJobExists,
		"org.freedesktop.DBus.Error.AccessDenied":                     ErrAccessDenied,
		"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": ErrAccessDenied,
		"org.freedesktop.DBus.Error.NoReply":                          ErrDisconnected,
		"org.freedesktop.DBus.Error.NameHasNoOwner":                   ErrDisconnected,
		"org.freedesktop.DBus.Error.ServiceUnknown":                   ErrDisconnected,
		"org.freedesktop.systemd1.NotReferenced":                      ErrNotReferenced,
		"org.freedesktop.DBus.Error.InvalidArgs":                      nil,
	} {
		// The text differs: it must not matter.
		err := callFailed("StopUnit", dbus.Error{Name: name, Body: []any{"No such unit, access denied, exists"}})
		for _, target := range targets {
			if got := errors.Is(err, target); got != (target == want) {
				t.Errorf("%s is %q: %v", name, target, got)
			}
		}
	}
	if err := callFailed("StopUnit", errors.New("EOF")); !errors.Is(err, ErrDisconnected) {
		t.Errorf("a broken connection is %v, want ErrDisconnected", err)
	}
	if err := callFailed("StopUnit", dbus.FormatError("bad")); errors.Is(err, ErrDisconnected) {
		t.Errorf("a message that was never sent is %v: not ambiguous", err)
	}
}

// TestUnitIsOfOneRun: a unit that another run of begins in the middle of a read is read again, and
// no property is asked for that this PID 1 does not have.
func TestUnitIsOfOneRun(t *testing.T) {
	restarts := []uint32{0, 1, 1, 1} // before and after the rest, in each read
	var mu sync.Mutex
	asked := make(map[any]int)
	count := func(property any) (before int) {
		mu.Lock()
		defer mu.Unlock()
		asked[property]++
		return asked[property] - 1
	}
	c, updates := runClient(t, startFakeBus(t, &fakeBus{serve: func(p *peer) {
		mine := false
		for m := p.next(); m != nil; m = p.next() {
			switch {
			case member(m) == "GetUnit":
				mine = true
				p.reply(m, fakeOwner, unitPath("e@a"))
			case mine && member(m) == "Get" && m.Body[1] == "NRestarts":
				p.reply(m, fakeOwner, dbus.MakeVariant(restarts[count("NRestarts")]))
			case mine && member(m) == "Get":
				count(m.Body[1])
				p.answer(t, m)
			default:
				p.answer(t, m)
			}
		}
	}}))
	expect(t, updates, Synced)
	st, err := c.Unit(t.Context(), "e@a")
	if err != nil || st.NRestarts != 1 || st.MainPID != 7 || !st.Running() {
		t.Errorf("Unit = %s, %v", brief(st), err)
	}
	mu.Lock()
	defer mu.Unlock()
	if asked["NRestarts"] != 4 || asked["LoadState"] != 2 || asked["RestartUSecNext"] != 2 ||
		asked["Description"] != 0 {
		t.Errorf("asked for %v", asked)
	}
}
