//go:build machine

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
	"github.com/pool-managerd/pool-managerd/test/orchestrator"
)

const llamaServer = "/usr/bin/llama-server"

// preloading is the host's configuration with preloads of these binaries, whose drains are short.
func preloading(binaries ...string) string {
	list := strings.ReplaceAll(fmt.Sprintf("%q", binaries), `" "`, `", "`)
	return host.Config + "policy.allow_preload = true\npolicy.allowed_binaries = " + list +
		"\ndefaults.drain.deadline = \"4s\"\n"
}

// prepared is what an orchestrator sends of a real llama-server.
func prepared(id string, port int, model string) orchestrator.Prepared {
	version := "0.7.0"
	return orchestrator.Prepared{BinaryPath: llamaServer, Host: "127.0.0.1", Port: port, ModelPath: model,
		EngineVersion: &version,
		PoolID:        id, ReplicaID: "r0",
		Flags: strings.Fields(fmt.Sprintf("--host 127.0.0.1 --port %d -m %s -ngl 99 -c 256 -np 2", port, model))}
}

// standIn is a request for the stand-in engine, as curl sends it.
func standIn(id, flags string, more string) string {
	list := strings.ReplaceAll(fmt.Sprintf("%q", strings.Fields(flags)), `" "`, `", "`)
	return fmt.Sprintf(`{"prepared":{"binary_path":%q,"engine":"llamacpp","model_path":%q,"pool_id":%q,"flags":%s}%s}`,
		host.StubEngine, host.TinyModel, id, list, more)
}

// noUnit fails the test if PID 1 has a unit of a pool, whatever its state.
func (s *site) noUnit(id string) {
	s.t.Helper()
	if out := s.shell("systemctl list-units --all --plain --no-legend 'pool-engine@" + id + ".*'"); out != "" {
		s.t.Errorf("a unit is left: %s", out)
	}
}

