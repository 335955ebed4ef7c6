package notify

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
)

// fakeOrchestrator answers requests in this process, by the clock of the test.
type fakeOrchestrator struct {
	answer func(method, path string) (*http.Response, error) // nil: 200 to all

	mu    sync.Mutex
	begun time.Time
	seen  []string // "SECONDS METHOD path", in order
	body  string   // of the last request
	token string
}

func (f *fakeOrchestrator) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		f.body = string(body)
	}
	f.token = r.Header.Get("Authorization")
	f.seen = append(f.seen, time.Since(f.begun).Round(time.Millisecond).String()+" "+r.Method+" "+r.URL.Path)
	if f.answer == nil {
		return answered(http.StatusOK, ""), nil
	}
	return f.answer(r.Method, r.URL.Path)
}

func answered(status int, text string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(text))}
}

// bench is a reporter with its orchestrator, in a bubble of synctest.
type bench struct {
	*fakeOrchestrator
	*Reporter
	box fleet.Mailbox
	log *strings.Builder
}

func newBench(answer func(method, path string) (*http.Response, error)) bench {
	f := &fakeOrchestrator{answer: answer, begun: time.Now()}
	var log strings.Builder
	r := New(Options{URL: "http://orchestrator.test/", Token: "t0ken", NodeID: "gpu 1", Interval: 10 * time.Second,
		Host: fleet.Host{MachineID: "0123456789abcdef0123456789abcdef", Address: "http://gpu1:9200", Version: "1.2.3",
			CPUs: 16, RAMBytes: 64 << 30},
		HTTP: &http.Client{Transport: f}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	r.random = func() float64 { return 0 }
	return bench{f, r, fleet.NewMailbox(), &log}
}

// during runs the reporter for a while, with steps at their times.
func (b bench) during(t *testing.T, d time.Duration, steps map[time.Duration]func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var all sync.WaitGroup
	for at, step := range steps {
		all.Go(func() {
			time.Sleep(at)
			step()
		})
	}
	b.Run(ctx, b.box)
	all.Wait()
}

func (b bench) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := strings.Join(b.seen, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the orchestrator got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

const (
	register = "POST /v2/nodes/register"
	beat     = "POST /v2/nodes/gpu 1/heartbeat"
	leave    = "DELETE /v2/nodes/gpu 1"
)

func amount(n uint64) *uint64 { return &n }

// one is a host with one pool.
func one(ready bool, slotsFree int) fleet.State {
	return fleet.State{Known: true, Pools: []wire.Pool{{ID: "phi", Engine: "llamacpp", Ready: ready, SlotsTotal: 4,
		SlotsFree: slotsFree, VRAMFreeBytes: amount(7 << 30)}}}
}

func TestPace(t *testing.T) {
	for _, c := range []struct {
		name  string
		d     time.Duration
		steps func(b bench) map[time.Duration]func()
		reply func(method, path string) (*http.Response, error)
		want  []string
	}{
		{"nothing_is_sent_of_an_unknown_state", time.Minute, func(b bench) map[time.Duration]func() {
			return map[time.Duration]func(){0: func() { b.box.Put(fleet.State{}) }}
		}, nil, nil},
		{"registered_once_and_a_heartbeat_each_interval", 25 * time.Second, func(b bench) map[time.Duration]func() {
			return map[time.Duration]func(){0: func() { b.box.Put(one(true, 4)) }}
		}, nil, []string{"0s " + register, "0s " + beat, "10s " + beat, "20s " + beat}},
		{"a_heartbeat_at_once_when_readiness_changes_and_not_for_slots", 15 * time.Second,
			func(b bench) map[time.Duration]func() {
				return map[time.Duration]func(){0: func() { b.box.Put(one(true, 4)) },
					2 * time.Second: func() { b.box.Put(one(true, 3)) },
					3 * time.Second: func() { b.box.Put(one(false, 0)) }}
			}, nil, []string{"0s " + register, "0s " + beat, "3s " + beat, "13s " + beat}},
		{"a_pool_that_flaps_is_reported_four_times_a_second", 1200 * time.Millisecond,
			func(b bench) map[time.Duration]func() {
				steps := map[time.Duration]func(){}
				for i := range 100 {
					steps[time.Duration(i)*10*time.Millisecond] = func() { b.box.Put(one(i%2 == 0, 4)) }
				}
				return steps
			}, nil, []string{"0s " + register, "0s " + beat, "250ms " + beat, "500ms " + beat, "750ms " + beat,
				"1s " + beat}},
		{"another_pool_registers_the_host_again", 5 * time.Second, func(b bench) map[time.Duration]func() {
			two := one(true, 4)
			two.Pools = append(two.Pools, wire.Pool{ID: "qwen"})
			return map[time.Duration]func(){0: func() { b.box.Put(one(true, 4)) },
				2 * time.Second: func() { b.box.Put(two) }}
		}, nil, []string{"0s " + register, "0s " + beat, "2s " + register, "2s " + beat}},
		{"silent_while_the_manager_does_not_answer", 40 * time.Second, func(b bench) map[time.Duration]func() {
			return map[time.Duration]func(){0: func() { b.box.Put(one(true, 4)) },
				5 * time.Second:  func() { b.box.Put(fleet.State{}) },
				35 * time.Second: func() { b.box.Put(one(true, 4)) }}
		}, nil, []string{"0s " + register, "0s " + beat, "35s " + beat}},
		{"the_pause_doubles_while_the_orchestrator_is_away", 70 * time.Second, func(b bench) map[time.Duration]func() {
			return map[time.Duration]func(){0: func() { b.box.Put(one(true, 4)) }}
		}, func(string, string) (*http.Response, error) { return nil, errors.New("connection refused") },
			[]string{"0s " + register, "1s " + register, "3s " + register, "7s " + register, "15s " + register,
				"31s " + register, "1m1s " + register}},
		{"the_orchestrators_own_pause_is_kept", 13 * time.Second, func(b bench) map[time.Duration]func() {
			return map[time.Duration]func(){0: func() { b.box.Put(one(true, 4)) }}
		}, func(string, string) (*http.Response, error) {
			return answered(http.StatusServiceUnavailable, "", "Retry-After", "7"), nil
		}, []string{"0s " + register, "7s " + register}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(c.reply)
				b.during(t, c.d, c.steps(b))
				b.expect(t, c.want...)
			})
		})
	}
}

