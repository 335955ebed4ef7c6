//go:build machine

package systemd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

func TestMachineSnapshotOf200Units(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	const count = 200
	begun := time.Now()
	var wg sync.WaitGroup
	for i := range count {
		unit := fmt.Sprintf("pmd-test@many%d.service", i)
		f.cleanup(unit)
		wg.Go(func() {
			job, err := f.StartTransient(timeout(t), unit, service("exec sleep 1000",
				Property{"LogExtraFields", [][]byte{fmt.Appendf(nil, "N=%d", i)}}))
			if err == nil {
				err = job.Wait(timeout(t))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d units started in %s", count, time.Since(begun))

	begun = time.Now()
	second := follow(t, Options{})
	t.Logf("%d units read in %s with %d calls", count, time.Since(begun), second.Calls())
	units := second.awaitSynced(1).Units
	if len(units) != count {
		t.Fatalf("the snapshot has %d units, want %d", len(units), count)
	}
	for _, st := range units {
		if st.Name != fmt.Sprintf("pmd-test@many%s.service", st.LogFields["N"]) || !st.Running() {
			t.Errorf("%s: %s, fields %v", st.Name, brief(st), st.LogFields)
		}
	}
}

// TestMachineConnectionLoss covers the ways in which the way to PID 1 breaks. Each time the unit
// lives on and is known again, and jobs work again.
func TestMachineConnectionLoss(t *testing.T) {
	enter(t)
	cases := map[string]func(t *testing.T){
		"bus_killed":          func(t *testing.T) { signalBus(t, syscall.SIGKILL) },
		"daemon_reexec":       func(t *testing.T) { run(t, "systemctl", "daemon-reexec") },
		"daemon_reexec_twice": func(t *testing.T) { run(t, "sh", "-c", "systemctl daemon-reexec; systemctl daemon-reexec") },
	}
	for name, breakIt := range cases {
		t.Run(name, func(t *testing.T) {
			f := follow(t, Options{})
			const unit = "pmd-test@survivor.service"
			f.start(unit, service("exec sleep 1000", Property{"LogExtraFields", [][]byte{[]byte("POOL_ID=p")}}))
			before := f.awaitUnit(unit, "running", func(s Status) bool {
				return s.ActiveState == "active" && s.JobID == 0
			})
			const slow = "pmd-test@slow.service"
			f.cleanup(slow)
			hanging, err := f.StartTransient(timeout(t), slow,
				append(service("sleep 1000"), Property{"Type", "oneshot"}))
			if err != nil {
				t.Fatal(err)
			}

			breakIt(t)

			f.await("lost", func(all []Update) bool {
				for _, u := range all {
					if u.Kind == Lost {
						return errors.Is(u.Err, ErrDisconnected)
					}
				}
				return false
			})
			if err := hanging.Wait(timeout(t)); !errors.Is(err, ErrDisconnected) {
				t.Errorf("Wait for a job over the loss = %v, want ErrDisconnected", err)
			}
			found := false
			for _, st := range f.awaitSynced(2).Units {
				if st.Name == unit {
					found = true
					if st.MainPID != before.MainPID || st.InvocationID != before.InvocationID ||
						st.LogFields["POOL_ID"] != "p" {
						t.Errorf("known again as %+v, was %+v", st, before)
					}
				}
			}
			if !found {
				t.Errorf("%s is not known again:\n%s", unit, describe(f.all()))
			}
			f.stopEventually(unit)
			f.awaitRemoved(unit)
		})
	}
}

// signalBus sends a signal to the main process of dbus-daemon.
func signalBus(t *testing.T, sig syscall.Signal) (pid int) {
	t.Helper()
	pid, err := strconv.Atoi(run(t, "systemctl", "show", "-P", "MainPID", "dbus.service"))
	if err != nil || pid <= 1 {
		t.Fatalf("PID of the bus: %d, %v", pid, err)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
	return pid
}

// stopBus stops dbus-daemon in its tracks, until the returned function or the end of the test.
func stopBus(t *testing.T) (resume func()) {
	t.Helper()
	pid := signalBus(t, syscall.SIGSTOP)
	resume = sync.OnceFunc(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	t.Cleanup(resume)
	return resume
}

// TestMachineDaemonReload: PID 1 frees and loads every unit again at a reload, and sends
// UnitRemoved and UnitNew of each, but nothing was removed.
func TestMachineDaemonReload(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	const unit = "pmd-test@reload.service"
	f.start(unit, service("exec sleep 1000", Property{"LogExtraFields", [][]byte{[]byte("POOL_ID=p")}}))
	before := f.awaitUnit(unit, "running", func(s Status) bool { return s.ActiveState == "active" && s.JobID == 0 })
	for range 5 {
		run(t, "systemctl", "daemon-reload")
	}
	if err := f.Kill(timeout(t), unit, "main", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.awaitUnit(unit, "killed", func(s Status) bool { return s.ActiveState == "failed" })
	for _, u := range f.all() {
		if u.Kind == Lost || u.Kind == Removed {
			t.Errorf("a reload was taken for a loss:\n%s", describe(f.all()))
			break
		}
	}
	for _, st := range statuses(f.all(), unit) {
		if st.ActiveState == "active" && st.JobID == 0 &&
			(st.MainPID != before.MainPID || st.LogFields["POOL_ID"] != "p") {
			t.Errorf("the unit was seen as %s with %v", brief(st), st.LogFields)
		}
	}
}

// stopEventually stops a unit although the connection may be lost once more meanwhile (a second
// reexec).
func (f *follower) stopEventually(unit string) {
	f.t.Helper()
	ctx := timeout(f.t)
	for n := 3; ; n++ {
		job, err := f.Stop(ctx, unit)
		if err == nil {
			err = job.Wait(ctx)
		}
		if err == nil || errors.Is(err, ErrNoSuchUnit) {
			return
		}
		if !errors.Is(err, ErrDisconnected) {
			f.t.Fatal(err)
		}
		f.awaitSynced(n)
	}
}

// forge is the body of a child process without privileges: it sends signals in PID 1's name, as
// broadcasts and directly to each receiver.
func forge(receivers []string, job dbus.ObjectPath, unit string) error {
	conn, err := dbus.Connect(busAddress(""))
	if err != nil {
		return err
	}
	defer conn.Close()
	changed := map[string]dbus.Variant{"ActiveState": dbus.MakeVariant("failed"),
		"MainPID": dbus.MakeVariant(uint32(1))}
	for _, to := range append(receivers, "") {
		for _, s := range []struct {
			path dbus.ObjectPath
			name string
			body []any
		}{
			{managerPath, managerInterface + ".JobRemoved", []any{uint32(1), job, unit, "done"}},
			{managerPath, managerInterface + ".UnitRemoved", []any{unit, unitPath(unit)}},
			{unitPath(unit), propsInterface + ".PropertiesChanged", []any{unitInterface, changed, []string{}}},
			{driverPath, driverInterface + ".NameOwnerChanged", []any{busName, "", conn.Names()[0]}},
		} {
			if err := emit(conn, to, s.path, s.name, s.body); err != nil {
				return err
			}
		}
	}
	// The bus handles one connection's messages in order: after this answer the signals are
	// delivered.
	return conn.BusObject().Call(driverInterface+".GetId", 0).Err
}

func TestMachineForgedSignalsAreIgnored(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	const unit, slow = "pmd-test@victim.service", "pmd-test@waiting.service"
	f.start(unit, service("exec sleep 1000"))
	before := f.awaitUnit(unit, "running", func(s Status) bool { return s.ActiveState == "active" && s.JobID == 0 })
	f.cleanup(slow)
	job, err := f.StartTransient(timeout(t), slow, append(service("sleep 1000"), Property{"Type", "oneshot"}))
	if err != nil {
		t.Fatal(err)
	}
	starting := f.awaitUnit(slow, "starting", func(s Status) bool { return s.JobID != 0 })

	// The control: a receiver that trusts everybody gets the forged signals, so they do reach
	// clients.
	trusting := rawBus(t)
	heard := make(chan *dbus.Signal, 100)
	trusting.Signal(heard)

	path := dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/job/%d", starting.JobID))
	runForger(t, []string{f.uniqueName(), trusting.Names()[0]}, path, unit)
	names := map[string]bool{}
	for len(names) < 4 {
		select {
		case s := <-heard:
			names[s.Name] = true
		case <-time.After(patience):
			t.Fatalf("the control received only %v", names)
		}
	}

	// Signals and answers come in one stream: after this answer the forged ones were handled.
	after, err := f.Unit(timeout(t), unit)
	if err != nil || after.MainPID != before.MainPID {
		t.Fatalf("Unit = %s, %v", brief(after), err)
	}
	if err := f.Kill(timeout(t), unit, "main", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.awaitUnit(unit, "killed for real", func(s Status) bool {
		return s.Result == "signal" && s.ActiveState == "failed"
	})
	for _, u := range f.all() {
		if u.Kind == Lost || u.Name == unit && (u.Kind == Removed || u.Unit.MainPID == 1) {
			t.Errorf("a forged signal was believed:\n%s", describe(f.all()))
		}
	}
	select {
	case <-job.done:
		t.Errorf("a forged JobRemoved was believed: Wait = %v", job.err)
	default:
	}
}

func TestMachineStoppedBusDelaysOnlyItsCallers(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	const unit = "pmd-test@hang.service"
	f.start(unit, service("exec sleep 1000"))
	resume := stopBus(t)

	// More calls, and larger ones, than any buffer takes: each caller gets its own context back.
	big := service("true", Property{"Environment", []string{fmt.Sprintf("A=%060000d", 1)}})
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var err error
			if i%3 == 0 {
				_, err = f.StartTransient(ctx, fmt.Sprintf("pmd-test@never%d.service", i), big)
			} else {
				_, err = f.Unit(ctx, unit)
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("call %d to a stopped bus = %v, want DeadlineExceeded", i, err)
			}
		})
	}
	wg.Wait()

	resume()
	if _, err := f.Unit(timeout(t), unit); err != nil {
		t.Errorf("after the bus went on: %v", err)
	}
	if err := f.Kill(timeout(t), unit, "main", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.awaitUnit(unit, "failed", func(s Status) bool { return s.ActiveState == "failed" })
}

func TestMachineRunEndsWhileTheBusIsStopped(t *testing.T) {
	enter(t)
	client := NewClient(Options{Pattern: testPattern})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	synced := make(chan struct{}, 1)
	go func() {
		done <- client.Run(ctx, func(u Update) {
			if u.Kind == Synced {
				synced <- struct{}{}
			}
		})
	}()
	<-synced
	stopBus(t)
	before := client.Calls()
	call := make(chan error, 1)
	go func() { _, err := client.Unit(context.Background(), "dbus.service"); call <- err }()
	for client.Calls() == before { // until the call is out
		time.Sleep(time.Millisecond)
	}
	cancel()
	for range 2 {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run = %v", err)
			}
		case err := <-call:
			if !errors.Is(err, ErrDisconnected) {
				t.Errorf("a call that was out when Run ended = %v, want ErrDisconnected", err)
			}
		case <-time.After(patience):
			t.Fatal("Run or a call hangs with the bus")
		}
	}
}

// TestMachineQuietMinute counts what the client sends while nothing happens: nothing.
func TestMachineQuietMinute(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	for i := range 20 {
		unit := fmt.Sprintf("pmd-test@quiet%d.service", i)
		f.start(unit, service("exec sleep 1000"))
		f.awaitUnit(unit, "running", func(s Status) bool { return s.ActiveState == "active" && s.JobID == 0 })
	}
	name := f.uniqueName()
	monitor := rawBus(t)
	sent := make(chan *dbus.Message, 1000)
	if err := monitor.BusObject().Call("org.freedesktop.DBus.Monitoring.BecomeMonitor", 0,
		[]string{"sender='" + name + "'"}, uint32(0)).Err; err != nil {
		t.Fatal(err)
	}
	monitor.Eavesdrop(sent)

	before := f.Calls()
	time.Sleep(*quietTime)
	if after := f.Calls(); after != before {
		t.Errorf("%d calls were counted in a quiet %s", after-before, *quietTime)
	}
	for len(sent) > 0 {
		if m := <-sent; m.Headers[dbus.FieldSender].Value() == name {
			t.Errorf("the bus saw a message of the client in a quiet %s: %v", *quietTime, m)
		}
	}
	// The control: what the client does send, counter and monitor do see.
	if _, err := f.Unit(timeout(t), "pmd-test@quiet0.service"); err != nil {
		t.Fatal(err)
	}
	counted := f.Calls() - before
	if counted < 2 { // the unit's path, and its properties
		t.Errorf("a Unit call was counted as %d", counted)
	}
	for seen := range counted {
		if !nextOf(sent, name, patience) {
			t.Fatalf("the monitor sees %d calls of %d that the client counts", seen, counted)
		}
	}
	if nextOf(sent, name, 200*time.Millisecond) {
		t.Errorf("the monitor sees more than %d calls", counted)
	}
}
