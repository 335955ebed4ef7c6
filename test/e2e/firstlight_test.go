//go:build machine

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestFirstLight: a pool file makes a real llama-server serve a real GGUF model.
func TestFirstLight(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.pool("tiny", llama().quick())
	h.reload()
	tiny := h.wait("tiny", isReady)

	t.Run("the_api_tells_what_runs", func(t *testing.T) {
		h := h.in(t)
		u := h.unit(host.EngineUnit("tiny"))
		r := tiny.Replicas[0]
		if r.Unit != u.Name || r.PID != u.MainPID || r.InvocationID != u.InvocationID || u.ActiveState != "active" {
			t.Errorf("the API has %+v, PID 1 has %+v", r, u)
		}
		if tiny.Engine != "llamacpp" || tiny.EngineVersion == "" || tiny.SlotsTotal != 2 || tiny.RestartCount != 0 ||
			tiny.LastError != "" || !tiny.Live {
			t.Errorf("%s, engine version %q, slots %d", tiny, tiny.EngineVersion, tiny.SlotsTotal)
		}
	})
	t.Run("the_engine_completes_a_prompt", func(t *testing.T) { completes(t, h.in(t), "tiny") })
	t.Run("the_hand_off_file_says_where", func(t *testing.T) {
		h := h.in(t)
		var f struct {
			URL       string `json:"url"`
			PoolID    string `json:"pool_id"`
			ReplicaID string `json:"replica_id"`
			ModelID   string `json:"model_id"`
			Slots     int    `json:"slots_total"`
		}
		if err := json.Unmarshal([]byte(h.must("cat", host.HandoffDir+"/tiny.r0.json")), &f); err != nil {
			t.Fatal(err)
		}
		if f.URL != tiny.Replicas[0].Endpoint || f.PoolID != "tiny" || f.ReplicaID != "r0" || f.ModelID != "file:"+
			host.TinyModel || f.Slots != 2 {
			t.Errorf("the file has %+v, the API has %s", f, tiny)
		}
	})
	t.Run("the_models_own_description_is_published", func(t *testing.T) {
		h := h.in(t)
		m := tiny.Model
		if m.Architecture != "llama" || m.Quantization != "F32" || m.CtxTrained != 512 || m.Workload != "completion" ||
			m.Parameters < 100_000 {
			t.Errorf("%+v", m)
		}
		if got := h.must("curl", "-s", "--unix-socket", "/run/pool-managerd/api.sock",
			"http://localhost/v1/capabilities"); !strings.Contains(got, `"quantizations":["F32"]`) {
			t.Errorf("capabilities: %s", got)
		}
	})
	t.Run("poolctl_shows_it", func(t *testing.T) { poolctlShows(t, h.in(t), tiny) })
	t.Run("systemctl_and_journalctl_show_it", func(t *testing.T) {
		h := h.in(t)
		if out := h.must("systemctl", "status", "--no-pager", "pool-engine@*"); !strings.Contains(out,
			"active (running)") || !strings.Contains(out, "llama-server") {
			t.Errorf("systemctl status:\n%s", out)
		}
		if out := h.must("poolctl", "logs", "tiny", "-n", "all", "--", "POOL_ID=tiny", "_SYSTEMD_UNIT="+
			host.EngineUnit("tiny")); !strings.Contains(out, "model") {
			t.Errorf("poolctl logs tiny shows nothing of the engine:\n%s", out)
		}
		if out := h.must("systemctl", "show", "-p", "Slice", "--value",
			host.EngineUnit("tiny")); out != "pool-engines.slice" {
			t.Errorf("it runs in %s", out)
		}
	})
	t.Run("killed_it_comes_back", func(t *testing.T) {
		h := h.in(t)
		h.must("kill", "-KILL", fmt.Sprint(tiny.Replicas[0].PID))
		back := h.wait("tiny", restarted(1))
		if back.Replicas[0].PID == tiny.Replicas[0].PID ||
			back.Replicas[0].InvocationID == tiny.Replicas[0].InvocationID {
			t.Errorf("it is the same run: %s", back)
		}
		completes(t, h, "tiny")
	})
}

