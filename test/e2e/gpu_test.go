//go:build machine

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/fakenvml"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// gib is 2^30 bytes.
const gib = uint64(1) << 30

// withGPUs is an installed machine with two fake GPUs of 8 GiB.
func withGPUs(t *testing.T, release machine.Release) *site {
	t.Helper()
	s := installed(t, release)
	s.loadGPUs("--gpus 2 --vram 8589934592")
	return s
}

func (s *site) loadGPUs(args string) {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	if err := s.LoadGPUs(ctx, args); err != nil {
		s.t.Fatal(err)
	}
	s.devices(func(d host.Devices) bool { return d.Driver.Version != "" && d.Stale == nil })
}

// gpu has the fake driver do something.
func (s *site) gpu(format string, args ...any) {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	if _, err := s.GPU(ctx, fmt.Sprintf(format, args...)); err != nil {
		s.t.Fatal(err)
	}
}

// devices waits until the GPUs' state is known, and returns it.
func (s *site) devices(holds func(host.Devices) bool) (d host.Devices) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) (err error) {
		if d, err = s.Devices(ctx); err == nil && !holds(d) {
			err = fmt.Errorf("not yet: %+v", d)
		}
		return err
	})
	return d
}

// health waits until a GPU has that health.
func (s *site) health(index int, health string) {
	s.t.Helper()
	s.devices(func(d host.Devices) bool { return len(d.Devices) > index && d.Devices[index].Health == health })
}

// ask is control, with what the engine answers.
func (s *site) ask(id, path string) string {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	a, err := s.Engine(ctx, id, http.MethodPost, path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(a.Body)
}

// onGPU is a pool of the stand-in engine that takes so many bytes of each GPU of its mask, and logs
// so beforehand.
func onGPU(mask string, bytes uint64, args ...string) poolFile {
	p := stub(append([]string{"--vram", fmt.Sprint(bytes)}, args...)...)
	for i, key := range p.keys {
		if strings.HasPrefix(key, "devices") {
			p.keys[i] = "devices = [" + mask + "]"
		}
	}
	return p.with(fmt.Sprintf("vram = %d", bytes)).quick()
}

// TestGPUIsGiven: an index in the pool file becomes the full UUID that the engine sees, its memory
// is found again as the pool's, in the API, in poolctl and in the metrics.
func TestGPUIsGiven(t *testing.T) {
	t.Parallel()
	for _, release := range []machine.Release{machine.Bookworm, machine.Forky} {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := withGPUs(t, release)
			h.pool("a", onGPU("1", 3*gib))
			h.reload()
			p := h.wait("a", isReady)
			uuid := fakenvml.UUID(1)
			if env := h.must("systemctl", "show", "-p", "Environment", host.EngineUnit("a")); !strings.Contains(env,
				"CUDA_VISIBLE_DEVICES="+uuid+" ") && !strings.HasSuffix(env, "CUDA_VISIBLE_DEVICES="+uuid) {
				t.Errorf("%s, want %s", env, uuid)
			}
			d := h.devices(func(d host.Devices) bool { return len(d.Devices) == 2 && len(d.Devices[1].Processes) == 1 })
			if got := d.Devices[1].Processes[0]; got.Pool != "a" || got.Replica != "r0" ||
				got.PID != p.Replicas[0].PID || got.Used == nil || *got.Used != 3*gib {
				t.Errorf("process %+v of %s", got, p)
			}
			if free := d.Devices[1].VRAMFree; free == nil || *free != 8*gib-3*gib-512<<20 {
				t.Errorf("free %v", free)
			}
			h.eventually(func(ctx context.Context) error {
				metrics, err := h.Get(ctx, "/metrics")
				if want := fmt.Sprintf(`vram_used_bytes{device="%s"`, uuid); err == nil &&
					!strings.Contains(string(metrics.Body), want) {
					err = fmt.Errorf("no %s in the metrics", want)
				}
				return err
			})
			if out := h.must("poolctl", "devices"); !strings.Contains(out, "550.54.14") ||
				!strings.Contains(out, "healthy") {
				t.Errorf("poolctl devices:\n%s", out)
			}
			h.removePool("a")
			h.reload()
			h.waitGone("a")
			h.devices(func(d host.Devices) bool {
				return len(d.Devices[1].Processes) == 0 && len(d.Devices[1].Pools) == 0
			})
		})
	}
}

