//go:build machine

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// load makes requests at a steady rate, each on a connection of its own, and counts.
type load struct {
	wg      sync.WaitGroup
	stop    context.CancelFunc
	mu      sync.Mutex
	done    int
	slowest time.Duration
	wrong   []error
}

// perSecond is the rate of a load on each of the two listeners.
const perSecond = 100

// begin starts a load on the unix socket and one on the TCP listener.
func begin(ctx context.Context, h *site) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{stop: stop}
	for _, ask := range []func(context.Context, string, string, http.Header) (host.Answer, error){h.Do, h.DoTCP} {
		l.wg.Go(func() {
			tick := time.NewTicker(time.Second / perSecond)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				l.wg.Go(func() { l.request(h, ask) })
			}
		})
	}
	return l
}

// request is one request; it is not cut when the load ends.
func (l *load) request(h *site, ask func(context.Context, string, string, http.Header) (host.Answer, error)) {
	ctx, cancel := h.within()
	defer cancel()
	began := time.Now()
	a, err := ask(ctx, http.MethodGet, "/v1/pools", nil)
	if err == nil {
		var list host.PoolList
		switch err = json.Unmarshal(a.Body, &list); {
		case err != nil:
		case a.Status != http.StatusOK:
			err = fmt.Errorf("status %d: %s", a.Status, a.Body)
		case len(list.Pools) != 2 || !list.Pools[0].Ready || !list.Pools[1].Ready:
			err = fmt.Errorf("a wrong answer: %s", a.Body)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done++
	l.slowest = max(l.slowest, time.Since(began))
	if err != nil {
		l.wrong = append(l.wrong, err)
	}
}

// end stops the load, waits for what is under way and returns how it went.
func (l *load) end() (done int, slowest time.Duration, wrong []error) {
	l.stop()
	l.wg.Wait()
	return l.done, l.slowest, l.wrong
}

// TestNoRequestFailsOverRestarts: under 200 requests a second, ten restarts of the manager fail
// none, and every answer is right: connections wait in the socket until the new manager has adopted
// what runs.
func TestNoRequestFailsOverRestarts(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub().quick())
	h.pool("b", command().quick())
	h.reload()
	h.wait("a", isReady)
	h.wait("b", isReady)
	before := h.engines()

	l := begin(t.Context(), h)
	for range 10 {
		was := h.unit(host.ManagerUnit).MainPID
		h.must("systemctl", "restart", host.ManagerUnit)
		if now := h.unit(host.ManagerUnit).MainPID; now == was || now == 0 {
			t.Errorf("the manager was not restarted: process %d, then %d", was, now)
		}
	}
	done, slowest, wrong := l.end()
	t.Logf("%d requests over ten restarts, the slowest took %s", done, slowest.Round(time.Millisecond))
	if len(wrong) > 0 {
		t.Errorf("%d of %d requests failed, the first: %v", len(wrong), done, wrong[0])
	}
	if done < 2*perSecond {
		t.Errorf("only %d requests were made: this test has shown nothing", done)
	}
	h.untouched(before)
}

// TestReadyMeansAdopted: when systemctl reports that the manager has started, its first answer and
// its status line are complete.
func TestReadyMeansAdopted(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	const pools = 20
	for i := range pools {
		h.pool(fmt.Sprintf("p%02d", i), command().quick())
	}
	h.reload()
	for i := range pools {
		h.wait(fmt.Sprintf("p%02d", i), isReady)
	}
	before := h.engines()
	for range 3 {
		h.must("systemctl", "restart", host.ManagerUnit)
		if u := h.unit(host.ManagerUnit); u.StatusText != "20 pools, 20 ready" {
			t.Errorf("STATUS is %q", u.StatusText)
		}
		h.firstAnswerIs(before)
		h.untouched(before)
	}
	t.Run("status_says_it_in_words", func(t *testing.T) {
		h := h.in(t)
		h.pool("loads", command("--load", "1h").quick())
		h.reload()
		h.wait("loads", inState("starting"))
		h.eventually(func(ctx context.Context) error {
			u, err := h.Unit(ctx, host.ManagerUnit)
			if err == nil && u.StatusText != "21 pools, 20 ready, 1 starting" {
				err = fmt.Errorf("STATUS is %q", u.StatusText)
			}
			return err
		})
	})
}

// TestHTTP: paths, methods and correlation ids are answered as HTTP requires, alike on both
// listeners.
func TestHTTP(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", command().quick())
	h.reload()
	h.wait("a", isReady)
	listeners := map[string]func(context.Context, string, string, http.Header) (host.Answer, error){"unix": h.Do,
		"tcp": h.DoTCP}
	for name, ask := range listeners {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			for _, c := range []struct {
				method, path string
				status       int
				says         string
			}{
				{"GET", "/health", 200, `"status":"ok"`},
				{"GET", "/v1/pools", 200, `"id":"a"`},
				{"GET", "/v1/pools/a", 200, `"state":"ready"`},
				{"GET", "/v1/pools/a/health", 200, `"ready":true`},
				{"GET", "/pools/a/status", 200, `"pool_id":"a"`},
				{"GET", "/metrics", 200, `pool_ready`},
				{"GET", "/v1/pools/none", 404, `"POOL_NOT_FOUND"`},
				{"GET", "/v1/pools/none/health", 404, `pool none not found`},
				{"GET", "/nowhere", 404, `"code"`},
				{"POST", "/v1/pools", 405, `"code"`},
				{"DELETE", "/health", 405, `"code"`},
			} {
				ctx, cancel := h.within()
				defer cancel()
				a, err := ask(ctx, c.method, c.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				if a.Status != c.status || !strings.Contains(string(a.Body), c.says) {
					t.Errorf("%s %s: %d %s, want %d with %s", c.method, c.path, a.Status, a.Body, c.status, c.says)
				}
				if c.status == 405 && a.Header.Get("Allow") == "" {
					t.Errorf("%s %s: 405 without Allow", c.method, c.path)
				}
				if a.Header.Get("X-Correlation-Id") == "" {
					t.Errorf("%s %s: no X-Correlation-Id was made", c.method, c.path)
				}
			}
		})
		t.Run(name+"_echoes_a_correlation_id", func(t *testing.T) {
			h := h.in(t)
			ctx, cancel := h.within()
			defer cancel()
			a, err := ask(ctx, "GET", "/v1/pools/a", http.Header{"X-Correlation-Id": {"order-66"}})
			if err != nil || a.Header.Get("X-Correlation-Id") != "order-66" {
				t.Errorf("%v %v", a.Header, err)
			}
		})
	}
}

