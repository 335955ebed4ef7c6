package systemd

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// TestUnitComesAfterOlderUpdates: a caller has the answer of PID 1 when the consumer has what PID 1
// signalled before it, however slow the consumer is, and the positions show what is newer.
func TestUnitComesAfterOlderUpdates(t *testing.T) {
	enters := func(p *peer, sub string) {
		p.signal(fakeOwner, unitPath("e@a"), propsInterface, "PropertiesChanged", unitInterface,
			map[string]dbus.Variant{"SubState": dbus.MakeVariant(sub)}, []string{})
	}
	answered := make(chan struct{}) // the whole read
	b := startFakeBus(t, &fakeBus{serve: func(p *peer) {
		mine, reading := false, false
		for m := p.next(); m != nil; m = p.next() {
			switch {
			case member(m) == "GetUnit" && m.Body[0] == "e@a":
				mine, reading = true, true
				enters(p, "before")
				p.reply(m, fakeOwner, unitPath("e@a"))
			case member(m) == "GetUnit":
				enters(p, "gone")
				p.fail(m, "org.freedesktop.systemd1.NoSuchUnit")
			case mine && member(m) == "Get" && m.Body[1] == "Result": // the first of a read
				mine = false
				p.answer(t, m)
				enters(p, "during")
			default:
				p.answer(t, m)
				if reading && member(m) == "Get" && m.Body[1] == "LoadState" { // the last of a read
					reading = false
					close(answered)
				}
			}
		}
	}})
	c := NewClient(Options{Pattern: "e@*", Address: b.address})
	var mu sync.Mutex
	seen := make(map[string]Position)
	synced := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.Run(ctx, func(u Update) {
			if u.Kind == Synced {
				close(synced)
				return
			}
			<-answered
			time.Sleep(50 * time.Millisecond) // the consumer is slow
			mu.Lock()
			defer mu.Unlock()
			seen[u.Unit.SubState] = u.Position
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	<-synced

	st, err := c.Unit(t.Context(), "e@a")
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	before, during := seen["before"], seen["during"]
	mu.Unlock()
	if before == 0 || before >= st.Position {
		t.Errorf("the update before the answer is at %d, the answer at %d", before, st.Position)
	}
	if during <= st.Position {
		t.Errorf("the update after the first part of the answer is at %d, the answer at %d", during, st.Position)
	}

	st, err = c.Unit(t.Context(), "e@gone")
	mu.Lock()
	gone := seen["gone"]
	mu.Unlock()
	if !errors.Is(err, ErrNoSuchUnit) || gone == 0 || gone >= st.Position {
		t.Errorf("%v at %d, and the update before it at %d", err, st.Position, gone)
	}
}

// TestPositionsContinueOverAReconnection: what a former connection brought is older.
func TestPositionsContinueOverAReconnection(t *testing.T) {
	synced := make(chan struct{})
	_, updates := runClient(t, startFakeBus(t, &fakeBus{serve: func(p *peer) {
		for m := p.next(); m != nil; m = p.next() {
			p.answer(t, m)
			if p.number == 1 && member(m) == "Get" && m.Body[1] == "LoadState" { // the last of the first read
				select { // a connection that ended now could overtake its last answer
				case <-synced:
				case <-t.Context().Done():
				}
				return
			}
		}
	}}))
	last := Position(0)
	for i, kind := range []UpdateKind{Synced, Lost, Synced} {
		u := expect(t, updates, kind)
		if i == 0 {
			close(synced)
		}
		if u.Position < last || kind == Synced && u.Position == last {
			t.Errorf("%s is at %d, after %d", kind, u.Position, last)
		}
		last = u.Position
	}
}

// TestUnitEndsWithTheConnection: no caller waits for updates that cannot come.
func TestUnitEndsWithTheConnection(t *testing.T) {
	c, updates := runClient(t, startFakeBus(t, &fakeBus{serve: func(p *peer) {
		for m := p.next(); m != nil; m = p.next() {
			if member(m) == "GetUnit" {
				p.fail(m, "org.freedesktop.systemd1.NoSuchUnit")
				return
			}
			p.answer(t, m)
		}
	}}))
	expect(t, updates, Synced)
	if _, err := c.Unit(t.Context(), "e@a"); !errors.Is(err, ErrDisconnected) && !errors.Is(err, ErrNoSuchUnit) {
		t.Errorf("Unit = %v", err)
	}
	expect(t, updates, Lost)
}
