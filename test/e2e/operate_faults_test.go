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
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestDrainOverDeathsOfTheManager: whenever the manager is killed, a drain ends at its deadline,
// with the number of leases that it cut.
func TestDrainOverDeathsOfTheManager(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub("--ignore-term").with("slots = 2").quick())
	h.reload()
	for i := range 20 {
		h.wait("a", isReady)
		held := h.lease("a", time.Hour)
		began := time.Now()
		h.answer(http.StatusAccepted, "POST", "/v1/pools/a/drain", `{"deadline_ms":1500}`)
		time.Sleep(time.Duration(i*937%3000) * time.Millisecond)
		h.killManager()
		h.must("systemctl", "reset-failed", host.ManagerUnit)
		p := h.wait("a", inState("stopped"), failsWith("DRAIN_TIMEOUT"), leases(0))
		if !strings.Contains(p.LastError, "1 lease") || p.Live || p.Ready {
			t.Errorf("%d: %s", i, p)
		}
		if took := time.Since(began); took < 1500*time.Millisecond {
			t.Errorf("%d: stopped after %s", i, took)
		}
		if running := h.engines(); len(running) != 0 {
			t.Errorf("%d: still running: %v", i, running)
		}
		h.answer(http.StatusGone, "PUT", held, "")
		h.must("poolctl", "resume", "a")
	}
}

// TestOperationsOverABusAndAPID1: what is under way when the message bus or PID 1 is restarted ends
// as it was asked for.
func TestOperationsOverABusAndAPID1(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.shell("cp /srv/models/tiny.gguf /srv/models/b.gguf && chmod 644 /srv/models/b.gguf")
	for _, c := range []struct{ name, do string }{
		{"bus_restarted", "systemctl restart dbus.service"},
		{"bus_killed", "systemctl kill --kill-whom=main --signal=KILL dbus.service; systemctl start dbus.service"},
		{"daemon_reexec", "systemctl daemon-reexec"},
		{"daemon_reload", "systemctl daemon-reload"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			// Each start and stop takes two seconds, so that PID 1 has a job when it happens.
			h.pool("a", stub("--load", "2s", "--unload", "2s").with("slots = 2").quick())
			h.pool("b", stub("--load", "2s").with("slots = 2").quick())
			h.reload()
			h.wait("a", isReady)
			run := h.wait("b", isReady).Replicas[0]
			model := "b"
			if strings.HasSuffix(h.get("b").ModelID, "/b.gguf") {
				model = "tiny"
			}
			for i := range 3 {
				h.answer(http.StatusAccepted, "POST", "/v1/pools/a/drain", `{"deadline_ms":20000}`)
				if i == 0 {
					h.answer(http.StatusAccepted, "POST", "/v1/pools/b/reload", `{"new_model_ref":"file:/srv/models/`+
						model+`.gguf"}`)
				}
				time.Sleep(time.Duration(i) * 700 * time.Millisecond)
				h.shell(c.do)
				h.wait("a", inState("stopped"))
				h.must("poolctl", "resume", "a")
				time.Sleep(time.Duration(i) * 700 * time.Millisecond)
				h.shell(c.do)
				h.wait("a", isReady, restarted(0))
			}
			p := h.wait("b", isReady, condition{"reloaded", func(p host.Pool) bool {
				return p.Reload == nil && len(p.Replicas) == 1 && p.ModelID == "file:/srv/models/"+model+".gguf"
			}})
			if p.Replicas[0].PID == run.PID || p.LastError != "" {
				t.Errorf("%+v, it was %+v", p, run)
			}
		})
	}
}

// TestDrainWaitsForTheEngine: work that came without a lease is finished before an engine is
// stopped.
func TestDrainWaitsForTheEngine(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub().quick())
	h.reload()
	p := h.wait("a", isReady)
	answered := make(chan string, 1)
	go func() {
		ctx, cancel := h.within()
		defer cancel()
		a, err := h.AtEndpoint(ctx, p.Replicas[0].Endpoint, "POST", "/v1/completions?delay=6s", nil)
		answered <- fmt.Sprintf("%d %v", a.Status, err)
	}()
	time.Sleep(time.Second) // it is under way
	h.must("poolctl", "drain", "a", "--deadline", "40s", "--wait")
	select {
	case got := <-answered:
		if got != "200 <nil>" {
			t.Errorf("the request: %s", got)
		}
	default:
		t.Error("the engine was stopped while it worked")
	}
	if p := h.wait("a", inState("stopped")); p.LastError != "" {
		t.Errorf("%s", p)
	}
}

