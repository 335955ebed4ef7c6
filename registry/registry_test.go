package registry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

func ids(r *Registry) []string {
	var out []string
	for _, p := range r.Pools() {
		out = append(out, p.ID)
	}
	return out
}

func TestPools(t *testing.T) {
	r := New()
	for _, id := range []string{"mistral", "gemma", "llama3", "gemma"} {
		r.Put(Pool{ID: id, Engine: "llamacpp"})
	}
	t.Run("sorted_and_each_once", func(t *testing.T) {
		if got, want := ids(r), []string{"gemma", "llama3", "mistral"}; !slices.Equal(got, want) {
			t.Errorf("Pools = %v, want %v", got, want)
		}
	})
	t.Run("a_put_replaces_the_whole_status", func(t *testing.T) {
		r.Put(Pool{ID: "gemma", EngineVersion: "b1"})
		if p, ok := r.Pool("gemma"); !ok || p.Engine != "" || p.EngineVersion != "b1" {
			t.Errorf("Pool = %+v, %t", p, ok)
		}
	})
	t.Run("a_snapshot_does_not_change", func(t *testing.T) {
		before := r.Snapshot()
		r.Put(Pool{ID: "gemma", EngineVersion: "b2"})
		r.Remove("mistral")
		r.SetProblems([]Problem{{File: "x.toml"}})
		old, _ := before.Pool("gemma")
		if old.EngineVersion != "b1" || len(before.Pools) != 3 || len(before.Problems) != 0 {
			t.Errorf("a snapshot changed under its reader: %+v", before)
		}
		if now := r.Snapshot(); now.Version != before.Version+3 || len(now.Pools) != 2 || len(now.Problems) != 1 {
			t.Errorf("after three writes: version %d after %d, %d pools, %d problems", now.Version, before.Version,
				len(now.Pools), len(now.Problems))
		}
	})
	t.Run("an_unknown_pool", func(t *testing.T) {
		version := r.Snapshot().Version
		r.Remove("nobody")
		if _, ok := r.Pool("nobody"); ok || r.Snapshot().Version != version {
			t.Error("an unknown pool is found, or its removal was a write")
		}
	})
}

func TestNextEvent(t *testing.T) {
	r := New()
	r.Put(Pool{ID: "a", Replicas: []Replica{{ID: "r0"}}})
	came := func(next <-chan struct{}) bool {
		select {
		case <-next:
			return true
		default:
			return false
		}
	}
	for _, c := range []struct {
		name  string
		write func()
		wakes bool
	}{
		{"a_heartbeat_wakes_none", func() {
			r.Put(Pool{ID: "a", LastHeartbeat: time.Unix(9, 0),
				Replicas: []Replica{{ID: "r0", LastHeartbeat: time.Unix(9, 0)}}})
		}, false},
		{"nor_does_a_change_that_is_no_event", func() { r.Put(Pool{ID: "a", RestartCount: 1}) }, false},
		{"a_flip_of_ready_wakes", func() { r.Put(Pool{ID: "a", Ready: true}) }, true},
		{"and_what_a_writer_notes", func() { r.Note(Event{Kind: KindDrain, PoolID: "a"}) }, true},
		{"and_the_end_of_what_served", func() { r.Remove("a") }, true},
		{"and_a_change_of_a_gpu", func() { r.SetDevices(Devices{Devices: []Device{{UUID: "GPU-0", Health: HealthOK}}}) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, last := r.NextEvent(), r.LastEvent()
			c.write()
			if came(next) != c.wakes || (r.LastEvent() > last) != c.wakes {
				t.Errorf("woken: %t; want %t", came(next), c.wakes)
			}
			if came(r.NextEvent()) {
				t.Error("the channel of the next event is closed already")
			}
		})
	}
}