// TestWatchdog: a manager whose loop hangs is killed and restarted by PID 1; no engine
// notices.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	if set := h.must("systemctl", "show", "-p", "WatchdogUSec", "--value", host.ManagerUnit); set == "0" ||
		set == "infinity" {
		t.Errorf("the package's own watchdog is %q", set)
	}
	h.write("/run/systemd/system/pool-managerd.service.d/test.conf", "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n")
	h.must("systemctl", "daemon-reload")
	h.must("systemctl", "restart", host.ManagerUnit)
	h.pool("a", command().quick())
	h.reload()
	h.wait("a", isReady)
	before, manager := h.engines(), h.unit(host.ManagerUnit)

	h.must("systemctl", "kill", "--kill-whom=main", "--signal=STOP", host.ManagerUnit)
	h.eventually(func(ctx context.Context) error {
		u, err := h.Unit(ctx, host.ManagerUnit)
		if err == nil && (u.MainPID == 0 || u.MainPID == manager.MainPID || u.ActiveState != "active") {
			err = fmt.Errorf("it has not been restarted: %+v, it was %+v", u, manager)
		}
		return err
	})
	if out := h.must("journalctl", "--no-pager", "-o", "cat", "UNIT="+host.ManagerUnit); !strings.Contains(out,
		"atchdog timeout") {
		t.Errorf("PID 1 restarted it for another reason:\n%s", out)
	}
	h.firstAnswerIs(before)
	h.untouched(before)
	t.Run("a_manager_that_works_is_left_alone", func(t *testing.T) {
		h := h.in(t)
		manager := h.unit(host.ManagerUnit)
		// Three more watchdog intervals, by PID 1's clock.
		h.must("systemd-run", "--quiet", "--wait", "--unit=test-six-seconds", "sleep", "6")
		if now := h.unit(host.ManagerUnit); now.Process() != manager.Process() {
			t.Errorf("it was restarted: %+v, it was %+v", now, manager)
		}
	})
}