// TestReloadOfReplicas: several replicas are replaced one at a time, and where the first fails no
// other is touched.
func TestReloadOfReplicas(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.shell("cd /srv/models && for m in slow crash; do cp tiny.gguf $m.gguf; done && chmod 644 *.gguf")
	three := stub().with("replicas = 3", "slots = 2")
	three.keys[2] = "devices = [[], [], []]" // in place of none
	h.pool("many", three.quick())
	h.reload()
	ready := condition{"three ready replicas", func(p host.Pool) bool {
		for _, r := range p.Replicas {
			if !r.Ready {
				return false
			}
		}
		return p.Ready && len(p.Replicas) == 3 && p.Reload == nil
	}}
	was := h.wait("many", ready)

	h.shell("! poolctl reload many --wait --model file:/srv/models/crash.gguf")
	p := h.wait("many", ready)
	for i, r := range p.Replicas {
		if r.PID != was.Replicas[i].PID {
			t.Errorf("%s: another process, though the first replica failed", r.ID)
		}
	}
	if !strings.HasPrefix(p.LastError, "ENGINE_") {
		t.Errorf("%s", p)
	}

	ctx, stop := context.WithCancel(t.Context())
	most, fewest := make(chan int, 1), make(chan int, 1)
	go func() {
		units, free := 0, 3
		for ctx.Err() == nil {
			if p, err := h.Host.Pool(ctx, "many"); err == nil {
				n := 0
				for _, r := range p.Replicas {
					if r.Ready {
						n++
					}
				}
				units, free = max(units, len(p.Replicas)), min(free, n)
			}
			time.Sleep(20 * time.Millisecond)
		}
		most <- units
		fewest <- free
	}()
	h.must2min("poolctl", "reload", "many", "--wait", "--model", "file:/srv/models/slow.gguf")
	stop()
	if n := <-most; n > 4 {
		t.Errorf("%d engines at once: not one at a time", n)
	}
	if n := <-fewest; n < 2 {
		t.Errorf("at one time only %d replicas were ready", n)
	}
	p = h.wait("many", ready)
	for i, r := range p.Replicas {
		if r.PID == was.Replicas[i].PID || p.ModelID != "file:/srv/models/slow.gguf" {
			t.Errorf("%s runs the old model", r.ID)
		}
	}
}

// TestEvents: a follower of the events receives every change of a pool, also over a restart of the
// manager.
func TestEvents(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub().with("slots = 1").quick())
	h.reload()
	h.wait("a", isReady)
	h.must("systemd-run", "--quiet", "--unit=test-events", "--property=StandardOutput=file:/run/test-events", "poolctl",
		"events", "-f", "a")
	heard := func(words ...string) {
		t.Helper()
		h.eventually(func(ctx context.Context) error {
			out, err := h.Host.Run(ctx, "cat", "/run/test-events")
			if err != nil {
				return err
			}
			for line := range strings.Lines(out) {
				all := true
				for _, w := range words {
					all = all && strings.Contains(line, w)
				}
				if all {
					return nil
				}
			}
			return fmt.Errorf("no event with %q:\n%s", words, out)
		})
	}
	heard("a")
	held := h.lease("a", time.Hour)
	h.control("a", "/stub/exit?code=7")
	heard("crash", "exited with status 7")
	heard("lease", "ENGINE_CRASHED")
	gone := h.answer(http.StatusGone, "PUT", held, "")
	if gone["code"] != "LEASE_LOST" || !strings.Contains(fmt.Sprint(gone["message"]), "exited with status 7") {
		t.Errorf("%v", gone)
	}
	h.wait("a", isReady)
	h.killManager()
	h.wait("a", isReady)
	h.must("poolctl", "drain", "a", "--wait")
	heard("drain", "no leases or requests are left")
	h.must("poolctl", "resume", "a", "--wait")
	h.must("systemctl", "stop", "test-events.service")
}