// TestHeartbeats: a good probe alone is no change, and yet readers see when it was.
func TestHeartbeats(t *testing.T) {
	r := New()
	at := func(s int64) Pool {
		return Pool{ID: "a", Ready: true, LastHeartbeat: time.Unix(s, 0), LastError: Fail(CodeBreakerOpen, "m", "h"),
			DeviceMask: []string{"0"},
			Devices:    []PoolDevice{{ID: "0", Memory: &VRAM{Total: 9, Free: 1}}},
			Replicas:   []Replica{{ID: "r0", Ready: true, LastHeartbeat: time.Unix(s, 0), DeviceMask: []string{"0"}}}}
	}
	r.Put(at(1))
	before := r.Snapshot()
	for s := int64(2); s < 5; s++ {
		r.Put(at(s))
		p, _ := r.Pool("a")
		if p.LastHeartbeat.Unix() != s || p.Replicas[0].LastHeartbeat.Unix() != s {
			t.Errorf("heartbeats %v and %v, want %d", p.LastHeartbeat, p.Replicas[0].LastHeartbeat, s)
		}
	}
	version, beats := r.Version()
	if version != before.Version || beats != before.Beats+3 {
		t.Errorf("version %d after %d, beats %d after %d", version, before.Version, beats, before.Beats)
	}
}

// TestManyReaders is for the race detector: readers always see whole pools, in order.
func TestManyReaders(t *testing.T) {
	r := New()
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for ctx.Err() == nil {
				last := ""
				for _, p := range r.Snapshot().Pools {
					if p.ID <= last {
						t.Errorf("%s comes after %s", p.ID, last)
					}
					if len(p.Replicas) != p.SlotsTotal {
						t.Errorf("%s is half of one status and half of another", p.ID)
					}
					last = p.ID
				}
			}
		})
	}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 200 {
				id := fmt.Sprintf("pool%d-%d", w, i%20)
				n := i % 3
				r.Put(Pool{ID: id, SlotsTotal: n, Replicas: make([]Replica, n)})
				if i%5 == 0 {
					r.Remove(id)
				}
			}
		})
	}
	writers.Wait()
	cancel()
	readers.Wait()
}

// BenchmarkPut is one write to one pool, where only its heartbeat moved and where it changed,
// beside how many pools there are.
func BenchmarkPut(b *testing.B) {
	for _, pools := range []int{1, 1000} {
		r := New()
		for i := range pools {
			r.Put(Pool{ID: fmt.Sprintf("pool-%03d", i)})
		}
		for _, c := range []struct {
			name string
			next func(i int) Pool
		}{
			{"heartbeat", func(i int) Pool { return Pool{ID: "pool-000", LastHeartbeat: time.Unix(int64(i), 0)} }},
			{"change", func(i int) Pool { return Pool{ID: "pool-000", RestartCount: i + 1} }},
		} {
			b.Run(fmt.Sprintf("%s_among_%d", c.name, pools), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					r.Put(c.next(i))
				}
			})
		}
	}
}

// TestOnPool: each write of a pool is reported in order, with what readers see from then on.
func TestOnPool(t *testing.T) {
	r := New()
	leases := 0
	r.CountLeases(func(string, string) int { return leases })
	var got []string
	r.OnPool(func(id string, p *Pool) {
		if p == nil {
			got = append(got, id+" removed")
			return
		}
		got = append(got, fmt.Sprintf("%s %s free %d", id, p.State, p.SlotsFree))
	})
	p := Pool{ID: "a", State: StateReady, Replicas: []Replica{{ID: "r0", Ready: true, SlotsTotal: 4}}}
	r.Put(p)
	leases = 3
	r.LeasesChanged("a")
	r.LeasesChanged("nobody")
	r.SetProblems(nil)
	r.Remove("nobody")
	r.Remove("a")
	if want := []string{"a ready free 4", "a ready free 1", "a removed"}; !slices.Equal(got, want) {
		t.Errorf("reported %q, want %q", got, want)
	}
}