// TestGPUMasks: an error for an invalid mask lists the GPUs of the host.
func TestGPUMasks(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.loadGPUs("--gpus 3 --vram 8589934592 --mig 2")
	mig := fmt.Sprintf("MIG-%08x-%s", 1, fakenvml.UUID(2)[len("GPU-00000000-"):])
	h.pool("holder", onGPU("0", gib))
	h.pool("partition", onGPU(`"`+mig+`"`, gib))
	h.reload()
	h.wait("holder", isReady)
	h.wait("partition", isReady)
	before := h.engines()
	for id, mask := range map[string]string{"missing": "7", "twice": `1, "GPU-5eed0011"`, "whole-of-mig": "2",
		"taken": `"0000:41:00.0"`, "taken-part": `"` + mig[:12] + `"`} {
		h.pool(id, onGPU(mask, gib))
	}
	h.pool("shares", onGPU("1", gib).with("shared = true"))
	h.pool("shares-too", onGPU("1", gib).with("shared = true"))
	h.reload()
	for id, says := range map[string]string{"missing": `"7" does not exist`, "twice": "same device", "whole-of-mig": "MIG mode",
		"taken": "in use by pool holder", "taken-part": "in use by pool partition"} {
		if p := h.wait(id, failsWith("DEVICE_MASK_INVALID")); !strings.Contains(p.LastError, says) {
			t.Errorf("%s: %s", id, p.LastError)
		}
	}
	h.wait("shares", isReady)
	h.wait("shares-too", isReady)
	h.untouched(before)
}

// TestGPUMemory: with too little memory nothing starts, with enough it starts at once; PID 1's own
// restarts are checked too, and wait for memory that the driver releases late.
func TestGPUMemory(t *testing.T) {
	t.Parallel()
	for _, release := range []machine.Release{machine.Bookworm, machine.Forky} {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := withGPUs(t, release)
			h.gpu("hog 0 %d", 6*gib)
			h.pool("a", onGPU("0", 3*gib))
			h.reload()
			p := h.wait("a", inState("waiting"), failsWith("INSUFFICIENT_VRAM"))
			if !strings.Contains(p.LastError, "3.0 GiB") || len(h.engines()) != 0 {
				t.Errorf("%s; engines %v", p.LastError, h.engines())
			}
			h.gpu("unhog 0")
			h.wait("a", isReady)

			h.gpu("late 2s")
			h.control("a", "/stub/crash")
			h.wait("a", restarted(1)) // one restart is enough: its first step waits for the memory
			h.gpu("late 0s")

			h.gpu("hog 0 %d", 4*gib)
			h.must("systemctl", "stop", host.ManagerUnit)
			pid := h.engine("a").PID
			h.must("kill", "-KILL", fmt.Sprint(pid))
			h.eventually(func(ctx context.Context) error {
				u, err := h.Unit(ctx, host.EngineUnit("a"))
				if err == nil && u.NRestarts < 2 {
					err = fmt.Errorf("not yet: %+v", u)
				}
				return err
			})
			h.gpu("hog 0 %d", 7*gib)
			h.must("systemctl", "start", host.ManagerUnit)
			h.gpu("unhog 0")
			h.wait("a", isReady)
		})
	}
}

// TestGPUHealth: a GPU that needs a reset is left by its pools, and used again when it is well;
// other GPUs are not affected.
func TestGPUHealth(t *testing.T) {
	t.Parallel()
	h := withGPUs(t, machine.Forky)
	h.pool("a", onGPU("0", gib))
	h.pool("b", onGPU("1", gib))
	h.reload()
	h.wait("a", isReady)
	b := h.wait("b", isReady)
	before := h.engine("b")

	h.gpu("recovery 0 1")
	h.gpu("xid 0 95")
	p := h.wait("a", inState("waiting"), failsWith("GPU_UNAVAILABLE"))
	if !strings.Contains(p.LastError, fakenvml.UUID(0)) {
		t.Errorf("last_error %s", p.LastError)
	}
	h.health(0, "needs-reset")
	h.gpu("recovery 0 0")
	h.wait("a", isReady)
	h.health(0, "healthy")

	h.gpu("lose 0")
	h.wait("a", inState("waiting"), failsWith("GPU_UNAVAILABLE"))
	h.health(0, "lost")
	h.gpu("restore 0")
	h.wait("a", isReady)

	// An application's fault: the engine did not end by itself, so it is restarted; its GPU stays
	// healthy.
	run := h.engine("a")
	h.control("a", "/stub/say?line=CUDA+error:+an+illegal+memory+access+was+encountered")
	h.eventually(func(ctx context.Context) error {
		if now := h.engine("a"); now.PID == run.PID {
			return fmt.Errorf("still process %d", run.PID)
		}
		return nil
	})
	h.wait("a", isReady)
	h.health(0, "healthy")
	if now := h.engine("b"); now != before {
		t.Errorf("b was touched: it was %+v and is %+v (%s)", before, now, b)
	}
}

