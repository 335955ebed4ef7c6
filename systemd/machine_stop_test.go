//go:build machine

package systemd

import (
	"errors"
	"testing"
	"time"
)

// TestMachineStopWaiting: a unit that waits for its restart is stopped and not started again, and
// one whose restart PID 1 has begun goes on.
func TestMachineStopWaiting(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	restart := func(delay time.Duration) []Property {
		return []Property{{"Restart", "on-failure"}, {"RestartUSec", uint64(delay / time.Microsecond)},
			{"StartLimitIntervalUSec", uint64(0)}}
	}
	waits := func(s Status) bool { return s.SubState == "auto-restart" && s.JobID == 0 }
	t.Run("before_the_restart", func(t *testing.T) {
		const unit = "pmd-test@waits.service"
		f.cleanup(unit)
		job, err := f.StartTransient(timeout(t), unit, service("exit 1", restart(time.Hour)...))
		if err != nil {
			t.Fatal(err)
		}
		_ = job.Wait(timeout(t)) // the process may end before the job does
		was := f.awaitUnit(unit, "waiting", waits)
		if job, err = f.StopWaiting(timeout(t), unit); err != nil {
			t.Fatal(err)
		}
		if err := job.Wait(timeout(t)); err != nil {
			t.Error(err)
		}
		f.awaitUnit(unit, "stopped", func(s Status) bool {
			return s.InvocationID == was.InvocationID && (s.ActiveState == "inactive" || s.ActiveState == "failed" &&
				s.SubState == "failed")
		})
		if st, err := f.Unit(timeout(t), unit); err == nil && st.NRestarts != 0 {
			t.Errorf("restarted all the same: %s", brief(st))
		}
	})
	t.Run("after_the_restart_has_begun", func(t *testing.T) {
		const unit = "pmd-test@begins.service"
		dir := t.TempDir()
		f.cleanup(unit)
		// Of the first run it fails, and of the second it waits for a file.
		gate := Property{"ExecStartPost", []PlainCommand{{Path: "/bin/sh", Args: []string{"sh", "-c",
			"cd " + dir + " && [ -e first ] || { touch first; exit 1; }; until [ -e go ]; do sleep 0.1; done"}}}}
		if _, err := f.StartTransient(timeout(t), unit, service("exec sleep 1000", append(restart(100*time.Millisecond),
			gate)...)); err != nil {
			t.Fatal(err)
		}
		begun := f.awaitUnit(unit, "loading again", func(s Status) bool {
			return s.NRestarts == 1 && s.SubState == "start-post"
		})
		if _, err := f.StopWaiting(timeout(t), unit); !errors.Is(err, ErrJobExists) {
			t.Errorf("StopWaiting = %v, want ErrJobExists", err)
		}
		run(t, "touch", dir+"/go")
		st := f.awaitUnit(unit, "active", func(s Status) bool { return s.ActiveState == "active" })
		if st.NRestarts != 1 || st.InvocationID != begun.InvocationID {
			t.Errorf("%s, want the run that had begun: %s", brief(st), brief(begun))
		}
	})
	t.Run("no_unit", func(t *testing.T) {
		if _, err := f.StopWaiting(timeout(t), "pmd-test@none.service"); !errors.Is(err, ErrNoSuchUnit) {
			t.Errorf("StopWaiting = %v, want ErrNoSuchUnit", err)
		}
	})
}
