//go:build machine

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
	"github.com/pool-managerd/pool-managerd/test/orchestrator"
)

// client is an orchestrator beside the manager, over TCP.
func (s *site) client() *orchestrator.Client {
	return &orchestrator.Client{Name: "orchestrator/1", Base: "http://" + host.TCPAddress,
		HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: s.M.DialContext}}}
}

// handoffOf is the hand-off file of a pool's first replica.
func handoffOf(id string) string { return path.Join(host.HandoffDir, id+".r0.json") }

// handoff reads a pool's hand-off file as an orchestrator does, and waits until it has that text.
func (s *site) handoff(id, says string, holds func(orchestrator.Handoff) bool) (f orchestrator.Handoff) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		r := s.M.Run(ctx, "cat", handoffOf(id))
		if err := r.Check(); err != nil {
			return err
		}
		var err error
		if f, err = orchestrator.ReadHandoff(handoffOf(id), []byte(r.Stdout)); err == nil && !holds(f) {
			err = fmt.Errorf("wanted %s: %s", says, r.Stdout)
		}
		return err
	})
	return f
}

// noHandoff waits until a pool has no hand-off file.
func (s *site) noHandoff(id string) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		if s.M.Run(ctx, "test", "-e", handoffOf(id)).Check() == nil {
			return errors.New("its hand-off file is still there")
		}
		return nil
	})
}

// withoutGap fails the test if a pool has no hand-off file at any moment of do, looked at a hundred
// times a second.
func (s *site) withoutGap(id string, do func()) {
	s.t.Helper()
	s.must("systemd-run", "--quiet", "--unit=gaps", "sh", "-c",
		"while :; do test -e "+handoffOf(id)+" || echo gap >>/tmp/gaps; sleep 0.01; done")
	do()
	s.must("systemctl", "stop", "gaps")
	if out := s.shell("if test -e /tmp/gaps; then cat /tmp/gaps; rm /tmp/gaps; fi"); out != "" {
		s.t.Errorf("there was no hand-off file %d times", len(strings.Fields(out)))
	}
}

// refused wants an error of that status and code.
func (s *site) refused(err error, status int, code string) *orchestrator.Refused {
	s.t.Helper()
	var r *orchestrator.Refused
	if !errors.As(err, &r) || r.HTTPStatus != status || r.Code != code {
		s.t.Fatalf("%v, want %d %s", err, status, code)
	}
	return r
}

func free(n int) func(orchestrator.Handoff) bool {
	return func(f orchestrator.Handoff) bool { return f.SlotsFree == n }
}

