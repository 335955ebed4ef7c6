package supervise

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// chaos is a world in which operators ask for anything, engines end at any time, and the manager is
// killed.
type chaos struct {
	t *testing.T
	w *world
	s *shelf
	h *held
	n notes
	d Desired
	m *manager
	r *rand.Rand

	parked  bool // an operator drained the pool, and no one resumed it
	started int  // start calls that were looked at
}

// manage runs the next manager.
func (c *chaos) manage() { c.m = c.w.manage(c.t, c.d, with(c.s, c.h), withNotes(c.n)) }

// step lets one thing happen.
func (c *chaos) step() {
	ctx, deadline := c.t.Context(), time.Duration(c.r.IntN(4))*5*time.Second
	var err error
	switch c.r.IntN(12) {
	case 0:
		err = c.m.s.Drain(ctx, "a", deadline, "uid:0")
		c.parked = true
	case 1, 2:
		err = c.m.s.Resume(ctx, "a", "uid:1")
		c.parked = false
	case 3:
		err = c.m.s.Restart(ctx, "a", "uid:0")
	case 4:
		err = c.m.s.Reset(ctx, "a", "uid:1")
	case 5, 6:
		model := pool.Model(fmt.Sprintf("file:/srv/models/%c.gguf", 'a'+rune(c.r.IntN(3))))
		// One that is under way refuses the next.
		_ = c.m.s.Reload(ctx, "a", ReloadRequest{Model: model, Deadline: deadline, By: "uid:0"})
	case 7:
		c.h.n.Store(int64(c.r.IntN(2)))
	case 8:
		c.engines(func(st *systemd.Status) bool { return c.r.IntN(2) == 0 && st.MainPID != 0 }, crashed)
	case 9:
		c.m.kill()
		c.manage()
	default:
		c.progress()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	synctest.Wait()
	c.judge()
	time.Sleep(time.Duration(c.r.IntN(3000)) * time.Millisecond)
	synctest.Wait()
	c.judge()
}

// engines changes each unit that a condition holds for.
func (c *chaos) engines(which func(*systemd.Status) bool, change func(*systemd.Status)) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.w.units)) {
		if st := c.w.units[name]; which(st) {
			change(st)
			c.w.send(systemd.Update{Kind: systemd.Changed, Unit: *st, Name: name})
		}
	}
}

// progress lets gates pass, and PID 1 start what waits.
func (c *chaos) progress() {
	c.engines(func(st *systemd.Status) bool { return st.SubState == "start-post" }, func(st *systemd.Status) {
		st.ActiveState, st.SubState = "active", "running"
		select {
		case c.w.ended[st.Name] <- nil:
		default: // the job of an earlier run has reported its end
		}
	})
	c.engines(func(st *systemd.Status) bool { return st.SubState == "auto-restart" }, func(st *systemd.Status) {
		c.w.runs++
		st.ActiveState, st.SubState, st.Result, st.NRestarts = "activating", "start-post", "success", st.NRestarts+1
		st.MainPID, st.InvocationID = 1000+c.w.runs, fmt.Sprintf("%032d", c.w.runs)
	})
}

// verify holds what was done against what was asked.
func (c *chaos) judge() {
	c.t.Helper()
	kept, p := c.s.of("a"), c.m.pool("a")
	if c.parked && kept.Drain == nil {
		c.t.Fatal("a drain was forgotten")
	}
	starts := c.w.called("start")
	if kept.Drain != nil && starts != c.started {
		c.t.Fatalf("an engine was started in a drained pool: %v", c.w.calls)
	}
	c.started = starts
	if kept.Drain != nil && p.Ready {
		c.t.Fatalf("a drained pool is ready: %+v", p)
	}
	if kept.Drain != nil && kept.Reload != nil && !kept.Reload.Back() {
		c.t.Fatalf("a reload goes on in a drained pool: %+v", kept.Reload)
	}
}

// TestAnythingAtOnce: whatever was asked and whatever ended, a drained pool starts nothing, and a
// resumed one serves in the end.
func TestAnythingAtOnce(t *testing.T) {
	for seed := range uint64(60) {
		scenario(t, fmt.Sprintf("seed_%d", seed), func(t *testing.T, w *world) {
			c := &chaos{t: t, w: w, s: &shelf{kept: make(map[string]keep.Intent)}, h: &held{}, n: notes{},
				r: rand.New(rand.NewPCG(seed, 4))}
			in := func(*pool.Pool) {}
			if seed%3 == 0 {
				in = sharedPort
			}
			replicas := 1 + int(seed%2)
			c.d = pools(llama("a", failing, in, func(p *pool.Pool) {
				p.Replicas, p.Devices = replicas, make([][]string, replicas)
			}))
			c.manage()
			c.judge()
			for range 60 {
				c.step()
			}
			c.h.n.Store(0)
			c.m.resume()
			if err := c.m.s.Reset(t.Context(), "a", "uid:0"); err != nil {
				t.Fatal(err)
			}
			for range 120 { // longer than any wait
				c.progress()
				time.Sleep(time.Second)
			}
			c.m.wantState("a", registry.StateReady, true)
			if p, kept := c.m.pool("a"), c.s.of("a"); len(p.Replicas) != replicas || kept.Reload != nil ||
				kept.Drain != nil || len(w.units) != replicas {
				t.Errorf("replicas %+v, %d units, written down %+v", p.Replicas, len(w.units), kept)
			}
		})
	}
}
