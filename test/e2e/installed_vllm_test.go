//go:build machine && engines

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine"
	"github.com/pool-managerd/pool-managerd/test/tinymodel"
)

// vllmPool is a pool of a real vLLM on the CPU.
func vllmPool(model string) poolFile {
	return poolFile{keys: []string{`engine = "vllm"`, `model = "file:` + model + `"`, `devices = []`, `ctx = 4096`, `slots = 4`,
		`args = ["--enforce-eager", "--dtype", "float32"]`}}.
		table("env", `VLLM_CPU_KVCACHE_SPACE = "1"`).
		table("provisioning", `binary = "/opt/vllm/bin/vllm"`).
		table("health", `interval = "5s"`, `timeout = "5s"`, `generate_interval = "5s"`, `generate_timeout = "10s"`, `escalate_after = "10s"`).
		table("restart", `initial = "1s"`, `breaker_failures = 50`).
		table("drain", `deadline = "2m"`)
}

// TestInstalledVLLM: a real vLLM that was installed by pip becomes ready in its sandbox, says what
// it has and does, finishes its requests in a drain and in a stop, and comes back when its core
// dies or hangs.
func TestInstalledVLLM(t *testing.T) {
	env := environment(t, "/opt/vllm", vllmRequirements, nameVLLM)
	models := t.TempDir()
	for i, name := range []string{"a", "b"} {
		if err := tinymodel.WriteDirectory(filepath.Join(models, name), uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	h := withEngine(t, env, machine.File{Guest: "/srv/models", Host: models})
	began := time.Now()
	h.pool("v", vllmPool("/srv/models/a"))
	h.reload()
	first := h.waitFor(loading, "v", isReady)
	h.took("the first start of vLLM, with the question for its version,", began)
	out := h.shell("systemd-analyze security --no-pager '" + first.Replicas[0].Unit + "' | tail -n 1")
	if m := overallExposure.FindStringSubmatch(out); m == nil || m[1] > "1.5" {
		t.Errorf("want an exposure of 1.5 or less: %s", out)
	}

	t.Run("version_and_slots", func(t *testing.T) {
		version := strings.TrimSuffix(first.EngineVersion, "+cpu")
		if !strings.Contains(vllmRequirements, "\nvllm-cpu=="+version+"\n") || first.SlotsTotal != 4 {
			t.Errorf("version %q, %d slots", first.EngineVersion, first.SlotsTotal)
		}
	})
	t.Run("requests_and_tokens_while_a_stream_is_under_way", func(t *testing.T) {
		h := h.in(t)
		h.beginRequest("v", "/v1/completions", vllmStream(150))
		tokens := -1.0
		for range 100 {
			running, now := h.sampled("v", "vllm:num_requests_running"), h.sampled("v", "vllm:generation_tokens_total")
			if running >= 1 && tokens >= 0 && now > tokens {
				tokens = -2
				break
			}
			tokens = now
			time.Sleep(300 * time.Millisecond)
		}
		if tokens != -2 {
			t.Error("no request was seen that makes tokens")
		}
		finished(t, h.answered())
	})
	t.Run("a_drain_lets_the_stream_finish", func(t *testing.T) {
		h := h.in(t)
		h.beginRequest("v", "/v1/completions", vllmStream(300))
		time.Sleep(2 * time.Second)
		began := time.Now()
		ctx, cancel := h.within(3 * time.Minute)
		defer cancel()
		if out, err := h.Host.Run(ctx, "poolctl", "drain", "v", "--deadline", "2m", "--wait"); err != nil {
			t.Fatalf("%s %v", out, err)
		}
		h.took("the drain with a stream under way", began)
		finished(t, h.answered())
		began = time.Now()
		h.must("poolctl", "resume", "v")
		h.waitFor(loading, "v", isReady)
		h.took("a start of vLLM", began)
	})
	t.Run("a_core_that_dies", func(t *testing.T) {
		h := h.in(t)
		run, began := h.get("v").Replicas[0].PID, time.Now()
		h.signal("v", "KILL", "VLLM::EngineCore")
		p := h.waitFor(2*time.Minute, "v", failsWith("ENGINE_EXITED"), reported)
		h.took("the end of vLLM after its core's", began)
		if !strings.Contains(p.LastError, "status 0") ||
			!strings.Contains(strings.Join(p.Details.Lines, "\n"), "EngineDeadError") {
			t.Errorf("%s\n%+v", p.LastError, p.Details)
		}
		h.waitFor(loading, "v", newRun(run))
	})
	t.Run("a_core_that_hangs", func(t *testing.T) {
		h := h.in(t)
		run, began := h.get("v").Replicas[0].PID, time.Now()
		h.signal("v", "STOP", "VLLM::EngineCore")
		p := h.waitFor(3*time.Minute, "v", failsWith("HEALTH_FAILED"))
		h.took("the discovery of a hung core", began)
		if !strings.Contains(p.LastError, "generations of one token") {
			t.Errorf("%s", p.LastError)
		}
		h.waitFor(loading, "v", newRun(run))
	})
	t.Run("a_reload_to_another_model", func(t *testing.T) {
		h := h.in(t)
		ctx, cancel := h.within(2 * loading)
		defer cancel()
		run, began := h.get("v").Replicas[0].PID, time.Now()
		out, err := h.Host.Run(ctx, "poolctl", "reload", "v", "--model", "file:/srv/models/b", "--wait")
		if err != nil {
			t.Fatalf("%s %v", out, err)
		}
		h.took("a reload beside the former vLLM", began)
		if p := h.waitFor(loading, "v", newRun(run)); p.ModelID != "file:/srv/models/b" || p.Replicas[0].ID != "r0b" {
			t.Errorf("it serves %s", p)
		}
	})
	t.Run("systemctl_stop_lets_the_stream_finish", func(t *testing.T) {
		h := h.in(t)
		h.beginRequest("v", "/v1/completions", vllmStream(200))
		time.Sleep(2 * time.Second)
		ctx, cancel := h.within(3 * time.Minute)
		defer cancel()
		began := time.Now()
		unit := h.get("v").Replicas[0].Unit
		if out, err := h.Host.Run(ctx, "systemctl", "stop", unit); err != nil {
			t.Fatalf("%s %v", out, err)
		}
		h.took("systemctl stop with a stream under way", began)
		finished(t, h.answered())
	})
}

// vllmStream asks for exactly so many tokens, one at a time.
func vllmStream(tokens int) string {
	return fmt.Sprintf(`{"model":"v","prompt":"hello","max_tokens":%d,"temperature":0,"ignore_eos":true,"stream":true}`, tokens)
}

// finished checks that a stream came to its own end.
func finished(t *testing.T, answer string) {
	t.Helper()
	if !strings.Contains(answer, "data: [DONE]") || !strings.Contains(answer, `"finish_reason":"length"`) {
		t.Errorf("the stream was cut: %d events, the end is %q", strings.Count(answer, "data: "),
			answer[max(0, len(answer)-300):])
	}
}
