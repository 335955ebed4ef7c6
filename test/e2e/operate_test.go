//go:build machine

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// answer sends a request to the API and wants that status.
func (s *site) answer(status int, method, path, body string) map[string]any {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	a, err := s.Send(ctx, method, path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	var v map[string]any
	if a.Status != status || len(a.Body) > 0 && json.Unmarshal(a.Body, &v) != nil {
		s.t.Fatalf("%s %s %s: %d %s, want %d", method, path, body, a.Status, a.Body, status)
	}
	return v
}

// lease takes a slot of a pool and returns the path of the lease.
func (s *site) lease(id string, ttl time.Duration) string {
	s.t.Helper()
	l := s.answer(http.StatusCreated, "POST", "/v1/pools/"+id+"/leases",
		fmt.Sprintf(`{"holder":"test","ttl_ms":%d}`, ttl.Milliseconds()))
	return "/v1/pools/" + id + "/leases/" + fmt.Sprint(l["lease_id"])
}

// killManager ends the daemon as a crash does; PID 1 starts it again.
func (s *site) killManager() {
	s.t.Helper()
	s.must("systemctl", "kill", "--kill-whom=main", "--signal=KILL", host.ManagerUnit)
}

func leases(n int) condition {
	return condition{fmt.Sprintf("%d leases", n), func(p host.Pool) bool { return p.ActiveLeases == n }}
}

// TestLeases: a lease is counted, survives the manager, and ends with its time, its engine or its
// holder's word.
func TestLeases(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub().with("slots = 2").quick())
	h.reload()
	h.wait("a", isReady)

	t.Run("no_more_than_there_are_slots", func(t *testing.T) {
		h := h.in(t)
		first, second := h.lease("a", time.Hour), h.lease("a", time.Hour)
		h.answer(http.StatusTooManyRequests, "POST", "/v1/pools/a/leases", "")
		if p := h.get("a"); p.SlotsFree != 0 || p.ActiveLeases != 2 {
			t.Errorf("%d free, %d leases", p.SlotsFree, p.ActiveLeases)
		}
		for range 2 {
			h.answer(http.StatusNoContent, "DELETE", first, "")
		}
		h.answer(http.StatusNoContent, "DELETE", second, "")
		if p := h.get("a"); p.SlotsFree != 2 {
			t.Errorf("%d free", p.SlotsFree)
		}
	})
	t.Run("it_outlives_the_manager_and_expires_on_time", func(t *testing.T) {
		h := h.in(t)
		kept, expiring := h.lease("a", time.Hour), h.lease("a", 2*time.Second)
		h.killManager()
		h.wait("a", isReady, leases(1)) // the second has expired, with or without a manager
		h.answer(http.StatusOK, "PUT", kept, `{"ttl_ms":60000}`)
		gone := h.answer(http.StatusGone, "PUT", expiring, "")
		if gone["code"] != "LEASE_LOST" {
			t.Errorf("%v", gone)
		}
		h.answer(http.StatusNoContent, "DELETE", kept, "")
	})
	t.Run("it_ends_with_its_engine", func(t *testing.T) {
		h := h.in(t)
		held := h.lease("a", time.Hour)
		h.control("a", "/stub/crash")
		h.wait("a", leases(0))
		gone := h.answer(http.StatusGone, "PUT", held, "")
		if text := fmt.Sprint(gone["message"]); gone["code"] != "LEASE_LOST" ||
			!strings.Contains(text, "ENGINE_CRASHED") || !strings.Contains(text, "SIGKILL") {
			t.Errorf("%v", gone)
		}
		h.wait("a", isReady)
	})
}

