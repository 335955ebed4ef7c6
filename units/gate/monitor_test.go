package gate

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestMonitor: of an engine with a monitor, the monitor's child is watched; without one it has
// ended.
func TestMonitor(t *testing.T) {
	if cgroupOf(os.Getpid()) == "" {
		t.Skip("this host has no cgroup2")
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "sleep 60 & wait; exec sleep 60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	o := Options{MainPID: cmd.Process.Pid, Monitor: true}
	var w *watched
	for range 100 {
		var err error
		if w, err = o.watch(); err == nil {
			break
		} else if !errors.Is(err, errGone) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if w == nil || parentOf(w.pid) != o.MainPID || w.uid != os.Getuid() {
		t.Fatalf("watched: %+v", w)
	}
	defer w.close()
	child, err := os.FindProcess(w.pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Kill(); err != nil {
		t.Fatal(err)
	}
	if gone, err := w.sleep(10 * time.Second); err != nil || !gone {
		t.Errorf("the end of the child: %v, %v", gone, err)
	}
}
