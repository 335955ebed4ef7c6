package supervise

import (
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/listen"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/probe"
)

// TestCrowds: an engine that answers late while one user has very many connections to its port is
// unready, with that user's name in the error, and is restarted neither while it goes on accepting
// some nor while they are more than its clients could have, up to escalate_limit. One that hangs
// with clients that wait is restarted, and so is one that answers wrongly.
func TestCrowds(t *testing.T) {
	const limit = 30 * time.Minute
	for _, c := range []struct {
		name        string
		connections int
		accepts     bool // it accepts one more each minute
		slots       int
		why         string
		lasts       time.Duration // the crowd; 0: for ever
		kill        time.Duration
		named       bool
	}{
		{"of_an_engine_that_accepts", 100, true, 2, probe.ReasonTimeout, 0, limit, true},
		{"that_leaves_an_engine_that_hangs", 100, true, 2, probe.ReasonTimeout, 10 * time.Minute, 12 * time.Minute, true},
		{"of_all_descriptors_of_an_engine", 9000, false, 2, probe.ReasonTimeout, 0, limit, true},
		{"of_clients_of_an_engine_that_hangs", 1100, false, 256, probe.ReasonTimeout, 0, 2 * time.Minute, true},
		{"of_a_few", 20, true, 2, probe.ReasonTimeout, 0, 2 * time.Minute, false},
		{"of_an_engine_that_answers_wrongly", 9000, true, 2, probe.ReasonStatus, 0, 2 * time.Minute, false},
	} {
		scenario(t, c.name, func(t *testing.T, w *world) {
			began := time.Now()
			m := w.manage(t, pools(withGeneration("a", func(p *pool.Pool) {
				p.Health.GenerateInterval, p.Health.EscalateLimit, p.Slots = 0, limit, c.slots
			})), func(o *Options) {
				o.Activity = func(string) (Activity, bool) { return Activity{}, true }
				o.Crowd = func(int) (listen.Clients, error) {
					found := listen.Clients{User: 1000, Connections: c.connections}
					switch past := time.Since(began); {
					case c.lasts > 0 && past > c.lasts:
						found.Connections = 1
					case c.accepts:
						found.Accepted = []uint64{1, 2 + uint64(past.Minutes())}
					}
					return found, nil
				}
			})
			w.passGate(unitOf("a"))
			m.wantState("a", registry.StateReady, true)
			w.illWith(c.why)
			time.Sleep(c.kill - time.Second)
			m.wantState("a", registry.StateUnhealthy, false)
			if n := w.called("kill"); n != 0 {
				t.Fatalf("%d kills before %s", n, c.kill)
			}
			failed := m.pool("a").LastError
			if got := strings.Count(failed.Message, "user id 1000 has "); got > 1 || got == 1 != c.named {
				t.Errorf("%+v", failed)
			}
			hint := strings.Contains(failed.Hint, "ss -Htnp 'dport = :") &&
				strings.Contains(failed.Hint, "While they do, it is not restarted before 30m")
			if hint != c.named {
				t.Errorf("hint: %s", failed.Hint)
			}
			time.Sleep(90 * time.Second)
			if n := w.called("kill"); n != 1 {
				t.Fatalf("%d kills", n)
			}
			end := m.pool("a").LastError.Message
			if strings.Contains(end, "user id 1000") != c.named ||
				strings.Contains(end, "although others crowd its port") != (c.kill == limit) {
				t.Errorf("the end: %s", end)
			}
		})
	}
	scenario(t, "that_goes_leaves_the_engine_as_it_was", func(t *testing.T, w *world) {
		m := w.manage(t, pools(withGeneration("a", func(p *pool.Pool) { p.Health.GenerateInterval = 0 })),
			func(o *Options) {
				o.Activity = func(string) (Activity, bool) { return Activity{}, true }
				o.Crowd = func(int) (listen.Clients, error) { return listen.Clients{Connections: 9000}, nil }
			})
		w.passGate(unitOf("a"))
		w.illWith(probe.ReasonTimeout)
		time.Sleep(10 * time.Minute)
		m.wantState("a", registry.StateUnhealthy, false)
		w.illWith("")
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateReady, true)
		if n := w.called("kill"); n != 0 || m.pool("a").LastError != nil {
			t.Errorf("%d kills, %v", n, m.pool("a").LastError)
		}
	})
}
