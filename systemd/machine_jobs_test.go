//go:build machine

package systemd

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMachineLifecycle(t *testing.T) {
	enter(t)
	f := follow(t, Options{Keep: []string{"Description"}})
	const unit = `pmd-test@a\x2db.r0.service`

	f.start(unit, service("exec sleep 1000",
		Property{"Description", "a test's"},
		Property{"LogExtraFields", [][]byte{[]byte("POOL_ID=a-b"), []byte("ENDPOINT=http://x/?a=b")}}))
	st := f.awaitUnit(unit, "running", func(s Status) bool {
		return s.ActiveState == "active" && s.SubState == "running" && s.ControlGroup != "" && s.JobID == 0
	})
	if !st.Running() || len(st.InvocationID) != 32 || st.ActiveEnter.IsZero() {
		t.Errorf("status of a running unit: %+v", st)
	}
	if st.LogFields["POOL_ID"] != "a-b" || st.LogFields["ENDPOINT"] != "http://x/?a=b" {
		t.Errorf("log fields %v", st.LogFields)
	}
	if st.Properties["Description"] != "a test's" || len(st.Properties) != 1 {
		t.Errorf("kept properties %v", st.Properties)
	}
	full, err := f.Unit(timeout(t), unit)
	if err != nil {
		t.Fatal(err)
	}
	if full.MainPID != st.MainPID || full.InvocationID != st.InvocationID || full.LogFields["POOL_ID"] != "a-b" {
		t.Errorf("Unit = %s, log fields %v", brief(full), full.LogFields)
	}
	if kind := f.everything(unit)["Type"]; kind != "exec" {
		t.Errorf("type %v", kind)
	}

	job, err := f.Stop(timeout(t), unit)
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Wait(timeout(t)); err != nil {
		t.Error(err)
	}
	f.awaitRemoved(unit)
	if _, err := f.Unit(timeout(t), unit); !errors.Is(err, ErrNoSuchUnit) {
		t.Errorf("Unit of a removed unit = %v, want ErrNoSuchUnit", err)
	}
	if _, err := f.Stop(timeout(t), unit); !errors.Is(err, ErrNoSuchUnit) {
		t.Errorf("Stop of a removed unit = %v, want ErrNoSuchUnit", err)
	}
}

func TestMachineFailedStart(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	const unit = "pmd-test@failing.service"
	f.cleanup(unit)
	job, err := f.StartTransient(timeout(t), unit, append(service("exit 7"), Property{"Type", "oneshot"}))
	if err != nil {
		t.Fatal(err)
	}
	var failed *JobError
	if err := job.Wait(timeout(t)); !errors.As(err, &failed) || *failed != (JobError{unit, "start", "failed"}) {
		t.Errorf("Wait = %v, want a JobError with failed", err)
	}
	f.awaitUnit(unit, "failed with exit status 7", func(s Status) bool {
		return s.ActiveState == "failed" && s.Result == "exit-code" && s.ExecMainCode == 1 && s.ExecMainStatus == 7
	})
}

func TestMachineFailedGateTellsItsStatus(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	const unit = "pmd-test@gate.service"
	f.cleanup(unit)
	job, err := f.StartTransient(timeout(t), unit, service("exec sleep 1000", Property{"ExecStartPostEx", []ExecCommand{
		{Path: "/bin/sh", Args: []string{"/bin/sh", "-c", "exit 4"}, Flags: []string{"privileged"}},
	}}))
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Wait(timeout(t)); err == nil {
		t.Error("the job of a unit whose gate fails was done")
	}
	f.awaitUnit(unit, "failed with the gate's status 4", func(s Status) bool {
		return s.ActiveState == "failed" && s.PostCode == 1 && s.PostStatus == 4
	})
}

