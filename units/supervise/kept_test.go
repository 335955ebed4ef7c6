package supervise

import (
	"encoding/json"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// lockedNotes are notes that can be read while the manager writes.
type lockedNotes struct {
	mu    sync.Mutex
	notes notes
}

func (n *lockedNotes) Put(key string, value json.RawMessage) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.notes.Put(key, value)
}

func (n *lockedNotes) Drop(key string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.notes.Drop(key)
}

func (n *lockedNotes) of(key string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return string(n.notes[key])
}

// TestHistoryIsKept: whatever becomes of a replica's failures is written down, so that a manager
// that is killed at any point costs none of it.
func TestHistoryIsKept(t *testing.T) {
	scenario(t, "after_each_step", func(t *testing.T, w *world) {
		n := &lockedNotes{notes: notes{}}
		m := w.manage(t, pools(llama("a", failing, func(p *pool.Pool) {
			p.Restart.ClassFactor = 1
		})), func(o *Options) {
			o.Histories = n
			o.Journal = &promptLog{line: "CUDA error: an illegal memory access was encountered"}
		})
		was := ""
		kept := func(step, breaker string) {
			t.Helper()
			synctest.Wait()
			done := make(chan string)
			m.s.post(func() {
				text, _ := json.Marshal(m.s.replica(pool.Replica{Pool: "a"}).past)
				done <- string(text)
			})
			is := <-done
			synctest.Wait()
			if got := n.of("a/r0"); got != is || got == was {
				t.Errorf("%s: kept is\n%s, it is\n%s, and before it was\n%s", step, got, is, was)
			}
			if b := m.pool("a").Breaker; b != breaker {
				t.Errorf("%s: the breaker is %s", step, b)
			}
			was = is
		}
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		time.Sleep(10 * time.Second)
		kept("a failure, and what its log says", "closed")
		w.restarted()
		kept("PID 1's restart", "closed")
		time.Sleep(11 * time.Minute)
		kept("a run that has proven itself", "closed")
		threeFailures(w)
		time.Sleep(time.Second)
		kept("three failures", "open")
		time.Sleep(70 * time.Second)
		m.wantState("a", registry.StateStarting, false)
		kept("the trial", "half-open")
		w.passGate(unitOf("a"))
		time.Sleep(31 * time.Second)
		kept("a trial that has proven itself", "closed")
		m.drain(time.Minute)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStopped, false)
		kept("a stop", "closed")
		if err := m.s.Reset(t.Context(), "a", "uid:0"); err != nil {
			t.Fatal(err)
		}
		kept("a reset", "closed")
	})
}