// TestNodeThatIsUnknown: an orchestrator that was restarted answers 404 to a heartbeat, and gets
// the host again at once; one that never keeps it is not asked without end.
func TestNodeThatIsUnknown(t *testing.T) {
	forgets := func(times int) func(method, path string) (*http.Response, error) {
		return func(_, path string) (*http.Response, error) {
			if strings.HasSuffix(path, "heartbeat") && times > 0 {
				times--
				return answered(http.StatusNotFound, "no such node"), nil
			}
			return answered(http.StatusOK, ""), nil
		}
	}
	t.Run("once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(forgets(1))
			b.box.Put(one(true, 4))
			b.during(t, 5*time.Second, nil)
			b.expect(t, "0s "+register, "0s "+beat, "250ms "+register, "250ms "+beat)
			if !strings.Contains(b.log.String(), "has this host again") {
				t.Errorf("log:\n%s", b.log)
			}
		})
	})
	t.Run("always", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(forgets(1000))
			b.box.Put(one(true, 4))
			b.during(t, 10*time.Minute, nil)
			if len(b.seen) < 20 || len(b.seen) > 60 {
				t.Errorf("%d requests in ten minutes", len(b.seen))
			}
		})
	})
}

// TestLeave: the host is taken back, also where a former process had registered it, and an
// orchestrator that lacks it has nothing to complain of.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(nil)
		b.box.Put(one(true, 4))
		b.during(t, time.Second, nil)
		b.Leave(t.Context())
		b.expect(t, "0s "+register, "0s "+beat, "1s "+leave)
	})
	for text, c := range map[string]struct {
		status int
		warns  bool
	}{"lacks_it": {http.StatusNotFound, false}, "refuses": {http.StatusForbidden, true}} {
		t.Run(text, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(func(string, string) (*http.Response, error) { return answered(c.status, ""), nil })
				b.Leave(t.Context())
				b.expect(t, "0s "+leave)
				if warned := b.log.Len() > 0; warned != c.warns {
					t.Errorf("log: %s", b.log)
				}
			})
		})
	}
}

// TestSent has the bodies, with the names that orchestrators read.
func TestSent(t *testing.T) {
	state := one(true, 3)
	state.Pools = append(state.Pools, wire.Pool{ID: "qwen", Engine: "vllm", Draining: true})
	state.Devices.Devices = []wire.GPUDevice{{Index: 1, Name: "A", VRAM: wire.VRAM{TotalBytes: amount(24 << 30)},
		ComputeCapability: "8.6"}, {Index: 2, Name: "whose memory is unknown"}}
	for path, want := range map[string]string{
		"/v2/nodes/register": `{"node_id":"gpu 1","machine_id":"0123456789abcdef0123456789abcdef","address":"http://gpu1:9200",` +
			`"pools":["phi","qwen"],"capabilities":{"gpus":[{"device_id":1,"name":"A","vram_total_bytes":25769803776,` +
			`"compute_capability":"8.6"}],"cpu_cores":16,"ram_total_bytes":68719476736},"version":"1.2.3"}`,
		"/v2/nodes/gpu 1/heartbeat": `{"timestamp":"2000-01-01T00:00:00Z","pools":[{"pool_id":"phi","ready":true,"draining":false,` +
			`"slots_free":3,"slots_total":4,"vram_free_bytes":7516192768,"engine":"llamacpp"},{"pool_id":"qwen","ready":false,` +
			`"draining":true,"slots_free":0,"slots_total":0,"vram_free_bytes":0,"engine":"vllm"}]}`,
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(func(_, asked string) (*http.Response, error) {
				if asked == path {
					return answered(http.StatusInternalServerError, ""), nil // so that no other follows
				}
				return answered(http.StatusOK, ""), nil
			})
			b.box.Put(state)
			b.during(t, 100*time.Millisecond, nil)
			if b.body != want || b.token != "Bearer t0ken" {
				t.Errorf("%s: got\n%s\nwant\n%s\n(token %q)", path, b.body, want, b.token)
			}
		})
	}
}

// TestRefusals: what an orchestrator answers is logged in one line, with a hint, and not each time.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(func(string, string) (*http.Response, error) {
			return answered(http.StatusUnauthorized, "bad\n token \x1b[31m\xff "+strings.Repeat("x", 1000)), nil
		})
		b.box.Put(one(true, 4))
		b.during(t, 5*time.Minute, nil)
		log := b.log.String()
		if strings.Count(log, "could not report this host") != 2 || !strings.Contains(log, "token_file") ||
			len(log) > 2000 || strings.Contains(log, "t0ken") {
			t.Errorf("%d requests; log:\n%s", len(b.seen), log)
		}
	})
	t.Run("a_redirect_gets_no_token", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(func(string, string) (*http.Response, error) {
				return answered(http.StatusTemporaryRedirect, "", "Location", "http://elsewhere.test/"), nil
			})
			b.box.Put(one(true, 4))
			b.during(t, 100*time.Millisecond, nil)
			b.expect(t, "0s "+register)
		})
	})
}
