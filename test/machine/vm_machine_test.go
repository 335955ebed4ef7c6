//go:build machine

package machine

import (
	"strings"
	"testing"
)

func TestVM(t *testing.T) {
	m := Start(t, Config{Backend: VM, Files: suiteFiles})
	t.Run("commands", func(t *testing.T) { commandSuite(t, m) })
	t.Run("files", func(t *testing.T) { fileSuite(t, m) })
	t.Run("network", func(t *testing.T) { networkSuite(t, m) })
	t.Run("test_binary", func(t *testing.T) { testBinarySuite(t, m) })
	t.Run("enforces", func(t *testing.T) { enforcementSuite(t, m) })
	t.Run("reboot", func(t *testing.T) { rebootSuite(t, m) })
	id := m.backend.(*vm).dir.id
	if err := m.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, id)
}

func TestVMEnforces(t *testing.T) {
	for _, release := range []Release{Bookworm, Forky} { // Trixie: TestVM
		t.Run(string(release), func(t *testing.T) {
			enforcementSuite(t, Start(t, Config{Release: release, Backend: VM}))
		})
	}
}

// enforcementSuite checks that limits are enforced, unlike in a container on many hosts.
func enforcementSuite(t *testing.T, m *Machine) {
	m.Require(t, Controllers("cpu", "io", "memory", "pids"), BPF())
	t.Run("memory", func(t *testing.T) { oomSuite(t, m) })
	t.Run("tasks", func(t *testing.T) {
		r := m.Run(t.Context(), "systemd-run", "--quiet", "--collect", "--wait", "--pipe", "-pTasksMax=4",
			"bash", "-c", "for i in 1 2 3 4 5 6; do sleep 1 & done; wait")
		// bash tries a refused fork again, and may have luck when a second is over: that it was
		// refused is what counts.
		if !strings.Contains(r.Stderr, "fork: retry: Resource temporarily unavailable") {
			t.Errorf("more tasks than allowed: code %d, %s", r.ExitCode, r.Stderr)
		}
	})
	t.Run("egress", func(t *testing.T) { egressSuite(t, m) })
}

func TestVMDiesWithItsParent(t *testing.T) { killedParent(t, Config{Backend: VM}) }

// oomSuite checks that MemoryMax= has a controller behind it and that PID 1 sees the kill. With
// OOMPolicy=stop, the default, newer systemd may report another main status than the signal, so
// that only Result is asked for.
func oomSuite(t *testing.T, m *Machine) {
	const unit = "memory-hog"
	r := m.Run(t.Context(), "systemd-run", "--quiet", "--wait", "--unit="+unit, "-pMemoryMax=20M", "-pMemorySwapMax=0",
		"tail", "/dev/zero")
	if r.Err != nil || r.ExitCode == 0 {
		t.Errorf("a program without bounds ended with %d (%v)", r.ExitCode, r.Err)
	}
	if got := m.MustRun(t, "systemctl", "show", "--property=Result", unit); got != "Result=oom-kill" {
		t.Error(got)
	}
	m.MustRun(t, "systemctl", "reset-failed", unit)
}

// egressSuite checks that IPAddressDeny=any with the loopback allowed lets nothing else through.
// The other address is one of the machine itself: what the filter goes by is the packet, not the
// device.
func egressSuite(t *testing.T, m *Machine) {
	m.MustRun(t, "ip", "address", "add", "192.0.2.1/32", "dev", "lo")
	send := func(address string, properties ...string) int {
		t.Helper()
		args := append([]string{"systemd-run", "--quiet", "--collect", "--wait", "--pipe"}, properties...)
		r := m.Run(t.Context(), append(args, "bash", "-c", "echo x >/dev/udp/"+address+"/9")...)
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		return r.ExitCode
	}
	fence := []string{"-pIPAddressDeny=any", "-pIPAddressAllow=localhost"}
	if code := send("192.0.2.1"); code != 0 {
		t.Errorf("without a fence the other address is not reached: %d", code)
	}
	if code := send("192.0.2.1", fence...); code == 0 {
		t.Error("the fence lets the other address through")
	}
	if code := send("127.0.0.1", fence...); code != 0 {
		t.Errorf("the fence shuts the loopback: %d", code)
	}
}