// completes asks the engine for four tokens.
func completes(t *testing.T, h *site, id string) {
	t.Helper()
	ctx, cancel := h.within()
	defer cancel()
	a, err := h.Engine(ctx, id, http.MethodPost, "/v1/completions",
		strings.NewReader(`{"prompt":"Hello","max_tokens":4,"temperature":0}`))
	if err != nil {
		t.Fatal(err)
	}
	var completion struct {
		Choices []struct {
			Text *string `json:"text"`
		} `json:"choices"`
		Usage struct {
			Tokens int `json:"completion_tokens"`
		} `json:"usage"`
	}
	if err := json.Unmarshal(a.Body, &completion); err != nil || a.Status != http.StatusOK {
		t.Fatalf("completion: %d %s (%v)", a.Status, a.Body, err)
	}
	if len(completion.Choices) != 1 || completion.Choices[0].Text == nil || completion.Usage.Tokens < 1 {
		t.Errorf("completion: %s", a.Body)
	}
}

func poolctlShows(t *testing.T, h *site, tiny host.Pool) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"list"}, []string{"tiny", "ready", "llamacpp"}},
		{[]string{"status", "tiny"}, []string{"tiny", "ready", tiny.Replicas[0].Unit, fmt.Sprint(tiny.Replicas[0].PID)}},
		{[]string{"render", "tiny"}, []string{"[Service]", "ExecStart=:/usr/bin/llama-server -m " + host.TinyModel, "DynamicUser=yes"}},
		{[]string{"logs", "tiny"}, []string{"llama", "model"}},
		{[]string{"check"}, nil},
		{[]string{"version"}, []string{"."}},
	} {
		t.Run(c.args[0], func(t *testing.T) {
			h := h.in(t)
			out := h.must(append([]string{"poolctl"}, c.args...)...)
			for _, w := range c.want {
				if !strings.Contains(out, w) {
					t.Errorf("poolctl %s does not show %q:\n%s", strings.Join(c.args, " "), w, out)
				}
			}
		})
	}
	t.Run("list_json", func(t *testing.T) {
		h := h.in(t)
		out := h.must("poolctl", "list", "-o", "json")
		if !json.Valid([]byte(out)) || !strings.Contains(out, `"tiny"`) {
			t.Errorf("poolctl list -o json:\n%s", out)
		}
	})
}

// TestFirstLightOnEachRelease: the same package works on systemd 252, 257 and 262.
func TestFirstLightOnEachRelease(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.pool("a", stub("--load", "500ms").quick())
			h.pool("dashed-name", command().quick())
			h.reload()
			a := h.wait("a", isReady)
			h.wait("dashed-name", isReady)
			if a.EngineVersion != "1.0.0-stub" {
				t.Errorf("engine_version is %q", a.EngineVersion)
			}
			h.control("a", "/stub/crash")
			h.wait("a", restarted(1))
			before := h.engines()
			h.must("systemctl", "restart", host.ManagerUnit)
			h.wait("a", restarted(1))
			h.untouched(before)
		})
	}
}

// TestReadyOnlyWhenTheEngineAnswers: during a slow load the API never reports ready while the
// engine does not serve, and the hand-off file exists only when it serves.
func TestReadyOnlyWhenTheEngineAnswers(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("slow", stub("--load", "3s").quick())
	h.reload()
	loading := 0
	h.eventually(func(ctx context.Context) error {
		_, missing := h.Host.Run(ctx, "test", "-e", host.HandoffDir+"/slow.r0.json")
		p, err := h.Pool(ctx, "slow")
		if err != nil {
			return err
		}
		if !p.Ready {
			loading++
			return fmt.Errorf("%s", p)
		}
		// Queried after the API: what the API reported must already be true.
		if a, err := h.Engine(ctx, "slow", http.MethodGet, "/health", nil); err != nil || a.Status != http.StatusOK {
			t.Fatalf("the API reports ready; the engine answers %d %v", a.Status, err)
		}
		return missing
	})
	if loading < 3 {
		t.Errorf("only %d looks fell into a load of 3 s: this test has shown nothing", loading)
	}
	since := h.must("journalctl", "--no-pager", "-o", "cat", "_SYSTEMD_UNIT="+host.EngineUnit("slow"))
	if !strings.Contains(since, "the model is loaded") {
		t.Errorf("ready, but the engine never logged that its model is loaded:\n%s", since)
	}
}
