//go:build machine

package systemd

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// The tests with the build tag "machine" run as root in a test machine whose PID 1 is systemd; see
// test/e2e/systemd_test.go, which passes -machine. Nothing in them is simulated.

var (
	inMachine = flag.Bool("machine", false, "the tests run inside a test machine")
	quietTime = flag.Duration("quiet", time.Minute, "how long TestMachineQuietMinute watches")
)

// patience is how long a test waits for something that must happen. It bounds a failing test only.
const patience = 60 * time.Second

const testPattern = "pmd-test@*.service"

// follower is a client with everything that it delivered.
type follower struct {
	*Client
	t *testing.T

	mu      sync.Mutex
	updates []Update
	changed chan struct{} // closed and replaced at each update
}

// follow starts a client of the test's own, waits until it is synchronised, and ends it with the
// test.
func follow(t *testing.T, o Options) *follower {
	t.Helper()
	if o.Pattern == "" {
		o.Pattern = testPattern
	}
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	f := &follower{Client: NewClient(o), t: t, changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, f.add) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run = %v after its context ended, want nil", err)
			}
		case <-time.After(patience):
			t.Error("Run did not return after its context ended")
		}
	})
	f.awaitSynced(1)
	return f
}

func (f *follower) add(u Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.updates = append(f.updates, u)
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *follower) all() []Update {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Update(nil), f.updates...)
}

// await waits until the updates satisfy ok.
func (f *follower) await(what string, ok func([]Update) bool) {
	f.t.Helper()
	deadline := time.After(patience)
	for {
		f.mu.Lock()
		good, changed := ok(f.updates), f.changed
		f.mu.Unlock()
		if good {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			f.t.Fatalf("never %s; updates:\n%s", what, describe(f.all()))
		}
	}
}

// awaitSynced waits for the nth Synced update and returns it.
func (f *follower) awaitSynced(n int) Update {
	f.t.Helper()
	var found Update
	f.await(fmt.Sprintf("synchronised %d times", n), func(all []Update) bool {
		count := 0
		for _, u := range all {
			if u.Kind == Synced {
				found, count = u, count+1
			}
		}
		return count >= n
	})
	return found
}

// everything returns all properties of a unit.
func (f *follower) everything(unit string) properties {
	f.t.Helper()
	l, err := f.current("GetAll")
	if err != nil {
		f.t.Fatal(err)
	}
	body, err := l.call(timeout(f.t), unitPath(unit), propsInterface, "GetAll", "")
	var values map[string]dbus.Variant
	if err := store(body, err, &values); err != nil {
		f.t.Fatal(err)
	}
	all := make(properties, len(values))
	for name, v := range values {
		all[name] = v.Value()
	}
	return all
}

// awaitUnit waits until a delivered status of the unit satisfies ok, and returns the first that
// does.
func (f *follower) awaitUnit(unit, what string, ok func(Status) bool) Status {
	f.t.Helper()
	var found Status
	f.await(unit+" "+what, func(all []Update) bool {
		for _, st := range statuses(all, unit) {
			if ok(st) {
				found = st
				return true
			}
		}
		return false
	})
	return found
}

func (f *follower) awaitRemoved(unit string) {
	f.t.Helper()
	f.await("removed "+unit, func(all []Update) bool {
		last := all[len(all)-1]
		for i := len(all) - 1; i >= 0; i-- {
			if last = all[i]; last.Name == unit {
				return last.Kind == Removed
			}
		}
		return false
	})
}

// statuses are all delivered statuses of a unit, in order.
func statuses(all []Update, unit string) []Status {
	var out []Status
	for _, u := range all {
		if u.Kind == Changed && u.Name == unit {
			out = append(out, u.Unit)
		}
		for _, st := range u.Units {
			if st.Name == unit {
				out = append(out, st)
			}
		}
	}
	return out
}

func describe(all []Update) string {
	var b strings.Builder
	for _, u := range all {
		fmt.Fprintf(&b, "  %s %s %s", u.Kind, u.Name, brief(u.Unit))
		if u.Kind == Synced {
			fmt.Fprintf(&b, " %d units", len(u.Units))
		}
		if u.Err != nil {
			fmt.Fprintf(&b, " %v", u.Err)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// timeout is the context of one call in a test.
func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// shell is an ExecStart of a shell script.
func shell(script string) Property {
	return Property{Name: "ExecStartEx", Value: []ExecCommand{{
		Path: "/bin/sh", Args: []string{"/bin/sh", "-c", script}, Flags: []string{"no-env-expand"},
	}}}
}

// service are the properties of a unit like an engine's: Type=exec, collected when it stopped well.
func service(script string, more ...Property) []Property {
	return append([]Property{{Name: "Type", Value: "exec"}, shell(script)}, more...)
}

// start starts a unit and waits for its job; the unit is gone after the test.
func (f *follower) start(unit string, props []Property) {
	f.t.Helper()
	f.cleanup(unit)
	job, err := f.StartTransient(timeout(f.t), unit, props)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := job.Wait(timeout(f.t)); err != nil {
		f.t.Fatal(err)
	}
}

// cleanup removes a unit after the test, in any state of the unit and the bus.
func (f *follower) cleanup(unit string) {
	f.t.Cleanup(func() {
		_ = exec.Command("systemctl", "stop", unit).Run()
		_ = exec.Command("systemctl", "reset-failed", unit).Run()
	})
}

// run runs a command of the machine and returns its output.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// rawBus is a second connection that knows nothing of the package under test.
func rawBus(t *testing.T) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect(busAddress(""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// nextOf waits for the next message of a sender.
func nextOf(sent <-chan *dbus.Message, name string, within time.Duration) bool {
	late := time.After(within)
	for {
		select {
		case m := <-sent:
			if m.Headers[dbus.FieldSender].Value() == name {
				return true
			}
		case <-late:
			return false
		}
	}
}

// uniqueName is the client's name on the bus.
func (f *follower) uniqueName() string {
	f.t.Helper()
	l, err := f.current("test")
	if err != nil {
		f.t.Fatal(err)
	}
	return l.conn.Names()[0]
}

// enter skips a test that is not run inside of a machine.
func enter(t *testing.T) {
	t.Helper()
	if !*inMachine {
		t.Skip("runs inside a test machine: go test -tags machine ./test/e2e -run TestSystemd")
	}
}