// TestDrain: a pool that an operator drains takes no new work, is stopped when nothing is held or
// at the deadline, and stays so.
func TestDrain(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub("--ignore-term").with("slots = 2").quick())
	h.reload()
	h.wait("a", isReady)

	t.Run("resume_keeps_the_process", func(t *testing.T) {
		h := h.in(t)
		run, held := h.engine("a"), h.lease("a", time.Hour)
		h.answer(http.StatusAccepted, "POST", "/v1/pools/a/drain", `{"deadline_ms":60000}`)
		h.wait("a", inState("draining"))
		h.answer(http.StatusConflict, "POST", "/v1/pools/a/leases", "")
		h.killManager()
		h.wait("a", inState("draining"), leases(1))
		h.must("poolctl", "resume", "a", "--wait")
		h.wait("a", isReady, inRun(run), leases(1))
		h.answer(http.StatusNoContent, "DELETE", held, "")
	})
	t.Run("at_the_deadline_what_is_held_is_cut_and_the_engine_ends", func(t *testing.T) {
		h := h.in(t)
		held := h.lease("a", time.Hour)
		began := time.Now()
		h.answer(http.StatusAccepted, "POST", "/v1/pools/a/drain", `{"deadline_ms":600000}`)
		h.answer(http.StatusAccepted, "POST", "/v1/pools/a/drain", `{"deadline_ms":3000}`)
		h.killManager()
		p := h.wait("a", inState("stopped"), leases(0))
		if p.Code() != "DRAIN_TIMEOUT" || !strings.Contains(p.LastError, "1 lease") || p.Live || p.Ready {
			t.Errorf("%s", p)
		}
		if took := time.Since(began); took < 3*time.Second {
			t.Errorf("stopped after %s", took)
		}
		gone := h.answer(http.StatusGone, "PUT", held, "")
		if !strings.Contains(fmt.Sprint(gone["message"]), "DRAIN_TIMEOUT") {
			t.Errorf("%v", gone)
		}
	})
	t.Run("it_stays_stopped_until_it_is_resumed", func(t *testing.T) {
		h := h.in(t)
		h.must("systemctl", "restart", host.ManagerUnit)
		h.wait("a", inState("stopped"), failsWith("DRAIN_TIMEOUT"))
		h.answer(http.StatusAccepted, "POST", "/v1/pools/a/drain", "")
		h.wait("a", inState("stopped"))
		h.must("poolctl", "resume", "a", "--wait")
		h.wait("a", isReady)
	})
	t.Run("two_operators_at_once", func(t *testing.T) {
		h := h.in(t)
		h.shell(`for i in 1 2 3 4 5; do poolctl drain a & poolctl resume a & done; wait`)
		h.must("poolctl", "resume", "a", "--wait")
		h.wait("a", isReady)
	})
	for _, c := range []struct{ name, option, fill string }{
		{"a_full_disk_refuses_it_and_costs_nothing", "size=256k", "dd if=/dev/zero of=filler bs=4k 2>/dev/null || true"},
		{"a_disk_without_inodes_too", "nr_inodes=64", "n=0; mkdir filler; while touch filler/$((n+=1)) 2>/dev/null; do :; done"},
	} {
		t.Run(c.name, func(t *testing.T) { h.in(t).drainedOnAFullDisk(c.option, c.fill) })
	}
}

// drainedOnAFullDisk asks for a drain while the state directory is one of a file system with that
// option, which the command fills.
func (h *site) drainedOnAFullDisk(option, fill string) {
	run := h.engine("a")
	h.shell(`systemctl stop pool-managerd.service && mount -t tmpfs -o mode=700,` + option + ` none /var/lib/pool-managerd &&
		(cd /var/lib/pool-managerd; ` + fill + `); df -i /var/lib/pool-managerd; systemctl start pool-managerd.service`)
	h.wait("a", isReady, inRun(run))
	refused := h.answer(http.StatusServiceUnavailable, "POST", "/v1/pools/a/drain", "")
	if refused["code"] != "STATE_NOT_SAVED" || !strings.Contains(fmt.Sprint(refused["hint"]), "Make room") {
		h.t.Errorf("%v", refused)
	}
	h.wait("a", isReady, inRun(run))
	h.shell(`rm -r /var/lib/pool-managerd/filler`)
	h.must("poolctl", "drain", "a", "--wait")
	h.shell(`systemctl stop pool-managerd.service && umount /var/lib/pool-managerd && systemctl start pool-managerd.service`)
	h.wait("a", isReady) // what was asked while the other disk was there went with it
}