// TestPreload: a program that prepares engines itself has them run by this host, as any pool, until
// it removes them.
func TestPreload(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	ctx, cancel := h.within(5 * time.Minute)
	defer cancel()
	c := h.client()
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	real := prepared("real", 9000, host.TinyModel)
	t.Run("only_where_the_policy_allows_it", func(t *testing.T) {
		h := h.in(t)
		_, err := c.Preload(ctx, "", real)
		h.refused(err, 403, "POLICY_DENIED")
		h.write(host.ConfigFile, preloading(host.StubEngine))
		h.reload()
		_, err = c.Preload(ctx, "", real)
		if r := h.refused(err, 403, "POLICY_DENIED"); !strings.Contains(r.Message, llamaServer) {
			t.Errorf("%+v", r)
		}
		h.write(host.ConfigFile, preloading(host.StubEngine, llamaServer))
		h.reload()
	})
	var is orchestrator.Preloaded
	t.Run("a_real_engine_becomes_ready_and_answers", func(t *testing.T) {
		h := h.in(t)
		var err error
		is, err = c.Preload(ctx, "", real)
		must(t, err)
		if is.HandoffPath != handoffOf("real") {
			t.Errorf("%+v", is)
		}
		f := h.handoff("real", "there", func(orchestrator.Handoff) bool { return true })
		if *f.PID != is.PID || f.URL != "http://127.0.0.1:9000" || f.Mode != "binary" ||
			*f.ModelPath != host.TinyModel ||
			f.SlotsTotal != 2 || *f.EngineVersion == "" {
			t.Errorf("%+v", f)
		}
		var answer struct{ Content string }
		h.engineAnswer("real", "/completion", `{"prompt":"a","n_predict":4}`, &answer)
		if out := h.must("poolctl", "list"); !strings.Contains(out, "preload") {
			t.Errorf("not marked:\n%s", out)
		}
		if out := h.must("poolctl", "status", "real"); !strings.Contains(out, "another program") {
			t.Errorf("not marked:\n%s", out)
		}
		log := h.must("journalctl", "--no-pager", "--output=json", "--unit="+host.ManagerUnit)
		if !strings.Contains(log, `"IDENTITY":"localhost"`) || !strings.Contains(log, "pool real: the preload is asked for by localhost") {
			t.Error("no line with who asked")
		}
	})
	t.Run("again_is_the_same_and_another_is_refused", func(t *testing.T) {
		h := h.in(t)
		again, err := c.Preload(ctx, "/v2", real)
		must(t, err)
		if again != is {
			t.Errorf("%+v, was %+v", again, is)
		}
		other := real
		other.Flags = append(other.Flags[:len(other.Flags):len(other.Flags)], "--no-warmup")
		_, err = c.Preload(ctx, "/v1", other)
		h.refused(err, 409, "POOL_EXISTS")
		h.pool("file", stub().quick())
		h.reload()
		h.wait("file", isReady)
		other.PoolID = "file"
		_, err = c.Preload(ctx, "/v1", other)
		h.refused(err, 409, "POOL_FROM_FILE")
		h.refused(c.Remove(ctx, "", "file"), 409, "POOL_FROM_FILE")
	})
	t.Run("survives_the_manager_and_its_directory", func(t *testing.T) {
		h := h.in(t)
		lease, err := c.Acquire(ctx, "real", "", time.Hour)
		must(t, err)
		for _, end := range []string{"systemctl kill --kill-whom=main --signal=KILL pool-managerd", "systemctl restart pool-managerd",
			"systemctl reload pool-managerd"} {
			h.shell(end)
			if p := h.wait("real", isReady, leases(1)); p.Replicas[0].PID != is.PID {
				t.Errorf("after %s: process %d, was %d", end, p.Replicas[0].PID, is.PID)
			}
		}
		must(t, c.Release(ctx, lease))
		h.shell("rm -rf /run/pool-managerd; systemctl restart pool-managerd.socket pool-managerd")
		h.handoff("real", "there", func(f orchestrator.Handoff) bool { return *f.PID == is.PID })
		if again, err := c.Preload(ctx, "", real); err != nil || again != is {
			t.Errorf("%+v, %v; was %+v", again, err, is)
		}
	})
	t.Run("crashes_as_any_engine", func(t *testing.T) {
		h := h.in(t)
		h.shell(fmt.Sprintf("kill -9 %d", is.PID))
		f := h.handoff("real", "another process", func(f orchestrator.Handoff) bool { return *f.PID != is.PID })
		again, err := c.Preload(ctx, "", real)
		must(t, err)
		if again.PID != *f.PID {
			t.Errorf("%+v, the file has %d", again, *f.PID)
		}
	})
	slow := make(chan error, 1) // a load that takes longer than any other request may
	go func() {
		a, err := h.Send(ctx, http.MethodPost, "/v1/pools/slow/preload", standIn("slow",
			"--load 33s --load-mode log", ""))
		if err == nil && a.Status != http.StatusOK {
			err = fmt.Errorf("%d %s", a.Status, a.Body)
		}
		slow <- err
	}()
	h.preloadsFail(t)
	t.Run("a_caller_that_leaves_changes_nothing", func(t *testing.T) {
		h := h.in(t)
		h.write("/root/left.json", standIn("left", "--load 3s --load-mode log", ""))
		h.shell("! curl --silent --max-time 1 --unix-socket " + host.Socket + " -H 'Content-Type: application/json' " +
			"-d @/root/left.json http://localhost/pools/left/preload")
		h.wait("left", isReady)
		must(t, c.Remove(ctx, "", "left"))
		h.waitGone("left")
	})
	t.Run("a_load_of_any_length", func(t *testing.T) {
		must(t, <-slow)
		must(t, c.Remove(ctx, "", "slow"))
	})
	h.preloadEnds(t, real)
}

