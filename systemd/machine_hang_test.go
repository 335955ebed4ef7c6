//go:build machine

package systemd

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"
)

// The two sides of TestHungPID1 communicate by files of the machine; test/e2e is the other
// side.
const (
	stopRequest     = "/run/pmd-stop-pid1"
	stoppedNote     = "/run/pmd-pid1-is-stopped"
	continueRequest = "/run/pmd-continue-pid1"
)

// TestHungPID1 needs a process outside of the machine that stops PID 1: none inside can. Meanwhile
// each caller gets its own context back, and when PID 1 continues, nothing is lost: PID 1 executes
// also the calls that were given up, so the end of a call by its context does not show its effect.
func TestHungPID1(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	const unit, other = "pmd-test@hung.service", "pmd-test@other.service"
	f.start(unit, service("exec sleep 1000"))
	f.start(other, service("exec sleep 1000"))
	f.awaitUnit(unit, "running", func(s Status) bool { return s.ActiveState == "active" && s.JobID == 0 })

	if err := os.WriteFile(stopRequest, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	awaitFile(t, stoppedNote)
	stopping := make(chan error, 1)
	go func() {
		job, err := f.Stop(timeout(t), other)
		if err == nil {
			err = job.Wait(timeout(t))
		}
		stopping <- err
	}()
	// Alone on the wire, so that it is sent: of the crowd below, some calls wait for their turn to
	// be sent until their time is over.
	brief, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := f.Stop(brief, unit); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stop asked of a stopped PID 1 = %v, want DeadlineExceeded", err)
	}
	var callers sync.WaitGroup
	for i := range 100 {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := f.Unit(ctx, unit); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("call %d to a stopped PID 1 = %v, want DeadlineExceeded", i, err)
			}
		})
	}
	callers.Wait()

	if err := os.WriteFile(continueRequest, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-stopping; err != nil {
		t.Errorf("a job over the hang = %v, want nil", err)
	}
	f.awaitRemoved(unit)
	f.awaitRemoved(other)
	for _, u := range f.all() {
		if u.Kind == Lost {
			t.Errorf("the hang was taken for a loss: %v", u.Err)
		}
	}
}

func awaitFile(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
	t.Fatalf("%s never came", path)
}
