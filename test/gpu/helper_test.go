//go:build gpu

package gpu

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/client"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

const (
	// programEnv names pool-gpu as the package has it; the Makefile sets it.
	programEnv = "POOL_GPU"
	// driverFile is there exactly while the kernel module is loaded.
	driverFile = "/proc/driver/nvidia/version"
	unitDir    = "../../packaging/systemd"
	patience   = 30 * time.Second
)

// needGPU skips where there is nothing to test, with the reason.
func needGPU(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(driverFile); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("there is no %s: this host has no NVIDIA GPU, or its driver is not loaded", driverFile)
	} else if err != nil {
		t.Fatal(err)
	}
	nodes, err := filepath.Glob("/dev/nvidia[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes) == 0 {
		t.Skip("the NVIDIA driver is loaded, and there is no /dev/nvidia0: run nvidia-smi once as root, which makes " +
			"the nodes")
	}
}

// program is the pool-gpu to test.
func program(t *testing.T) string {
	t.Helper()
	p := os.Getenv(programEnv)
	if p == "" {
		t.Fatalf("%s is not set: run make test-gpu, which builds pool-gpu as the package has it", programEnv)
	}
	return p
}

// byHand runs pool-gpu as this user, with no sandbox, and returns its socket.
func byHand(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "gpu.sock")
	cmd := exec.Command(program(t), "--socket", socket)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("pool-gpu: %v", err)
		}
	})
	return socket
}

// inSandbox runs pool-gpu as its packaged units do, under other names and from where it was built,
// and returns the socket. The units are files below /run for as long as the test runs, since a
// transient unit cannot have all of these lines (RestrictAddressFamilies=none).
func inSandbox(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("/run/systemd/system"); err != nil || os.Geteuid() != 0 {
		t.Skip("only root can give PID 1 a unit, where PID 1 is systemd")
	}
	const socket = "/run/pool-gpu-test.sock"
	inside := visible(t)
	inTest := strings.NewReplacer(
		"/run/pool-managerd/gpu.sock", socket,
		"pool-gpu.socket", "pool-gpu-test.socket",
		"ExecStart=/usr/lib/pool-managerd/pool-gpu", "ExecPaths="+inside+"\nExecStart="+inside)
	t.Cleanup(func() { // after all that follows has been undone
		systemctl(t, "daemon-reload")
	})
	for _, kind := range []string{".socket", ".service"} {
		packaged, err := os.ReadFile(filepath.Join(unitDir, "pool-gpu"+kind))
		if err != nil {
			t.Fatal(err)
		}
		file := "/run/systemd/system/pool-gpu-test" + kind
		if err := os.WriteFile(file, []byte(inTest.Replace(string(packaged))), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(file); err != nil {
				t.Error(err)
			}
		})
	}
	systemctl(t, "daemon-reload")
	systemctl(t, "start", "pool-gpu-test.socket")
	t.Cleanup(func() {
		if t.Failed() {
			log, err := exec.Command("journalctl", "--unit=pool-gpu-test", "--boot", "--lines=30",
				"--no-pager").CombinedOutput()
			t.Logf("%s (%v)", log, err)
		}
		systemctl(t, "stop", "pool-gpu-test.socket")
	})
	return socket
}

// visible copies the program to where the sandbox, which hides homes and /tmp, lets it be seen.
func visible(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(program(t))
	if err != nil {
		t.Fatal(err)
	}
	const name = "/run/pool-gpu-test"
	if err := os.WriteFile(name, content, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	})
	return name
}

func systemctl(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
		t.Errorf("systemctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// snapshot asks until a process listens at socket and the driver has been read.
func snapshot(t *testing.T, socket string) *nvml.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		reply, err := client.Ask(ctx, socket, wire.Request{Version: wire.Version, Op: wire.OpSnapshot})
		if err == nil {
			return reply.Snapshot
		}
		select {
		case <-ctx.Done():
			t.Fatalf("pool-gpu gave no snapshot: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
