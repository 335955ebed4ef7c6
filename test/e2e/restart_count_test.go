//go:build machine

package e2e

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// dying is a pool of an engine that logs "run" and a line, and ends with status 1 at once.
func (s *site) dying(line string) poolFile {
	s.t.Helper()
	const binary = "/usr/local/bin/dying-engine"
	ctx, cancel := s.within()
	defer cancel()
	script := "#!/bin/sh\n[ \"$1\" = --version ] && echo 'version: 5000 (abcdef)' && exit 0\n" +
		"echo run\n[ -n \"$LINE\" ] && echo \"$LINE\"\nexit 1\n"
	if err := s.M.WriteFile(ctx, binary, []byte(script), 0o755); err != nil {
		s.t.Fatal(err)
	}
	return poolFile{
		keys:   []string{`engine = "llamacpp"`, `model = "file:` + host.TinyModel + `"`, `devices = []`},
		tables: []string{"[provisioning]\nbinary = \"" + binary + "\"", fmt.Sprintf("[env]\nLINE = %q", line)},
	}
}

// runs are the times at which a pool's dying engine was executed, by its own log.
func (s *site) runs(id string) (at []time.Duration) {
	s.t.Helper()
	s.must("journalctl", "--sync")
	out := s.must("journalctl", "--no-pager", "-o", "short-unix", "-u", host.EngineUnit(id))
	for line := range strings.Lines(out) {
		stamp, rest, _ := strings.Cut(line, " ")
		if !strings.HasSuffix(strings.TrimSpace(rest), ": run") {
			continue
		}
		seconds, err := strconv.ParseFloat(stamp, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		at = append(at, time.Duration(seconds*float64(time.Second)))
	}
	return at
}

// TestEachRunIsCountedOnce: limits of restarts are exact, seen from outside, on each systemd. A
// busy host makes waits longer, and no count wrong.
func TestEachRunIsCountedOnce(t *testing.T) {
	t.Parallel()
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			t.Run("thirty_breakers_open_after_exactly_their_runs", func(t *testing.T) { h.in(t).exactRuns() })
			t.Run("a_storm_is_one_failure_above_its_limit", func(t *testing.T) { h.in(t).stormAtItsLimit() })
			t.Run("cuda_errors_wait_longer_each_time", func(t *testing.T) { h.in(t).cudaWaitsDouble() })
			t.Run("each_class_has_its_own_breaker", func(t *testing.T) { h.in(t).twoOfEachClass() })
			t.Run("a_reload_beside_keeps_the_count", func(t *testing.T) { h.in(t).reloadKeepsTheCount() })
			t.Run("a_reset_forgets_what_failed_before", func(t *testing.T) { h.in(t).singleCrashAfterReset() })
		})
	}
}

// longest is how long a row of failures may take on a host that is busy with those of other tests.
const longest = 6 * patience

// atLast waits until look returns nil.
func (s *site) atLast(look func(context.Context) error) {
	s.t.Helper()
	ctx, cancel := s.within(longest)
	defer cancel()
	if err := host.Eventually(ctx, look); err != nil {
		s.t.Fatal(err)
	}
}

// exactRuns: a breaker opens after as many runs as it says, of one engine that fails as fast as it
// can and of thirty at once, and nothing is executed after that.
func (s *site) exactRuns() {
	s.t.Helper()
	s.pool("fast", s.dying("").table("restart", `initial = "100ms"`, `factor = 1.0`, `max = "100ms"`,
		`breaker_failures = 5`))
	pools := []string{"fast"}
	for i := range 30 {
		pools = append(pools, fmt.Sprintf("many%d", i))
		s.pool(pools[len(pools)-1], s.dying("")) // the default is 5
	}
	s.reload()
	for _, id := range pools {
		s.waitFor(longest, id, breaker("open"))
	}
	for _, id := range pools {
		if runs, p := len(s.runs(id)), s.get(id); runs != 5 || p.RestartCount != 4 || p.Breaker != "open" ||
			!strings.Contains(p.LastError, "5 failures in a row") {
			s.t.Errorf("%s: the breaker is %s after %d runs, restart_count %d, want open after 5 and 4: %s\n%s", id,
				p.Breaker, runs, p.RestartCount, p.LastError, s.storyOf(id))
		}
		s.removePool(id)
	}
	s.reload()
}

// storyOf is what the manager and PID 1 logged of a pool.
func (s *site) storyOf(id string) string {
	return s.must("journalctl", "--no-pager", "-o", "short-precise", "-g", id+"[./ ]", "-u", host.ManagerUnit, "-u",
		host.EngineUnit(id))
}

// stormAtItsLimit: as many restarts as the limit says are none; the failure after them is.
func (s *site) stormAtItsLimit() {
	s.t.Helper()
	s.pool("storm", s.dying("").table("restart", `initial = "1s"`, `factor = 1.0`, `max = "1s"`, `jitter = 0.0`,
		`storm_restarts = 10`, `storm_window = "20m"`, `breaker_failures = 50`))
	s.reload()
	var storms string
	s.atLast(func(ctx context.Context) (err error) {
		storms, err = s.Host.Run(ctx, "journalctl", "--no-pager", "-p", "err", "-o", "cat", "--output-fields=MESSAGE",
			"-u", host.ManagerUnit, "POOL_ID=storm")
		if err == nil && storms == "" {
			err = fmt.Errorf("no storm after %d runs: %s", len(s.runs("storm")), s.get("storm"))
		}
		return err
	})
	if !strings.HasPrefix(storms, "storm/r0: 11 failures within 20m0s, mostly by ") ||
		strings.Count(storms, "\n") != 1 {
		s.t.Errorf("logged %q, want one storm, of 11 failures: a limit of 10 allows 10 restarts", storms)
	}
	// PID 1 may have begun one more restart before the manager's stop, which counts like any other.
	p := s.waitFor(longest, "storm", inState("backoff"), condition{"a long wait", func(p host.Pool) bool {
		return p.BackoffMS > 60_000
	}})
	if runs := len(s.runs("storm")); runs < 11 || runs > 12 || p.RestartCount != runs-1 {
		s.t.Errorf("%d runs, restart_count %d\n%s", runs, p.RestartCount, s.storyOf("storm"))
	}
	s.removePool("storm")
	s.reload()
}

