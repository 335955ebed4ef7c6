//go:build machine

package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

var overallExposure = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)

// TestExposure: systemd-analyze security rates the running engine at 1.5 or better, a llama-server
// on the CPU at 1.0, and the manager at 2.0 or better, on each release; the engine serves in that
// sandbox.
func TestExposure(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			pool, most := stub().quick(), 1.5
			if release == machine.Forky {
				pool, most = llama().quick(), 1.0 // where the real engine lives
			}
			h.pool("a", pool)
			h.reload()
			h.wait("a", isReady)
			for unit, limit := range map[string]float64{host.EngineUnit("a"): most, host.ManagerUnit: 2.0} {
				out := h.must("systemd-analyze", "security", "--no-pager", unit)
				m := overallExposure.FindStringSubmatch(out)
				if m == nil {
					t.Fatalf("systemd-analyze security %s:\n%s", unit, out)
				}
				rated, err := strconv.ParseFloat(m[1], 64)
				if err != nil || rated > limit {
					t.Errorf("%s is exposed at %s, want %.1f or less:\n%s", unit, m[1], limit, out)
				}
				t.Logf("%s: %s", unit, m[1])
			}
		})
	}
}

// TestEngineSeesItsModelOnly: inside the engine's sandbox the model is there, read-only, and
// nothing else of /srv, /home and /root; the manager's own directories and the message bus are out
// of reach.
func TestEngineSeesItsModelOnly(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.shell(`mkdir -p /home/somebody /srv/secret; echo secret | tee /home/somebody/f /root/f /srv/f /srv/secret/f /srv/models/other.gguf >/dev/null
		chmod -R a+rX /home /root /srv`)
	h.pool("a", llama().quick())
	h.reload()
	pid := fmt.Sprint(h.wait("a", isReady).Replicas[0].PID)
	inside := func(script string) string {
		return h.must("nsenter", "--target", pid, "--mount", "--", "sh", "-c", script)
	}
	if out := inside("find /srv /home /root ! -type d"); out != host.TinyModel {
		t.Errorf("in /srv, /home and /root the engine sees:\n%s", out)
	}
	if out := inside("echo x 2>/dev/null >>" + host.TinyModel + " && echo written || echo refused"); out != "refused" {
		t.Errorf("the model was %s", out)
	}
	for _, path := range []string{host.Socket, host.ConfigFile, "/run/dbus/system_bus_socket",
		"/var/lib/pool-managerd/."} {
		if out := inside("test -e " + path + " && test -n \"$(ls -A $(dirname " + path +
			"))\" && echo seen || echo hidden"); out != "hidden" {
			t.Errorf("the engine can reach %s", path)
		}
	}
	status := h.must("cat", "/proc/"+pid+"/status")
	for _, want := range []string{"NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000",
		"Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			t.Errorf("the engine's process has no %q", want)
		}
	}
	if strings.Contains(status, "Uid:\t0\t") {
		t.Error("the engine runs as root")
	}
}