// TestReloadOfAModel: a pool goes to another model all or nothing.
func TestReloadOfAModel(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.shell("cd /srv/models && for m in b slow crash; do cp tiny.gguf $m.gguf; done && chmod 644 *.gguf")
	h.pool("a", stub().with("slots = 4").quick())
	h.pool("fixed", stub().with("slots = 4", "port = 24444").quick())
	h.reload()
	h.wait("a", isReady)
	h.wait("fixed", isReady)

	t.Run("beside_without_a_failed_request", func(t *testing.T) {
		h := h.in(t)
		ctx, stop := context.WithCancel(t.Context())
		failed := make(chan int, 1)
		go func() { failed <- h.useWhile(ctx, "a") }()
		h.must("poolctl", "reload", "a", "--model", "file:/srv/models/slow.gguf", "--deadline", "20s", "--wait")
		stop()
		if n := <-failed; n != 0 {
			t.Errorf("%d requests failed", n)
		}
		p := h.wait("a", isReady)
		if p.ModelID != "file:/srv/models/slow.gguf" || p.Override == nil || len(p.Replicas) != 1 {
			t.Errorf("%+v", p)
		}
	})
	t.Run("what_cannot_be_put_in_force_leaves_the_process", func(t *testing.T) {
		h := h.in(t)
		h.must("poolctl", "reload", "a", "--forget", "--wait")
		was := h.wait("a", isReady).Replicas[0]
		for model, code := range map[string]string{"nope": "MODEL_NOT_FOUND", "crash": "ENGINE_"} {
			h.shell("! poolctl reload a --wait --model file:/srv/models/" + model + ".gguf")
			p := h.wait("a", isReady)
			if is := p.Replicas[0]; is.PID != was.PID || is.InvocationID != was.InvocationID ||
				!strings.HasPrefix(p.LastError, code) || p.Reload != nil {
				t.Errorf("%s: %+v", model, p)
			}
		}
		held := h.lease("a", time.Hour)
		h.shell("! poolctl reload a --wait --deadline 1s --model file:/srv/models/b.gguf")
		p := h.wait("a", isReady, leases(1))
		if p.Replicas[0].PID != was.PID || p.Code() != "DRAIN_TIMEOUT" {
			t.Errorf("%+v", p)
		}
		h.answer(http.StatusNoContent, "DELETE", held, "")
	})
	t.Run("in_place_and_back", func(t *testing.T) {
		h := h.in(t)
		h.shell("! poolctl reload fixed --wait --model file:/srv/models/crash.gguf")
		if p := h.wait("fixed", isReady); p.ModelID != "file:"+host.TinyModel ||
			!strings.HasPrefix(p.LastError, "ENGINE_") {
			t.Errorf("%+v", p)
		}
		h.must("poolctl", "reload", "fixed", "--wait", "--model", "file:/srv/models/b.gguf")
		if p := h.wait("fixed", isReady); p.ModelID != "file:/srv/models/b.gguf" || p.LastError != "" {
			t.Errorf("%+v", p)
		}
	})
	t.Run("a_changed_file_that_does_not_load_is_gone_back_from", func(t *testing.T) {
		h := h.in(t)
		was := h.wait("a", isReady).Replicas[0]
		h.pool("a", stub("--crash-after", "100ms", "--load", "1h").with("slots = 4").quick())
		h.reload()
		p := h.wait("a", isReady, condition{"rolled back", func(p host.Pool) bool {
			return p.Reload == nil && p.LastError != ""
		}})
		if p.Replicas[0].PID != was.PID {
			t.Errorf("%+v", p)
		}
		h.pool("a", stub().with("slots = 4").quick())
		h.reload()
		h.wait("a", isReady, condition{"no error", func(p host.Pool) bool {
			return p.LastError == "" && p.Replicas[0].PID == was.PID
		}})
	})
	t.Run("the_manager_dies_at_any_point", func(t *testing.T) {
		h := h.in(t)
		models := []string{"slow", "tiny"}
		for i := range 20 {
			model := models[i%2]
			h.answer(http.StatusAccepted, "POST", "/v1/pools/a/reload", `{"new_model_ref":"file:/srv/models/`+model+
				`.gguf","deadline_ms":5000}`)
			time.Sleep(time.Duration(i*137%2500) * time.Millisecond)
			h.killManager()
			h.must("systemctl", "reset-failed", host.ManagerUnit)
			h.waitFor(2*patience, "a", isReady, condition{"reloaded to " + model, func(p host.Pool) bool {
				return p.Reload == nil && len(p.Replicas) == 1 && p.ModelID == "file:/srv/models/"+model+".gguf"
			}})
		}
	})
}

// useWhile uses a pool as the orchestrator does, lease by lease, and returns how many of its
// requests failed before ctx ended.
func (s *site) useWhile(ctx context.Context, id string) (failed int) {
	for ctx.Err() == nil {
		if err := s.useOnce(id); err != nil {
			s.t.Log(err)
			failed++
		}
		time.Sleep(20 * time.Millisecond)
	}
	return failed
}

// useOnce takes a lease, sends a request to the engine that it names, and gives it back.
func (s *site) useOnce(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	a, err := s.Send(ctx, "POST", "/v1/pools/"+id+"/leases", "")
	if err != nil || a.Status != http.StatusCreated {
		return fmt.Errorf("no lease: %d %s %w", a.Status, a.Body, err)
	}
	var l struct {
		ID       string `json:"lease_id"`
		Endpoint string `json:"endpoint"`
	}
	if err := json.Unmarshal(a.Body, &l); err != nil {
		return err
	}
	if a, err := s.AtEndpoint(ctx, l.Endpoint, "POST", "/v1/completions?delay=20ms", nil); err != nil ||
		a.Status != http.StatusOK {
		return fmt.Errorf("the engine: %d %s %w", a.Status, a.Body, err)
	}
	if a, err := s.Send(ctx, "DELETE", "/v1/pools/"+id+"/leases/"+l.ID, ""); err != nil ||
		a.Status != http.StatusNoContent {
		return fmt.Errorf("not released: %d %s %w", a.Status, a.Body, err)
	}
	return nil
}
