//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// stallAfter makes a load without any progress fail after two seconds, and restarts rare enough to
// look at the failure.
func (p poolFile) stallAfter2s() poolFile {
	return p.table("health", `interval = "500ms"`, `timeout = "500ms"`, `failures = 2`, `start_timeout = "2s"`).
		table("restart", `initial = "1s"`, `max = "2s"`, `jitter = 0.0`, `breaker_failures = 100`,
			`breaker_timeout = "3s"`)
}

// TestNotReadyHasAReason: the reason why a pool is not ready is in last_error with its code and
// a hint, and following the hint is enough.
func TestNotReadyHasAReason(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	const wrong = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	right := "sha256:" + strings.Fields(h.must("sha256sum", host.TinyModel))[0]
	h.shell(`
		cp ` + host.TinyModel + ` /srv/models/locked.gguf; chmod 0600 /srv/models/locked.gguf
		head -c 1000 ` + host.TinyModel + ` >/srv/models/torn.gguf
		systemd-run --quiet --unit=test-squatter ` + host.StubEngine + ` --port 23456`)
	model := func(name string) poolFile {
		return poolFile{keys: []string{`engine = "llamacpp"`, `model = "file:/srv/models/` + name + `.gguf"`,
			`devices = []`}}
	}
	cases := []struct {
		name string
		pool poolFile
		code string
		says string // in last_error
		hint string // a part of it
		fix  string // a script that follows the hint, "" where only a changed pool file would
	}{
		{"missing-model", model("missing"), "MODEL_NOT_FOUND", "/srv/models/missing.gguf", "", "cp " + host.TinyModel + " /srv/models/missing.gguf"},
		{"unreadable-model", model("locked"), "MODEL_NOT_FOUND", "/srv/models/locked.gguf", "chmod o+r", "chmod o+r /srv/models/locked.gguf"},
		{"wrong-digest", llama().with(`model_digest = "` + wrong + `"`), "MODEL_DIGEST_MISMATCH", right[:20], "", ""},
		{"no-binary", llama().table("provisioning", `binary = "/usr/local/bin/none"`), "PROVISION_FAILED", "/usr/local/bin/none", "", "ln -s /usr/bin/llama-server /usr/local/bin/none"},
		{"port-taken", llama().with("port = 23456"), "PORT_IN_USE", "23456", "port", "systemctl stop test-squatter"},
		{"torn-model", model("torn"), "PROVISION_FAILED", "is incomplete", "Download", "cp " + host.TinyModel + " /srv/models/torn.gguf"},
		{"crash-during-load", stub("--load", "1h", "--crash-after", "300ms", "--exit-code", "3").stallAfter2s(), "ENGINE_START_FAILED", "status 3", "", ""},
		{"stalled-load", stub("--load", "1h", "--load-mode", "stall").stallAfter2s(), "ENGINE_START_TIMEOUT", "no progress for 2s", "start_timeout", ""},
		{"stalled-without-a-listener", stub("--load", "1h", "--load-mode", "stall", "--listen-late").stallAfter2s(), "ENGINE_START_TIMEOUT", "no progress for 2s", "start_timeout", ""},
	}
	h.pool("right-digest", llama().with(`model_digest = "`+right+`"`))
	for _, c := range cases {
		h.pool(c.name, c.pool)
	}
	h.reload()
	h.wait("right-digest", isReady)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			p := h.wait(c.name, failsWith(c.code))
			if !strings.Contains(p.LastError, c.says) || !strings.Contains(p.Hint, c.hint) {
				t.Errorf("the error lacks %q with the hint %q: %s", c.says, c.hint, p)
			}
			if c.fix != "" {
				h.shell(c.fix)
				h.wait(c.name, isReady, condition{"no error", func(p host.Pool) bool { return p.LastError == "" }})
			}
		})
	}
}

// TestSlowLoadThatMovesIsNotFailed: a load that takes four times start_timeout, and shows progress
// of one kind only, becomes ready in its first attempt.
func TestSlowLoadThatMovesIsNotFailed(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	modes := []string{"cpu", "log"} // input is counted only where there is an io controller: TestLimitsAreReal
	for _, mode := range modes {
		h.pool(mode, stub("--load", "8s", "--load-mode", mode).stallAfter2s())
		h.pool(mode+"-late", stub("--load", "8s", "--load-mode", mode, "--listen-late").stallAfter2s())
	}
	h.reload()
	for _, mode := range modes {
		for _, id := range []string{mode, mode + "-late"} {
			t.Run(id, func(t *testing.T) { h.in(t).wait(id, restarted(0)) })
		}
	}
}