// TestOrchestrator: a program that was written for the documented contract finds engines, uses them
// and is not misled over a reload, a crash, a drain and a restart of the manager.
func TestOrchestrator(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.must("cp", host.TinyModel, "/srv/models/second.gguf")
	h.pool("a", stub().with("slots = 2").quick())
	h.reload()
	h.wait("a", isReady)
	ctx, cancel := h.within(5 * time.Minute)
	defer cancel()
	c := h.client()
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	t.Run("finds_the_engine_and_asks_by_post", func(t *testing.T) {
		h := h.in(t)
		f, p := h.handoff("a", "two free", free(2)), h.get("a").Replicas[0]
		if f.URL != p.Endpoint || f.PID == nil || *f.PID != p.PID || *f.Unit != p.Unit || f.ModelID != "file:"+
			host.TinyModel ||
			f.ModelPath == nil || *f.ModelPath != host.TinyModel || f.Mode != "binary" || f.DeviceMask != nil ||
			len(f.Flags) == 0 {
			t.Errorf("%+v, the API shows %+v", f, p)
		}
		for _, prefix := range []string{"", "/v1", "/v2"} {
			st, err := c.Status(ctx, prefix, "a")
			must(t, err)
			if !st.Live || !st.Ready || st.PoolID != "a" || st.SlotsTotal != 2 || st.SlotsFree != 2 ||
				st.ActiveLeases != 0 {
				t.Errorf("%s: %+v", prefix, st)
			}
		}
		_, err := c.Status(ctx, "", "absent")
		if r := h.refused(err, 404, "POOL_NOT_FOUND"); r.Text != "pool absent not found" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("takes_renews_and_returns_slots_and_waits_for_one", func(t *testing.T) {
		h := h.in(t)
		first, err := c.Acquire(ctx, "a", "", time.Minute)
		must(t, err)
		second, err := c.Acquire(ctx, "a", "r0", time.Minute)
		must(t, err)
		f := h.handoff("a", "none free", free(0))
		if first.Endpoint != f.URL || second.ReplicaID == "" {
			t.Errorf("%+v, %+v, the file has %s", first, second, f.URL)
		}
		must(t, c.Renew(ctx, first, time.Minute))
		_, err = c.TryAcquire(ctx, "a", "", time.Minute)
		if r := h.refused(err, 429, "SLOTS_EXHAUSTED"); r.RetryAfter == 0 || r.PolicyLabel != "reject" ||
			r.Engine != "llamacpp" || !r.Retriable {
			t.Errorf("%+v", r)
		}
		released := time.AfterFunc(1500*time.Millisecond, func() { _ = c.Release(ctx, first) })
		defer released.Stop()
		third, err := c.Acquire(ctx, "a", "", time.Minute)
		must(t, err)
		must(t, c.Release(ctx, second))
		must(t, c.Release(ctx, third))
		h.handoff("a", "two free", free(2))
	})
	t.Run("follows_a_reload_that_starts_the_new_engine_beside", func(t *testing.T) {
		h := h.in(t)
		before := h.handoff("a", "there", func(orchestrator.Handoff) bool { return true })
		held, err := c.Acquire(ctx, "a", "r0", time.Minute)
		must(t, err)
		h.withoutGap("a", func() {
			must(t, c.Reload(ctx, "", "a", "file:/srv/models/second.gguf"))
			h.eventually(func(ctx context.Context) error { // the old one keeps its leases
				l, err := c.TryAcquire(ctx, "a", "r0", time.Minute)
				if err != nil {
					return err
				}
				defer func() { _ = c.Release(ctx, l) }()
				if l.Endpoint == before.URL {
					return errors.New("new leases still go to the old engine")
				}
				return c.Renew(ctx, held, time.Minute)
			})
			must(t, c.Release(ctx, held))
			h.waitFor(time.Minute, "a", isReady, condition{"reloaded", func(p host.Pool) bool {
				return p.Reload == nil && len(p.Replicas) == 1
			}})
			after := h.handoff("a", "the new model", func(f orchestrator.Handoff) bool {
				return f.ModelID == "file:/srv/models/second.gguf"
			})
			if after.URL == before.URL || after.ReplicaID != "r0" || *after.PID == *before.PID ||
				*after.ModelPath != "/srv/models/second.gguf" {
				t.Errorf("before %+v, after %+v", before, after)
			}
		})
		l, err := c.Acquire(ctx, "a", "r0", time.Minute)
		must(t, err)
		must(t, c.Release(ctx, l))
		must(t, c.Reload(ctx, "/v2", "a", "file:"+host.TinyModel))
		h.handoff("a", "the first model again", func(f orchestrator.Handoff) bool {
			return f.ModelID == "file:"+host.TinyModel && f.SlotsFree == 2
		})
		h.wait("a", isReady, condition{"reloaded", func(p host.Pool) bool {
			return p.Reload == nil && len(p.Replicas) == 1
		}})
	})
	t.Run("sees_a_crash_and_the_new_process", func(t *testing.T) {
		h := h.in(t)
		before := h.handoff("a", "two free", free(2))
		h.control("a", "/stub/crash")
		after := h.handoff("a", "another process", func(f orchestrator.Handoff) bool { return *f.PID != *before.PID })
		if after.URL != before.URL || after.ModelID != before.ModelID {
			t.Errorf("before %+v, after %+v", before, after)
		}
	})
	t.Run("drains_by_an_alias_and_resumes", func(t *testing.T) {
		h := h.in(t)
		must(t, c.Drain(ctx, "/v2", "a", 5*time.Second))
		h.noHandoff("a")
		st, err := c.Status(ctx, "", "a")
		must(t, err)
		if st.Ready || st.SlotsFree != 0 {
			t.Errorf("%+v", st)
		}
		_, err = c.TryAcquire(ctx, "a", "", time.Minute)
		h.refused(err, 409, "POOL_DRAINING")
		must(t, c.Resume(ctx, "a"))
		h.handoff("a", "two free", free(2))
	})
	t.Run("is_not_misled_by_a_restart_of_the_manager", func(t *testing.T) {
		h := h.in(t)
		h.wait("a", isReady)
		held, err := c.Acquire(ctx, "a", "", time.Hour)
		must(t, err)
		before := h.handoff("a", "one free", free(1))
		h.withoutGap("a", func() {
			h.killManager()
			h.wait("a", isReady, leases(1))
			h.must("systemctl", "restart", host.ManagerUnit)
			h.wait("a", isReady, leases(1))
			time.Sleep(time.Second) // a change that comes a second late counts too
		})
		after := h.handoff("a", "one free", free(1))
		if after.URL != before.URL || *after.PID != *before.PID ||
			strings.Join(after.Flags, " ") != strings.Join(before.Flags, " ") {
			t.Errorf("before %+v, after %+v", before, after)
		}
		must(t, c.Renew(ctx, held, time.Minute))
		must(t, c.Release(ctx, held))
	})
}

// TestOneQuestionForOneBinary: eight pools of a binary whose version is not known yet ask it once
// and start, none of them after a failure (field case 27).
func TestOneQuestionForOneBinary(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.must("cp", host.StubEngine, "/usr/local/bin/never-asked")
	for i := range 8 {
		h.pool(fmt.Sprintf("p%d", i), poolFile{
			keys:   []string{`engine = "llamacpp"`, `model = "file:` + host.TinyModel + `"`, `devices = []`},
			tables: []string{"[provisioning]\nbinary = \"/usr/local/bin/never-asked\""},
		})
	}
	h.reload()
	for i := range 8 {
		if p := h.wait(fmt.Sprintf("p%d", i), restarted(0)); p.EngineVersion == "" {
			t.Errorf("no version: %s", p)
		}
	}
	log := h.must("journalctl", "--no-pager", "--output=cat", "--unit="+host.ManagerUnit, "--since=@"+
		fmt.Sprint(h.began.Unix()))
	if strings.Contains(log, "PROVISION_FAILED") || strings.Contains(log, "already loaded") ||
		strings.Contains(log, "could not query") {
		t.Errorf("a pool failed first:\n%s", log)
	}
	asked := 0
	for line := range strings.Lines(h.must("journalctl", "--no-pager", "--output=cat", "--since=@"+
		fmt.Sprint(h.began.Unix()), "_PID=1")) {
		if strings.HasPrefix(line, "Starting pool-probe-") && strings.Contains(line, "never-asked") {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}