// preloadsFail: an engine that does not become ready is gone when the answer comes.
func (s *site) preloadsFail(t *testing.T) {
	s.shell("head -c 3000 " + host.TinyModel + " >/srv/models/broken.gguf; cp " + host.StubEngine +
		" /usr/local/bin/other-engine")
	s.squat("squatter", "9100")
	defer s.shell("rm /srv/models/broken.gguf /usr/local/bin/other-engine")
	for _, c := range []struct {
		name, body string
		status     int
		code, says string
	}{
		{"broken_model", strings.Replace(standIn("bad", "", ""), host.TinyModel, "/srv/models/broken.gguf", 1), 422, "PROVISION_FAILED", ""},
		{"no_model", strings.Replace(standIn("bad", "", ""), host.TinyModel, "/srv/models/none.gguf", 1), 422, "MODEL_NOT_FOUND", "none.gguf"},
		{"crash", standIn("bad", "--crash-after 200ms --load 1m", ""), 502, "ENGINE_START_FAILED", ""},
		{"port_taken", standIn("bad", "--port 9100", ""), 409, "PORT_IN_USE", "9100"},
		{"too_slow", standIn("bad", "--load 1h", `,"deadline_ms":2000`), 504, "ENGINE_START_TIMEOUT", ""},
		{"not_allowed", strings.Replace(standIn("bad", "", ""), host.StubEngine, "/usr/local/bin/other-engine", 1), 403, "POLICY_DENIED", ""},
		{"other_host", standIn("bad", "--host 0.0.0.0", ""), 400, "INVALID_PARAMS", "0.0.0.0"},
		{"no_such_device", strings.Replace(standIn("bad", "", ""), `"pool_id"`, `"device_mask":"7","pool_id"`, 1), 503, "GPU_UNAVAILABLE", "GPU"},
	} {
		t.Run("fails/"+c.name, func(t *testing.T) {
			h := s.in(t)
			a := h.answer(c.status, http.MethodPost, "/pools/bad/preload", c.body)
			if a["code"] != c.code || !strings.Contains(fmt.Sprint(a["message"]), c.says) || a["hint"] == nil {
				t.Errorf("%v", a)
			}
			h.noUnit("bad")
			h.answer(http.StatusNotFound, http.MethodGet, "/v1/pools/bad", "")
		})
	}
}

// preloadEnds: a removal drains, and ends leases at the deadline; a policy that is withdrawn does
// as much.
func (s *site) preloadEnds(t *testing.T, real orchestrator.Prepared) {
	ctx, cancel := s.within(2 * time.Minute)
	defer cancel()
	c := s.client()
	t.Run("removed_after_a_drain", func(t *testing.T) {
		h := s.in(t)
		lease, err := c.Acquire(ctx, "real", "", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Remove(ctx, "/v2", "real"); err != nil {
			t.Fatal(err)
		}
		h.noHandoff("real")
		if p := h.get("real"); !p.Draining {
			t.Errorf("%s", p)
		}
		_, err = c.Preload(ctx, "", real)
		h.refused(err, 409, "POOL_EXISTS")
		h.waitGone("real")
		h.noUnit("real")
		var r *orchestrator.Refused
		if err := c.Renew(ctx, lease, time.Minute); !errors.As(err, &r) || r.HTTPStatus != 404 {
			t.Errorf("the lease: %v", err)
		}
		h.refused(c.Remove(ctx, "", "real"), 404, "POOL_NOT_FOUND")
		if _, err := c.Preload(ctx, "", real); err != nil {
			t.Error(err)
		}
	})
	t.Run("and_gone_where_the_policy_is_withdrawn", func(t *testing.T) {
		h := s.in(t)
		h.write(host.ConfigFile, host.Config)
		h.reload()
		h.wait("real", failsWith("POLICY_DENIED"))
		h.eventually(func(context.Context) error {
			if out := h.shell("systemctl list-units --all --plain --no-legend 'pool-engine@real.*'"); out != "" {
				return errors.New(out)
			}
			return nil
		})
		if err := c.Remove(ctx, "", "real"); err != nil {
			t.Error(err)
		}
		h.waitGone("real")
		h.noHandoff("real")
	})
}
