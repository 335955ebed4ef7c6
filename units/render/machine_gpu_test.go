//go:build machine

package render_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/render"
)

// The device nodes of these tests have the driver's numbers and no driver behind them: ENXIO means
// that the device policy let the call pass, EPERM that it did not. Their mode is 0666, so that
// nothing but the policy refuses.
func passed(err error) bool {
	return err != nil && (strings.Contains(err.Error(), syscall.ENXIO.Error()) ||
		strings.Contains(err.Error(), syscall.ENODEV.Error()))
}

func forbidden(err error) bool {
	return err != nil && strings.Contains(err.Error(), syscall.EPERM.Error())
}

// numbers are majors and minors of device nodes below /dev. 195 is the driver's own; those of
// nvidia-uvm and nvidia-caps are given out by the kernel when it loads.
var numbers = map[string][2]int{
	"nvidia0": {195, 0}, "nvidia1": {195, 1}, "nvidiactl": {195, 255}, "nvidia-uvm": {235, 0}, "nvidia-uvm-tools": {235, 1},
	"nvidia-caps/nvidia-cap21": {236, 21}, "nvidia-caps/nvidia-cap22": {236, 22},
	"nvidia-caps/nvidia-cap30": {236, 30}, "nvidia-caps/nvidia-cap31": {236, 31},
}

func makeNodes(t *testing.T) {
	t.Helper()
	for name, n := range numbers {
		path := "/dev/" + name
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mknod(path, syscall.S_IFCHR|0o666, n[0]<<8|n[1]); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(path) })
	}
}

// TestEnforcedDevices: a replica opens its own GPU and the nodes that all share, and no other
// device: neither its neighbour's GPU nor, on one GPU, its neighbour's partition. A daemon-reload
// changes nothing, for the engine that runs and for its next start.
func TestEnforcedDevices(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	makeNodes(t)
	shared := []string{"nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"}
	partition := mask(render.Device{Visible: "MIG-5a7d1c9e-0000-0000-0000-000000000000",
		Nodes: []string{"/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap30", "/dev/nvidia-caps/nvidia-cap31"}})
	cases := []struct {
		name string
		in   render.Input
		own  []string
	}{
		{"gpu_replica", input(gpus([]string{"0"})), []string{"nvidia0"}},
		{"partition", input(gpus([]string{"MIG-5a7d"}), partition), []string{"nvidia1", "nvidia-caps/nvidia-cap30", "nvidia-caps/nvidia-cap31"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := w.start(t, c.in)
			for _, when := range []string{"first start", "daemon-reload", "restart after daemon-reload"} {
				switch when {
				case "daemon-reload":
					shell(t, "systemctl daemon-reload")
				case "restart after daemon-reload":
					shell(t, "systemctl restart '"+r.unit.Name+"'")
				}
				opensOnly(t, r, when, append(c.own, shared...))
			}
			if got, err := r.try("read", "/proc/meminfo"); err == nil {
				t.Errorf("the driver needs no file of /proc, and the engine reads %q", got)
			}
			if _, err := r.try("execute_written", ""); err != nil {
				t.Errorf("the driver's library compiles: %v", err)
			}
		})
	}
	t.Run("cpu_replica", func(t *testing.T) {
		r := w.start(t, input())
		for _, node := range []string{"/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/kmsg"} {
			if _, err := r.try("open", node); err == nil || passed(err) {
				t.Errorf("%s is let through: %v", node, err)
			}
		}
	})
}

// opensOnly has the engine open every node that there is.
func opensOnly(t *testing.T, r running, when string, own []string) {
	t.Helper()
	allowed := make(map[string]bool)
	for _, name := range own {
		allowed[name] = true
	}
	for name := range numbers {
		_, err := r.try("open", "/dev/"+name)
		switch {
		case allowed[name] && !passed(err):
			t.Errorf("%s: its own /dev/%s: %v", when, name, err)
		case !allowed[name] && !forbidden(err):
			t.Errorf("%s: /dev/%s of others: %v", when, name, err)
		}
	}
	for _, node := range []string{"/dev/kmsg", "/dev/mem", "/dev/nvme0n1", "/dev/ttyS0"} {
		if _, err := r.try("open", node); err == nil || passed(err) {
			t.Errorf("%s: %s is let through: %v", when, node, err)
		}
	}
	if _, err := r.try("open", "/dev/null"); err != nil {
		t.Errorf("%s: /dev/null: %v", when, err)
	}
}

// TestMachineMemorySteps: the steps that reserve memory, and prove the use of the GPU, run as root
// with capabilities, once each and in their order, on every systemd, and also when PID 1 starts the
// unit from what it wrote itself.
func TestMachineMemorySteps(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	if err := os.Remove(stepReport); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	r := w.start(t, input(gpus([]string{"0"}), need(5<<20, 3<<20)))
	want := "memory --nodes /dev/nvidia0,/dev/nvidia-uvm" +
		" --need " + gpuOf("0") + "=3145728 --host 5242880 uid 0 caps true\n" +
		"gpu --devices " + gpuOf("0") + " --engine llamacpp uid 0 caps true\n"
	for _, when := range []string{"first start", "restart after daemon-reload"} {
		got, err := os.ReadFile(stepReport)
		if err != nil || string(got) != want {
			t.Errorf("%s: steps\n%swant\n%s%v", when, got, want, err)
		}
		os.Remove(stepReport)
		if when == "first start" {
			shell(t, "systemctl daemon-reload; systemctl restart '"+r.unit.Name+"'")
		}
	}
}
