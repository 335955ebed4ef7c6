//go:build machine

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestStandInsForPythonEngines: SGLang and TensorRT-LLM run on GPUs only, so that programs stand in
// for them here, which answer as their sources do. Each becomes ready, reports what its adapter
// asks for, finishes its request in a drain, and comes back when it dies and when it hangs.
func TestStandInsForPythonEngines(t *testing.T) {
	t.Parallel()
	h := withGPUs(t, machine.Trixie)
	const dir = "/usr/local/lib/standins"
	defer h.must("rm", "-rf", dir, "/srv/standin")
	h.must("mkdir", "-p", dir, "/srv/standin")
	h.shell("cd /srv/standin; echo '{}' >config.json; echo x >model.safetensors")
	for _, c := range []struct {
		engine, program string
		keys            []string
		slots           int
	}{
		{"sglang", "standin-sglang", []string{"devices = []", `args = ["-np", "6"]`}, 6}, // from /server_info
		{"trtllm", "standin-trtllm-serve", []string{"devices = [0]", "slots = 2", `vram = "1G"`,
			`args = ["--vram", "1073741824"]`}, 2},
	} {
		h.must("cp", host.StubEngine, dir+"/"+c.program)
		h.pool(c.engine, poolFile{keys: append(c.keys, `engine = "`+c.engine+`"`, `model = "file:/srv/standin"`)}.
			table("provisioning", `binary = "`+dir+"/"+c.program+`"`).
			table("health", `interval = "500ms"`, `timeout = "500ms"`, `generate_interval = "1s"`, `generate_timeout = "1s"`,
				`escalate_after = "1s"`).
			table("restart", `initial = "300ms"`, `max = "1s"`, `breaker_failures = 50`).
			table("drain", `deadline = "30s"`))
		h.reload()
		t.Run(c.engine, func(t *testing.T) { h.in(t).standsIn(c.engine, c.slots) })
		h.removePool(c.engine)
		h.reload()
		h.waitGone(c.engine)
	}
}

// standsIn takes one through what an engine goes through.
func (s *site) standsIn(id string, slots int) {
	p := s.wait(id, isReady)
	if p.EngineVersion != "0.0.0+standin" || p.SlotsTotal != slots {
		s.t.Errorf("version %q, %d slots, want %d", p.EngineVersion, p.SlotsTotal, slots)
	}
	s.control(id, "/stub/crash")
	s.wait(id, newRun(p.Replicas[0].PID))

	run := s.get(id).Replicas[0].PID
	s.control(id, "/stub/mute")
	s.wait(id, failsWith("HEALTH_FAILED"))
	p = s.wait(id, newRun(run))

	answer := make(chan error, 1)
	go func() {
		ctx, cancel := s.within()
		defer cancel()
		a, err := s.AtEndpoint(ctx, p.Replicas[0].Endpoint, http.MethodPost, "/v1/completions?delay=3s", nil)
		if err == nil && a.Status != http.StatusOK {
			err = fmt.Errorf("%d %s", a.Status, a.Body)
		}
		answer <- err
	}()
	s.eventually(func(ctx context.Context) error {
		out, err := s.Shell(ctx, "ss -Hnt state established dst "+address(p)+" | wc -l")
		if err == nil && strings.TrimSpace(out) == "0" {
			err = fmt.Errorf("not under way")
		}
		return err
	})
	s.must("poolctl", "drain", id, "--wait")
	if err := <-answer; err != nil {
		s.t.Errorf("the request that was under way: %v", err)
	}
	s.wait(id, inState("stopped"))
}