// cudaWaitsDouble: class_factor holds for every run of a row, and PID 1 waits as long by itself.
func (s *site) cudaWaitsDouble() {
	s.t.Helper()
	s.pool("cuda", s.dying("CUDA error: an illegal memory access was encountered").table("restart",
		`initial = "4s"`, `factor = 2.0`, `max = "64s"`, `jitter = 0.0`, `class_factor = 2.0`, `breaker_failures = 20`))
	s.reload()
	runs := func(want int) []time.Duration {
		var at []time.Duration
		s.atLast(func(context.Context) error {
			if at = s.runs("cuda"); len(at) < want {
				return fmt.Errorf("%d runs, want %d: %s", len(at), want, s.get("cuda"))
			}
			return nil
		})
		return at
	}
	runs(2)
	delay := strings.TrimSpace(s.must("systemctl", "show", "-P", "RestartUSec", host.EngineUnit("cuda")))
	if delay != "16s" {
		s.t.Errorf("PID 1 waits %s after the second failure by itself, want 16s", delay)
	}
	at := runs(4)
	for i, want := range []time.Duration{8 * time.Second, 16 * time.Second, 32 * time.Second} {
		if wait := at[i+1] - at[i]; wait < want {
			s.t.Errorf("run %d began %s after the one before, want at least %s\n%s", i+2, wait, want, s.storyOf("cuda"))
		}
	}
	s.removePool("cuda")
	s.reload()
}

// twoOfEachClass: errors of CUDA and other failures do not add up.
func (s *site) twoOfEachClass() {
	s.t.Helper()
	s.pool("mixed", stub().table("restart", `initial = "1s"`, `factor = 1.0`, `max = "1s"`, `class_factor = 1.0`,
		`jitter = 0.0`, `breaker_failures = 4`, `breaker_timeout = "10m"`))
	s.reload()
	say := "/stub/say?line=" + url.QueryEscape("CUDA error: an illegal memory access was encountered")
	for i, cuda := range []bool{true, true, false, false, true, true} {
		s.waitFor(longest, "mixed", restarted(i), breaker("closed"))
		if cuda {
			s.control("mixed", say)
		}
		s.control("mixed", "/stub/exit?code=1")
	}
	p := s.waitFor(longest, "mixed", failsWith("BREAKER_OPEN"), breaker("open"))
	if p.RestartCount != 5 || !strings.Contains(p.LastError, "6 failures in a row, 4 by cuda") {
		s.t.Errorf("%s\n%s", p, s.storyOf("mixed"))
	}
	s.removePool("mixed")
	s.reload()
}

// reloadKeepsTheCount: restarts of the engine that a reload replaced count once in the total.
func (s *site) reloadKeepsTheCount() {
	s.t.Helper()
	s.pool("sides", stub().table("restart", `initial = "300ms"`, `max = "300ms"`, `jitter = 0.0`))
	s.reload()
	for i := range 2 {
		s.waitFor(longest, "sides", restarted(i))
		s.control("sides", "/stub/crash")
	}
	s.waitFor(longest, "sides", restarted(2))
	s.must("cp", host.TinyModel, "/srv/models/other.gguf")
	for range 2 { // to the other side, and back
		for _, model := range []string{"/srv/models/other.gguf", host.TinyModel} {
			s.must("poolctl", "reload", "sides", "--wait", "--model", "file:"+model)
			s.waitFor(longest, "sides", restarted(2), condition{"the new model", func(p host.Pool) bool {
				return p.ModelID == "file:"+model
			}})
		}
	}
	s.removePool("sides")
	s.reload()
}

// singleCrashAfterReset: what failed before a reset counts no longer, neither for the breaker nor
// for PID 1's start limit.
func (s *site) singleCrashAfterReset() {
	s.t.Helper()
	s.pool("again", stub().table("restart", `initial = "1s"`, `jitter = 0.0`, `breaker_failures = 3`,
		`breaker_timeout = "10m"`))
	s.reload()
	restarts := 0 // a start by hand after a reset is one, too
	crash := func() {
		s.t.Helper()
		s.waitFor(longest, "again", restarted(restarts), breaker("closed"))
		s.control("again", "/stub/crash")
		restarts++
	}
	for range 3 {
		for range 3 {
			crash()
		}
		s.waitFor(longest, "again", failsWith("BREAKER_OPEN"), breaker("open"))
		s.must("poolctl", "reset", "again", "--wait")
		crash() // at once
		crash()
		s.must("poolctl", "reset", "again", "--wait")
	}
	s.waitFor(longest, "again", restarted(restarts), breaker("closed"))
	s.removePool("again")
	s.reload()
}
