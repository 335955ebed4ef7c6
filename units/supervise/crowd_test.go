package supervise

import (
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/probe"
)

// TestCrowdIsNamed: why an engine is unready, and later restarted, names a user who has very many
// connections to its port while it answers late.
func TestCrowdIsNamed(t *testing.T) {
	for _, c := range []struct {
		name        string
		connections int
		why         string
		named       bool
	}{
		{"a_crowd", 9000, probe.ReasonTimeout, true},
		{"a_few", 20, probe.ReasonTimeout, false},
		{"a_crowd_of_an_engine_that_answers_wrongly", 9000, probe.ReasonStatus, false},
	} {
		scenario(t, c.name, func(t *testing.T, w *world) {
			m := w.manage(t, pools(withGeneration("a", func(p *pool.Pool) { p.Health.GenerateInterval = 0 })),
				func(o *Options) {
					o.Activity = func(string) (Activity, bool) { return Activity{}, true }
					o.Crowd = func(int) (int, int, error) { return 1000, c.connections, nil }
				})
			w.passGate(unitOf("a"))
			m.wantState("a", registry.StateReady, true)
			w.illWith(c.why)
			time.Sleep(time.Minute)
			m.wantState("a", registry.StateUnhealthy, false)
			failed := m.pool("a").LastError
			const crowd = "user id 1000 has 9000 connections to its port"
			if got := strings.Count(failed.Message, crowd); got > 1 || got == 1 != c.named {
				t.Errorf("%+v", failed)
			}
			if strings.Contains(failed.Hint, "ss -Htnp 'dport = :") != c.named {
				t.Errorf("hint: %s", failed.Hint)
			}
			time.Sleep(90 * time.Second)
			if n := w.called("kill"); n != 1 {
				t.Fatalf("%d kills", n)
			}
			if failed := m.pool("a").LastError; strings.Contains(failed.Message, "user id 1000") != c.named {
				t.Errorf("the end: %+v", failed)
			}
		})
	}
}
