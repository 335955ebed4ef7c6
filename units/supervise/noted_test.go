package supervise

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// causes counts storms by their class.
type causes struct {
	counts
	of []string
}

func (c *causes) Storm(_ registry.Pool, class string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of = append(c.of, class)
}

// TestRestartsAreNoted: each change of a breaker is an event, with what opened it; a storm is one,
// once, with its class and what to lower.
func TestRestartsAreNoted(t *testing.T) {
	noted := func(m *manager, kind registry.Kind) []registry.Event {
		all, _ := m.reg.Events(0)
		return slices.DeleteFunc(all, func(e registry.Event) bool { return e.Kind != kind })
	}
	scenario(t, "breaker", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}))
		w.passGate(unitOf("a"))
		threeFailures(w)
		time.Sleep(70 * time.Second)
		w.passGate(unitOf("a"))
		time.Sleep(40 * time.Second)
		got := noted(m, registry.KindBreaker)
		for i, want := range []string{"from closed to open", "from open to half-open", "from half-open to closed"} {
			if i >= len(got) || got[i].Cause != "the breaker changed "+want || got[i].PoolID != "a" ||
				got[i].ReplicaID != "r0" {
				t.Fatalf("event %d of %+v: want the breaker %s", i+1, got, want)
			}
		}
		if f := got[0].Failure; f == nil || f.Code != registry.CodeBreakerOpen {
			t.Errorf("it opened with %v", f)
		}
	})
	scenario(t, "storm", func(t *testing.T, w *world) {
		c := &causes{}
		stormy := func(p *pool.Pool) {
			p.Restart.StormRestarts, p.Restart.StormWindow, p.Restart.BreakerFailures = 3, time.Minute, 100
		}
		m := w.manage(t, pools(llama("a", stormy)), withNotes(notes{}), func(o *Options) { o.Observer = c })
		w.passGate(unitOf("a"))
		for range 5 {
			w.change(unitOf("a"), ends("oom-kill", cldKilled, 9))
			time.Sleep(600 * time.Millisecond)
			if w.called("stop") > 0 {
				break
			}
			w.restarted()
		}
		m.wantState("a", registry.StateBackoff, false)
		got := noted(m, registry.KindStorm)
		if len(got) != 1 || !strings.Contains(got[0].Cause, "mostly by oom") ||
			!strings.Contains(got[0].Cause, "lower ctx") || got[0].Failure.Code != registry.CodeEngineOOM {
			t.Errorf("noted %+v, want one storm and its hint", got)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !slices.Equal(c.of, []string{"oom"}) {
			t.Errorf("observed %v", c.of)
		}
	})
}