// TestMachineFailedPreStartTellsItsStatus: of a start that a command before the main process
// refuses, by the caller or by a restart of PID 1's own.
func TestMachineFailedPreStartTellsItsStatus(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	const unit, refuse = "pmd-test@pre.service", "/run/pmd-refuse"
	f.cleanup(unit)
	t.Cleanup(func() { os.Remove(refuse) })
	if err := os.WriteFile(refuse, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	props := service("exec sleep 1000", Property{"Restart", "on-failure"}, Property{"RestartUSec", uint64(300_000)},
		Property{"StartLimitIntervalUSec", uint64(0)},
		Property{"ExecStartPreEx", []ExecCommand{
			{Path: "/bin/true", Args: []string{"/bin/true"}},
			{Path: "/bin/sh", Args: []string{"/bin/sh", "-c", "test -e " + refuse + " || exit 0; exit 6"}, Flags: []string{"privileged", "no-env-expand"}},
		}})
	job, err := f.StartTransient(timeout(t), unit, props)
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Wait(timeout(t)); err == nil {
		t.Error("the job of a unit whose first command fails was done")
	}
	waits := func(s Status) bool {
		return strings.HasPrefix(s.SubState, "auto-restart") && s.PreCode == 1 && s.PreStatus == 6
	}
	f.awaitUnit(unit, "waiting with status 6, no main process having run", func(s Status) bool {
		return waits(s) && s.Result == "exit-code" && s.ExecMainCode == 0 && s.PostCode == 0
	})
	if err := os.Remove(refuse); err != nil {
		t.Fatal(err)
	}
	st := f.awaitUnit(unit, "running", func(s Status) bool { return s.ActiveState == "active" && s.MainPID > 0 })
	if st.PreStatus != 0 {
		t.Errorf("a successful start reports the former refusal: %s", brief(st))
	}
	if err := os.WriteFile(refuse, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	restarts := st.NRestarts
	if err := f.Kill(timeout(t), unit, "main", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	st = f.awaitUnit(unit, "refused at PID 1's own restart", func(s Status) bool {
		return waits(s) && s.NRestarts > restarts+1
	})
	if st.ExecMainCode != 0 || !st.MainExited.IsZero() {
		t.Errorf("a refused start reports how a former main process ended: %s", brief(st))
	}
}

func TestMachineCrashAndRestart(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	const unit = "pmd-test@crash.service"
	f.start(unit, service("exec sleep 1000",
		Property{"Restart", "on-failure"}, Property{"RestartUSec", uint64(300_000)}))
	first := f.awaitUnit(unit, "running", Status.Running)
	if first.MainStarted.IsZero() || !first.MainExited.IsZero() {
		t.Errorf("a running main process started at %s and ended at %s", first.MainStarted, first.MainExited)
	}

	if err := f.Kill(timeout(t), unit, "main", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waiting := f.awaitUnit(unit, "waiting for its restart", func(s Status) bool { return s.SubState == "auto-restart" })
	if !waiting.MainStarted.Equal(first.MainStarted) || !waiting.MainExited.After(first.MainStarted) ||
		waiting.MainExited.After(time.Now()) {
		t.Errorf("the process that started at %s is reported to have run from %s to %s", first.MainStarted,
			waiting.MainStarted, waiting.MainExited)
	}
	if waiting.Result != "signal" || waiting.ExecMainCode != 2 || waiting.ExecMainStatus != 9 {
		t.Errorf("while it waits: %s", brief(waiting))
	}
	second := f.awaitUnit(unit, "running again", func(s Status) bool { return s.Running() && s.NRestarts == 1 })
	if !second.MainStarted.After(waiting.MainExited) || !second.MainExited.IsZero() {
		t.Errorf("the second process started at %s and ended at %s", second.MainStarted, second.MainExited)
	}
	if second.MainPID == first.MainPID || second.InvocationID == first.InvocationID {
		t.Errorf("restarted unit has PID %d and invocation %s of the first", second.MainPID, second.InvocationID)
	}
	if f.awaitSynced(1).Features.Has("RestartUSecNext") {
		f.awaitUnit(unit, "with the next delay read", func(s Status) bool { return s.RestartUSecNext == 300_000 })
	}

	// PID 1 signals nothing here; the update comes from our own reading.
	if err := f.ResetFailed(timeout(t), unit); err != nil {
		t.Fatal(err)
	}
	f.await("NRestarts back to 0", func(all []Update) bool {
		list := statuses(all, unit)
		last := list[len(list)-1]
		return last.NRestarts == 0 && last.Running()
	})

	// One that an administrator has frozen is restarted too.
	third := f.asked(unit, func(s Status) bool { return s.Running() && s.JobID == 0 })
	f.freeze(unit)
	if err := f.Kill(timeout(t), unit, "main", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.asked(unit, func(s Status) bool { return s.Running() && s.JobID == 0 && s.MainPID != third.MainPID })
	f.freeze(unit)
	job, err := f.Stop(timeout(t), unit)
	if err == nil {
		err = job.Wait(timeout(t))
	}
	if errors.Is(err, ErrFrozen) {
		if err = f.Thaw(timeout(t), unit); err == nil {
			if job, err = f.Stop(timeout(t), unit); err == nil {
				err = job.Wait(timeout(t))
			}
		}
	}
	if err != nil {
		t.Errorf("a frozen unit was not stopped: %v", err)
	}
}

// asked asks for a unit's status until it is as wanted.
func (f *follower) asked(unit string, want func(Status) bool) Status {
	f.t.Helper()
	ctx := timeout(f.t)
	for {
		st, err := f.Unit(ctx, unit)
		if err != nil {
			f.t.Fatal(err)
		}
		if want(st) {
			return st
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// freeze freezes a unit, as soon as its job has ended.
func (f *follower) freeze(unit string) {
	f.t.Helper()
	ctx := timeout(f.t)
	for {
		_, err := f.manager(ctx, "FreezeUnit", unit)
		if err == nil {
			return
		}
		var busy *CallError
		if !errors.As(err, &busy) || busy.Name != "org.freedesktop.systemd1.UnitBusy" {
			f.t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestMachineWhoEndedARun: an end by itself and a stop look alike in Result and in the exit status;
// the order of times distinguishes them.
func TestMachineWhoEndedARun(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	ended := func(s Status) bool { return s.ActiveState == "inactive" && s.ExecMainCode != 0 && s.JobID == 0 }
	keep := Property{"AddRef", true}

	f.start("pmd-test@itself.service", service("sleep 0.5; exit 0", keep))
	st := f.awaitUnit("pmd-test@itself.service", "ended", ended)
	if !st.EndedFirst || !st.WasActive || st.MainRan < 400*time.Millisecond || st.MainRan > patience {
		t.Errorf("a process that ended by itself after half a second: ended first %t, was active %t, ran %s",
			st.EndedFirst, st.WasActive, st.MainRan)
	}

	const stopped = "pmd-test@stopped.service"
	f.start(stopped, service("trap 'exit 0' TERM; while :; do sleep 0.1; done", keep))
	f.awaitUnit(stopped, "running", Status.Running)
	job, err := f.Stop(timeout(t), stopped)
	if err == nil {
		err = job.Wait(timeout(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	st = f.awaitUnit(stopped, "ended", ended)
	if st.EndedFirst || !st.WasActive || st.MainRan == 0 || st.Result != "success" {
		t.Errorf("a process that was stopped: ended first %t, was active %t, ran %s, result %s", st.EndedFirst,
			st.WasActive, st.MainRan, st.Result)
	}
}

func TestMachineUpdatesComeInOrder(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	const unit = "pmd-test@order.service"
	f.start(unit, service("exec sleep 1000",
		Property{"Restart", "on-failure"}, Property{"RestartUSec", uint64(50_000)},
		Property{"StartLimitBurst", uint32(100)}))
	for n := 1; n <= 10; n++ {
		if err := f.Kill(timeout(t), unit, "main", syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		f.awaitUnit(unit, "restarted", func(s Status) bool { return s.NRestarts == n && s.ActiveState == "active" })
	}
	job, err := f.Stop(timeout(t), unit)
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Wait(timeout(t)); err != nil {
		t.Error(err)
	}
	f.awaitRemoved(unit)

	list := statuses(f.all(), unit)
	for i := 1; i < len(list); i++ {
		if list[i].NRestarts < list[i-1].NRestarts || list[i].StateChange.Before(list[i-1].StateChange) {
			t.Errorf("update %d went back in time:\n%s\n%s", i, brief(list[i-1]), brief(list[i]))
		}
	}
}

func TestMachineUnitExists(t *testing.T) {
	enter(t)
	f := follow(t, Options{})

	t.Run("failed_unit_is_replaced", func(t *testing.T) {
		const unit = "pmd-test@again.service"
		f.cleanup(unit)
		for _, referenced := range []bool{false, true} {
			job, err := f.StartTransient(timeout(t), unit,
				append(service("exit 1"), Property{"Type", "oneshot"}, Property{"AddRef", referenced}))
			if err != nil {
				t.Fatal(err)
			}
			if err := job.Wait(timeout(t)); err == nil {
				t.Fatal("a failing unit started")
			}
		}
		f.start(unit, service("exec sleep 1000"))
		f.awaitUnit(unit, "running", Status.Running)
	})
	t.Run("running_unit_is_left_alone", func(t *testing.T) {
		const unit = "pmd-test@running.service"
		f.start(unit, service("exec sleep 1000"))
		before := f.awaitUnit(unit, "running", Status.Running)
		if _, err := f.StartTransient(timeout(t), unit, service("exec sleep 1")); !errors.Is(err, ErrUnitExists) {
			t.Errorf("StartTransient = %v, want ErrUnitExists", err)
		}
		if after, err := f.Unit(timeout(t), unit); err != nil || after.InvocationID != before.InvocationID {
			t.Errorf("Unit = %s, %v", brief(after), err)
		}
	})
	t.Run("bad_property_makes_nothing", func(t *testing.T) {
		const unit = "pmd-test@bad.service"
		_, err := f.StartTransient(timeout(t), unit, service("true", Property{"NoSuchThing", "x"}))
		var refused *CallError
		if !errors.As(err, &refused) {
			t.Errorf("StartTransient = %v, want a CallError", err)
		}
		if _, err := f.Unit(timeout(t), unit); !errors.Is(err, ErrNoSuchUnit) {
			t.Errorf("Unit = %v, want ErrNoSuchUnit", err)
		}
	})
}

func TestMachineRunCapture(t *testing.T) {
	enter(t)
	f := follow(t, Options{Keep: []string{"TimeoutStartUSec"}})
	capture := func(ctx context.Context, unit, script string, limit int) ([]byte, Status, error) {
		f.cleanup(unit)
		return f.RunCapture(ctx, unit, []Property{shell(script), {"DynamicUser", true}}, limit)
	}
	// PID 1 collects units between other work.
	gone := func(t *testing.T, unit string) {
		t.Helper()
		out := "?"
		for deadline := time.Now().Add(patience); out != "" &&
			time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			out = run(t, "systemctl", "list-units", "--all", "--plain", "--no-legend", unit)
		}
		if out != "" {
			t.Errorf("the unit is still loaded: %s", out)
		}
	}

	t.Run("both_streams_and_the_exit_status", func(t *testing.T) {
		const unit = "pmd-probe-1.service"
		out, st, err := capture(timeout(t), unit, "echo out; echo err >&2; exit 3", 100)
		if err != nil || string(out) != "out\nerr\n" || st.ExecMainCode != 1 || st.ExecMainStatus != 3 {
			t.Errorf("got %q, %s, %v", out, brief(st), err)
		}
		gone(t, unit)
	})
	t.Run("success", func(t *testing.T) {
		const unit = "pmd-probe-2.service"
		out, st, err := capture(timeout(t), unit, "echo version 1", 100)
		if err != nil || string(out) != "version 1\n" || st.Result != "success" || st.ExecMainCode != 1 ||
			st.ExecMainStatus != 0 {
			t.Errorf("got %q, %s, %v", out, brief(st), err)
		}
		gone(t, unit)
	})
	t.Run("much_output_is_cut_and_does_not_block", func(t *testing.T) {
		out, st, err := capture(timeout(t), "pmd-probe-3.service", "yes | head -c 1000000", 10)
		if err != nil || !bytes.Equal(out, []byte("y\ny\ny\ny\ny\n")) || st.Result != "success" {
			t.Errorf("got %q, %s, %v", out, brief(st), err)
		}
	})
	t.Run("stopped_when_the_context_ends", func(t *testing.T) {
		const unit = "pmd-probe-4.service"
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		out, _, err := capture(ctx, unit, "echo begun; exec sleep 1000", 100)
		if !errors.Is(err, context.DeadlineExceeded) || string(out) != "begun\n" {
			t.Errorf("got %q, %v", out, err)
		}
		gone(t, unit)
	})
	t.Run("no_such_program", func(t *testing.T) {
		const unit = "pmd-probe-5.service"
		_, st, err := f.RunCapture(timeout(t), unit, []Property{{"ExecStartEx", []ExecCommand{
			{Path: "/no/such", Args: []string{"/no/such"}},
		}}}, 100)
		if err != nil || st.ExecMainStatus != 203 {
			t.Errorf("got %s, %v", brief(st), err)
		}
		gone(t, unit)
	})
	t.Run("deadline_is_known_to_PID_1", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		_, st, err := capture(ctx, "pmd-probe-6.service", "true", 100)
		usec, _ := st.Properties["TimeoutStartUSec"].(uint64)
		if left := time.Duration(usec) * time.Microsecond; err != nil || left < 50*time.Second ||
			left > 100*time.Second {
			t.Errorf("TimeoutStartUSec is %s, %v", left, err)
		}
	})
}