// TestHealth: an engine that runs and does not answer well is not ready, keeps its process, and is
// ready again when it recovers; the hand-off file comes and goes with ready.
func TestHealth(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("sick", stub().quick())
	h.pool("hung", stub().quick())
	h.pool("well", stub().quick())
	h.pool("open", stub().table("health", `interval = "500ms"`, `timeout = "500ms"`, `failures = 2`,
		`mode = "fail-open"`))
	h.reload()
	for _, id := range []string{"sick", "hung", "well", "open"} {
		h.wait(id, isReady)
	}
	before := h.engines()

	t.Run("failing_probes_take_ready_away", func(t *testing.T) {
		h := h.in(t)
		h.handedOff("sick", true)
		h.control("sick", "/stub/health?status=500")
		p := h.wait("sick", inState("unhealthy"), failsWith("HEALTH_FAILED"))
		if !strings.Contains(p.LastError, "500") || !p.Live {
			t.Errorf("%s", p)
		}
		h.handedOff("sick", false)
	})
	t.Run("passing_probes_give_it_back", func(t *testing.T) {
		h := h.in(t)
		h.control("sick", "/stub/health?status=200")
		h.wait("sick", isReady, condition{"no error", func(p host.Pool) bool { return p.LastError == "" }})
		h.handedOff("sick", true)
	})
	t.Run("an_engine_that_hangs_is_not_ready", func(t *testing.T) {
		h := h.in(t)
		h.control("hung", "/stub/hang")
		h.wait("hung", inState("unhealthy"), failsWith("HEALTH_FAILED"))
		h.handedOff("hung", false)
		h.wait("well", isReady)
	})
	t.Run("fail_open_only_reports", func(t *testing.T) {
		h := h.in(t)
		h.control("open", "/stub/health?status=500")
		h.wait("open", condition{"ready with HEALTH_FAILED", func(p host.Pool) bool {
			return p.Ready && p.Code() == "HEALTH_FAILED"
		}})
	})
	h.untouched(before)
}

// handedOff waits until the pool's hand-off file exists, or does not.
func (s *site) handedOff(id string, want bool) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		r := s.M.Run(ctx, "test", "-e", host.HandoffDir+"/"+id+".r0.json")
		if r.Err == nil && (r.ExitCode == 0) != want {
			r.Err = fmt.Errorf("the hand-off file of %s exists: %t", id, !want)
		}
		return r.Err
	})
}

// TestCrash: a crash of a ready engine takes ready and the hand-off file away at once, is reported
// with its cause, and PID 1 starts the engine again after the delay of the pool file; an engine
// that ends with status 0 has failed, too. A start script must not leave its server behind.
func TestCrash(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	long := stub().table("health", `interval = "500ms"`, `timeout = "500ms"`).table("restart", `initial = "6s"`,
		`jitter = 0.0`)
	h.pool("killed", long)
	h.pool("ended", stub().quick())
	h.pool("looping", stub().table("health", `interval = "500ms"`, `timeout = "500ms"`).
		table("restart", `initial = "100ms"`, `max = "200ms"`, `jitter = 0.0`, `breaker_failures = 3`))
	h.reload()
	for _, id := range []string{"killed", "ended", "looping"} {
		h.wait(id, isReady)
	}
	t.Run("it_waits_in_backoff_and_comes_back", func(t *testing.T) {
		h := h.in(t)
		h.control("killed", "/stub/crash")
		p := h.wait("killed", inState("backoff"), failsWith("ENGINE_CRASHED"))
		if !strings.Contains(p.LastError, "SIGKILL") || p.Live || p.BackoffMS != 6000 {
			t.Errorf("backoff_ms %d: %s", p.BackoffMS, p)
		}
		h.handedOff("killed", false)
		h.wait("killed", restarted(1), condition{"no error", func(p host.Pool) bool { return p.LastError == "" }})
		h.handedOff("killed", true)
	})
	t.Run("status_0_is_a_failure", func(t *testing.T) {
		h := h.in(t)
		h.control("ended", "/stub/exit?code=0")
		h.wait("ended", restarted(1))
	})
	t.Run("a_server_in_the_background_is_reported", func(t *testing.T) {
		h := h.in(t)
		h.write("/usr/local/bin/background", "#!/bin/sh\n"+host.StubEngine+" --load 1h \"$@\" &\n")
		h.must("chmod", "0755", "/usr/local/bin/background")
		script := command()
		script.tables = []string{"[provisioning]\nbinary = \"/usr/local/bin/background\""}
		h.pool("script", script)
		h.reload()
		p := h.wait("script", failsWith("ENGINE_START_FAILED"))
		if !strings.Contains(p.LastError, "left a process in the background") {
			t.Error(p)
		}
	})
	t.Run("a_crash_loop_is_given_up", func(t *testing.T) {
		h := h.in(t)
		h.eventually(func(ctx context.Context) error {
			p, err := h.Pool(ctx, "looping")
			if err != nil {
				return err
			}
			if p.Ready {
				h.control("looping", "/stub/exit?code=7")
			}
			if p.State != "failed" {
				return fmt.Errorf("not given up yet: %s", p)
			}
			return nil
		})
		p := h.wait("looping", inState("failed"), condition{"an error", func(p host.Pool) bool {
			return p.LastError != "" && p.Hint != ""
		}})
		if p.Ready || p.Live || p.RestartCount > 3 {
			t.Errorf("%s", p)
		}
	})
}