// TestExternal: an engine that is run elsewhere is probed, leased and drained, and its process is
// never touched.
func TestExternal(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	answers := condition{"ready", func(p host.Pool) bool { return p.Ready }} // its process is not known to the manager
	start := func() {
		h.must("systemd-run", "--quiet", "--unit=elsewhere", host.StubEngine, "--port", "25100")
	}
	h.pool("theirs", poolFile{keys: []string{`engine = "llamacpp"`, "slots = 2"},
		tables: []string{"[provisioning]\nmode = \"external\"\nurl = \"http://127.0.0.1:25100\""}}.
		table("health", `interval = "500ms"`, `timeout = "500ms"`, `failures = 2`, `successes = 2`))
	h.reload()
	if p := h.wait("theirs", failsWith("HEALTH_FAILED")); p.Ready {
		t.Errorf("%s", p)
	}
	start()
	p := h.wait("theirs", answers)
	pid := h.unit("elsewhere.service").MainPID
	if p.Replicas[0].Endpoint != "http://127.0.0.1:25100" || p.SlotsTotal != 2 {
		t.Errorf("%+v", p)
	}
	held := h.lease("theirs", time.Hour)
	h.killManager()
	h.wait("theirs", answers, leases(1))
	h.answer(http.StatusOK, "PUT", held, `{"ttl_ms":60000}`)
	h.must("poolctl", "drain", "theirs", "--deadline", "1s")
	h.wait("theirs", inState("stopped"), failsWith("DRAIN_TIMEOUT"), leases(0))
	h.must("poolctl", "resume", "theirs", "--wait")
	h.wait("theirs", answers)
	if now := h.unit("elsewhere.service").MainPID; now != pid {
		t.Errorf("the external engine is process %d, it was %d", now, pid)
	}
	h.must("systemctl", "stop", "elsewhere.service")
	h.wait("theirs", failsWith("HEALTH_FAILED"))
	start()
	h.wait("theirs", answers)
	h.shell("rm " + host.PoolFile("theirs"))
	h.reload()
	h.eventually(func(ctx context.Context) error {
		if list, err := h.Pools(ctx); err != nil || len(list.Pools) != 0 {
			return fmt.Errorf("still there: %+v, %w", list, err)
		}
		return nil
	})
	if !strings.Contains(h.must("systemctl", "is-active", "elsewhere.service"), "active") {
		t.Error("the external engine was stopped with its pool")
	}
	if out := h.must("systemctl", "list-units", "--all", "--no-legend", "--plain",
		"pool-engine@*"); strings.TrimSpace(out) != "" {
		t.Errorf("a unit was made for it: %s", out)
	}
	h.must("systemctl", "stop", "elsewhere.service")
}

// TestStormOfMemory: an engine that is killed for lack of memory again and again is not restarted,
// with what to lower.
func TestStormOfMemory(t *testing.T) {
	t.Parallel()
	h := lend(t, kind{release: machine.Trixie, backend: machine.VM})
	h.M.Require(t, machine.Controllers("memory"))
	// A start by PID 1 is not stopped once it has begun, and an emulated machine is slow.
	h.pool("greedy", stub().table("limits", `memory_max = "64M"`).table("restart",
		`initial = "5s"`, `factor = 1.0`, `max = "5s"`, `jitter = 0.0`, `storm_restarts = 2`,
		`storm_window = "5m"`, `breaker_failures = 50`))
	h.reload()
	for i := range 3 {
		h.wait("greedy", isReady, restarted(i))
		h.control("greedy", "/stub/alloc?bytes=268435456")
	}
	p := h.wait("greedy", failsWith("ENGINE_OOM"), condition{"held back for minutes", func(p host.Pool) bool {
		return p.BackoffMS > 60_000
	}})
	if !strings.Contains(h.must("poolctl", "events", "greedy"), "mostly by oom") {
		t.Errorf("no event reports the storm: %s", p)
	}
	if log := h.must("journalctl", "--no-pager", "-u", host.ManagerUnit); !strings.Contains(log,
		"lower ctx, slots or the size of the model, or raise limits.memory_max") {
		t.Errorf("the log does not name what to lower:\n%s", log)
	}
	if metrics := h.must("curl", "-s", "--unix-socket", host.Socket,
		"http://localhost/metrics"); !strings.Contains(metrics, `restart_storm_total{`) {
		t.Errorf("no metric counts it:\n%.2000s", metrics)
	}
	h.must("poolctl", "reset", "greedy", "--wait")
	h.wait("greedy", isReady)
}
