package supervise

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/probe"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// checked is a prober of a manager that, after each batch of results, holds onlyBeats against what
// it promises: where it says that a good probe changes nothing, a settle changes nothing. So the
// promise is tested in every state that any test of this package brings a manager into.
type checked struct {
	*world
	m *manager
}

func (c checked) Schedule(guard func(func() error) error, deliver func([]probe.Result)) *probe.Schedule {
	return c.world.Schedule(guard, func(batch []probe.Result) {
		deliver(batch)
		c.m.s.post(func() {
			for _, r := range batch {
				c.m.checkBeats(r.Key.(*watch))
			}
		})
	})
}

// checkBeats runs on the loop.
func (m *manager) checkBeats(w *watch) {
	if w.r.run.watch != w || !m.s.onlyBeats(w) {
		return
	}
	if version, _ := m.reg.Version(); version != m.checkedAt {
		m.checkedAt = version
		m.spared.Store(0)
	}
	if n := m.spared.Add(1); n > 2 && n%16 != 0 {
		return // a dump takes long
	}
	before := m.dump(w.r.entry)
	m.s.settle(w.r)
	if after := m.dump(w.r.entry); after != before {
		m.t.Errorf("%s: a good probe was said to change nothing, and a settle changes:\n%s", w.r.id,
			firstDifference(before, after))
	}
}

// dump is everything that the loop knows of a pool, and what was published of it, as text. An
// effect that a settle begins shows in what the loop knows.
func (m *manager) dump(e *entry) string {
	published, _ := m.reg.Find(e.id)
	version, _ := m.reg.Version()
	var d dumper
	d.value("entry", reflect.ValueOf(e))
	d.value("published", reflect.ValueOf(published))
	for name, v := range map[string]any{"version": version, "saving": m.s.savingHistories, "unsaved": m.s.unsaved, "dirty": m.s.dirty,
		"status": m.status, "entries": len(m.s.entries)} {
		d.value(name, reflect.ValueOf(v))
	}
	slices.Sort(d.lines)
	return strings.Join(d.lines, "\n")
}

// dumper writes a line for each value that can be reached, in any package's private fields.
type dumper struct {
	lines []string
	seen  map[any]bool
}

func (d *dumper) value(path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		d.pointer(path, v)
	case reflect.Interface:
		if !v.IsNil() {
			d.value(path, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			d.value(path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Slice, reflect.Array:
		d.lines = append(d.lines, fmt.Sprintf("%s: %d values", path, v.Len()))
		for i := range v.Len() {
			d.value(fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		for _, k := range keys {
			d.value(fmt.Sprintf("%s[%v]", path, k), v.MapIndex(k))
		}
	case reflect.Func, reflect.Chan:
		d.lines = append(d.lines, fmt.Sprintf("%s: nil %t", path, v.IsNil()))
	default:
		d.lines = append(d.lines, fmt.Sprintf("%s: %v", path, v))
	}
}

func (d *dumper) pointer(path string, v reflect.Value) {
	if v.IsNil() {
		d.lines = append(d.lines, path+": nil")
		return
	}
	switch name := v.Type().Elem().String(); {
	case name == "supervise.Supervisor", name == "probe.Watch", name == "time.Location",
		strings.HasPrefix(name, "context."), strings.HasPrefix(name, "regexp."):
		return
	}
	if d.seen == nil {
		d.seen = make(map[any]bool)
	}
	if at := v.Pointer(); !d.seen[at] {
		d.seen[at] = true
		d.value(path, v.Elem())
	}
}

// firstDifference are the first lines that only one of two dumps has.
func firstDifference(a, b string) string {
	before, after := strings.Split(a, "\n"), strings.Split(b, "\n")
	var out []string
	for _, line := range before {
		if !slices.Contains(after, line) {
			out = append(out, "- "+line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			out = append(out, "+ "+line)
		}
	}
	return strings.Join(out[:min(len(out), 20)], "\n")
}

// TestAGoodProbeChangesNothing: in a pool that serves, nothing is decided or published after a good
// probe, and the heartbeat is published all the same. What does change ends that.
func TestAGoodProbeChangesNothing(t *testing.T) {
	scenario(t, "it_beats", func(t *testing.T, w *world) {
		m := serving(t, w)
		time.Sleep(time.Minute)
		synctest.Wait()
		was, beats := m.spared.Load(), m.beats()
		version, _ := m.reg.Version()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := m.spared.Load() - was; n < 11 {
			t.Errorf("only %d of the probes of a minute changed nothing", n)
		}
		if now, _ := m.reg.Version(); now != version || m.beats() < beats+11 {
			t.Errorf("%d changes, %d heartbeats", now-version, m.beats()-beats)
		}
		p := m.pool("a")
		if of := p.Replicas[0].LastHeartbeat; time.Since(of) > 6*time.Second || p.LastHeartbeat != of {
			t.Errorf("the heartbeat is %s old, that of its replica %s", time.Since(p.LastHeartbeat), time.Since(of))
		}
	})
	for name, change := range map[string]func(*world, *manager){
		"a_failed_probe":  func(w *world, _ *manager) { w.ill(true) },
		"a_longer_queue":  func(w *world, _ *manager) { w.with(func() { w.deferred = "llamacpp:requests_deferred 3\n" }) },
		"another_replica": func(_ *world, m *manager) { m.apply(pools(llama("a", twice))) },
		"an_invalid_file": func(_ *world, m *manager) { m.apply(Desired{Problems: []registry.Problem{bad("a")}}) },
	} {
		scenario(t, name, func(t *testing.T, w *world) {
			w.deferred = "llamacpp:requests_deferred 0\n"
			m := serving(t, w)
			time.Sleep(time.Minute)
			version, _ := m.reg.Version()
			change(w, m)
			time.Sleep(time.Minute)
			if now, _ := m.reg.Version(); now == version {
				t.Error("nothing was published")
			}
		})
	}
	scenario(t, "with_gpus_all_is_settled", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", func(p *pool.Pool) { p.Devices = [][]string{{"0"}} })))
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := m.spared.Load(); n > 0 {
			t.Errorf("%d probes of a pool with a GPU were said to change nothing", n)
		}
	})
}

func twice(p *pool.Pool) { p.Replicas, p.Devices = 2, make([][]string, 2) }

// BenchmarkGoodProbe is what the loop does with a good probe: where it changes nothing, and where
// the pool is settled.
func BenchmarkGoodProbe(b *testing.B) {
	for _, settled := range []bool{false, true} {
		name := "changes_nothing"
		if settled {
			name = "is_settled"
		}
		b.Run(name, func(b *testing.B) {
			s, w := retrying(1)
			e := waiting(s)[0]
			r := e.replicas[pool.Replica{Pool: e.id}]
			w.stage = nil
			s.everSynced = true
			r.prep.forgetAttempts()
			s.decidePool(e)
			for r.unit.phase != reconcile.Starting {
				(<-s.events)()
				if len(w.queue) > 0 {
					s.update((<-w.queue).update)
				}
			}
			w.passGate(unitOf(e.id))
			s.update((<-w.queue).update)
			for range 3 {
				s.probed(r.run.watch, nil, time.Millisecond)
			}
			if s.onlyBeats(r.run.watch) != true {
				b.Fatalf("%+v", r.facts())
			}
			b.ReportAllocs()
			for b.Loop() {
				r.run.watch.news = settled
				s.probed(r.run.watch, nil, time.Millisecond)
			}
		})
	}
}

func (m *manager) beats() uint64 {
	_, beats := m.reg.Version()
	return beats
}
