//go:build machine

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// patience is the longest that a scenario waits for one condition. It is far above what any needs,
// and is only used up by a failure.
const patience = 45 * time.Second

// site is an installed machine in one test's hands: the words that scenarios are written in. Every
// method fails the test if what its name promises does not happen.
type site struct {
	t *testing.T
	*host.Host
	began time.Time
}

// in is the same machine in the hands of a subtest.
func (s *site) in(t *testing.T) *site {
	sub := *s
	sub.t = t
	return &sub
}

// installed lends the test a container machine with the package installed, the host's configuration
// of these tests and no pools.
func installed(t *testing.T, release machine.Release) *site {
	t.Helper()
	return lend(t, kind{release: release, backend: machine.Container})
}

// lend lends a machine until the end of the test. A test that has one must not wait for parallel
// subtests: those wait for a place among the tests that run, which may all wait for a machine.
func lend(t *testing.T, k kind) *site {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	h, err := machines.take(ctx, k, func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, Host: h, began: time.Now()}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if t.Failed() {
			t.Log(h.Story(ctx, s.began))
		}
		if err := machines.put(ctx, k, h, t.Failed()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// within returns the test's context with the usual patience, or longer where a scenario says
// so.
func (s *site) within(d ...time.Duration) (context.Context, context.CancelFunc) {
	p := patience
	if len(d) > 0 {
		p = d[0]
	}
	return context.WithTimeoutCause(s.t.Context(), p, fmt.Errorf("not within %s", p))
}

// must runs a program in the machine and returns what it printed.
func (s *site) must(args ...string) string {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	out, err := s.Host.Run(ctx, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// shell runs a script in the machine and returns what it printed.
func (s *site) shell(script string) string {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	out, err := s.Host.Shell(ctx, script)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// write puts a file in place.
func (s *site) write(name, content string) {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	if err := s.WriteFile(ctx, name, content); err != nil {
		s.t.Fatal(err)
	}
}

// pool writes a pool's file; reload makes it count.
func (s *site) pool(id string, file fmt.Stringer) {
	s.t.Helper()
	s.write(host.PoolFile(id), file.String())
}

// removePool deletes a pool's file.
func (s *site) removePool(id string) {
	s.t.Helper()
	s.must("rm", host.PoolFile(id))
}

// reload is systemctl reload, which must succeed.
func (s *site) reload() {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	if err := s.Reload(ctx).Check(); err != nil {
		s.t.Fatal(err)
	}
}

// get returns a pool as the API shows it.
func (s *site) get(id string) host.Pool {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	p, err := s.Pool(ctx, id)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// condition is a condition of a pool.
type condition struct {
	says  string
	holds func(host.Pool) bool
}

var isReady = condition{"ready", func(p host.Pool) bool {
	return p.Ready && p.State == "ready" && len(p.Replicas) > 0 && p.Replicas[0].PID != 0
}}

func inState(state string) condition {
	return condition{"state " + state, func(p host.Pool) bool { return p.State == state }}
}

// executed is a pool whose first replica has its process: the step before it has passed.
var executed = condition{"a process", func(p host.Pool) bool { return len(p.Replicas) > 0 && p.Replicas[0].PID != 0 }}

// failsWith is a pool that is not ready, with that code and a hint beside it.
func failsWith(code string) condition {
	return condition{"not ready, " + code + " and a hint", func(p host.Pool) bool {
		return !p.Ready && p.Code() == code && p.Hint != ""
	}}
}

// restarted is a pool that is ready again after so many restarts by PID 1.
func restarted(n int) condition {
	return condition{fmt.Sprintf("ready with restart_count %d", n), func(p host.Pool) bool {
		return isReady.holds(p) && p.RestartCount == n
	}}
}

// newRun is a pool that is ready in another process than that one.
func newRun(pid int) condition {
	return condition{"ready in another process than " + strconv.Itoa(pid), func(p host.Pool) bool {
		return isReady.holds(p) && p.Replicas[0].PID != pid
	}}
}

// wait waits until the pool meets all conditions at the same time, and returns the pool as it
// was then.
func (s *site) wait(id string, all ...condition) host.Pool {
	s.t.Helper()
	return s.waitFor(patience, id, all...)
}

func (s *site) waitFor(d time.Duration, id string, all ...condition) host.Pool {
	s.t.Helper()
	ctx, cancel := s.within(d)
	defer cancel()
	var p host.Pool
	err := host.Eventually(ctx, func(ctx context.Context) (err error) {
		if p, err = s.Pool(ctx, id); err != nil {
			return err
		}
		for _, c := range all {
			if !c.holds(p) {
				return fmt.Errorf("wanted %s: %s", c.says, p)
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// waitGone waits until the API knows no such pool and PID 1 no such unit.
func (s *site) waitGone(id string) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		a, err := s.Get(ctx, "/v1/pools/"+id)
		if err != nil {
			return err
		}
		if a.Status != http.StatusNotFound {
			return fmt.Errorf("GET /v1/pools/%s: %d %s", id, a.Status, a.Body)
		}
		u, err := s.Unit(ctx, host.EngineUnit(id))
		if err == nil && u.MainPID != 0 {
			err = fmt.Errorf("its unit still runs: %+v", u)
		}
		return err
	})
}

// eventually waits until look returns nil.
func (s *site) eventually(look func(ctx context.Context) error) {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	if err := host.Eventually(ctx, look); err != nil {
		s.t.Fatal(err)
	}
}

// engine returns the run of a pool's first replica, asked from PID 1.
func (s *site) engine(id string) host.Process {
	s.t.Helper()
	return s.unit(host.EngineUnit(id)).Process()
}

// unit returns PID 1's state of a unit.
func (s *site) unit(name string) host.Unit {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	u, err := s.Unit(ctx, name)
	if err != nil {
		s.t.Fatal(err)
	}
	return u
}

// engines returns every engine that runs, asked from PID 1.
func (s *site) engines() map[string]host.Process {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	running, err := s.Processes(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	return running
}

// untouched fails the test unless each engine of before is the same process of the same run with
// the same restart counter.
func (s *site) untouched(before map[string]host.Process) {
	s.t.Helper()
	now := s.engines()
	for unit, was := range before {
		if now[unit] != was {
			s.t.Errorf("%s was touched: it was %+v and is %+v", unit, was, now[unit])
		}
	}
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// control makes a request to the stand-in engine of a pool, such as "/stub/health?status=500". An
// engine that dies of it does not answer.
func (s *site) control(id, path string) {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	a, err := s.Engine(ctx, id, http.MethodPost, path, nil)
	if err == nil && a.Status != http.StatusOK {
		s.t.Fatalf("POST %s to the engine of %s: %d %s", path, id, a.Status, a.Body)
	}
}