// TestGPUHelper: the helper may die, hang or be replaced; engines and the daemon keep running.
func TestGPUHelper(t *testing.T) {
	t.Parallel()
	h := withGPUs(t, machine.Forky)
	h.pool("a", onGPU("0", gib))
	h.reload()
	h.wait("a", isReady)
	before, manager := h.engines(), h.unit(host.ManagerUnit).MainPID
	helper := func() int { return h.unit(host.HelperUnit).MainPID }
	fresh := func(d host.Devices) bool { return d.Stale == nil && len(d.Devices) == 2 }

	t.Run("killed", func(t *testing.T) {
		h := h.in(t)
		was := helper()
		h.must("kill", "-KILL", fmt.Sprint(was))
		h.eventually(func(context.Context) error {
			if now := helper(); now == 0 || now == was {
				return fmt.Errorf("no new process: %d", now)
			}
			return nil
		})
		h.devices(fresh)
	})
	t.Run("hangs", func(t *testing.T) {
		h := h.in(t)
		h.gpu("hang nvmlDeviceGetTemperature")
		d := h.devices(func(d host.Devices) bool { return d.Stale != nil })
		if !strings.Contains(d.Stale.LastError, "nvmlDeviceGetTemperature") || len(d.Devices) != 2 {
			t.Errorf("stale %+v with %d devices", d.Stale, len(d.Devices))
		}
		h.gpu("unhang")
		h.devices(fresh)
	})
	t.Run("driver_is_replaced", func(t *testing.T) {
		h := h.in(t)
		was := helper()
		h.gpu("replace 999.99")
		h.devices(func(d host.Devices) bool { return fresh(d) && d.Driver.Version == "999.99" })
		if helper() == was {
			t.Error("the process that has the old library still answers")
		}
	})
	t.Run("driver_is_unloaded_and_back", func(t *testing.T) {
		h := h.in(t)
		h.gpu("init 9")
		h.must("systemctl", "stop", host.HelperUnit)
		h.devices(func(d host.Devices) bool { return d.Driver.Problem == "no-driver" })
		h.gpu("init 0")
		h.devices(fresh)
	})
	if h.unit(host.ManagerUnit).MainPID != manager {
		t.Error("the manager was restarted")
	}
	h.wait("a", isReady)
	h.untouched(before)
}

// TestGPUFallback: an engine that logs that it runs on the CPU is not ready, though it answers.
func TestGPUFallback(t *testing.T) {
	t.Parallel()
	h := withGPUs(t, machine.Trixie)
	h.pool("a", onGPU("0", gib, "--say", "load_tensors: offloaded 0/33 layers to GPU", "--load", "300ms"))
	h.pool("b", onGPU("1", gib, "--say", "load_tensors: offloaded 33/33 layers to GPU", "--load", "300ms"))
	h.reload()
	h.wait("a", failsWith("GPU_UNAVAILABLE"))
	h.wait("b", isReady)
}

// TestGPURealFallback: the real llama-server of Debian has no CUDA, and serves on the CPU all the
// same.
func TestGPURealFallback(t *testing.T) {
	t.Parallel()
	h := withGPUs(t, machine.Forky)
	h.pool("a", text(`engine = "llamacpp"
model = "file:`+host.TinyModel+`"
devices = [0]
`))
	h.reload()
	p := h.wait("a", failsWith("GPU_UNAVAILABLE"))
	if !strings.Contains(h.shell("journalctl --output=cat -u "+host.EngineUnit("a")), "no usable GPU found") {
		t.Errorf("the engine did not log it: %s", p)
	}
}

// TestNoGPU: a host without a driver reports it for pools with GPUs only.
func TestNoGPU(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.pool("gpu", onGPU("0", gib))
	h.pool("cpu", stub())
	h.reload()
	h.wait("cpu", isReady)
	h.waitFor(30*time.Second, "gpu", failsWith("GPU_UNAVAILABLE"))
	h.devices(func(d host.Devices) bool { return d.Driver.Problem == "no-library" && len(d.Devices) == 0 })
	if out := h.must("poolctl", "devices"); !strings.Contains(out, "NVIDIA driver") {
		t.Errorf("poolctl devices:\n%s", out)
	}
}
