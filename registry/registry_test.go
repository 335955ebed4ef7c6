package registry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
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
			t.Errorf("after three writes: version %d after %d, %d pools, %d problems", now.Version, before.Version, len(now.Pools), len(now.Problems))
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

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New()
		ctx, cancel := context.WithCancel(t.Context())
		changed := r.Watch(ctx)
		for range 10 {
			r.Put(Pool{ID: "a"})
		}
		<-changed
		select {
		case <-changed:
			t.Error("ten changes that nobody looked at are more than one receipt")
		default:
		}
		r.Remove("a")
		<-changed
		cancel()
		if _, open := <-changed; open {
			t.Error("the channel gives changes after its context ended")
		}
		r.Put(Pool{ID: "b"}) // must not send on the closed channel
	})
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

func BenchmarkPut500Pools(b *testing.B) {
	r := New()
	for i := range 500 {
		r.Put(Pool{ID: fmt.Sprintf("pool-%03d", i)})
	}
	b.ReportAllocs()
	for b.Loop() {
		r.Put(Pool{ID: "pool-250", RestartCount: 1})
	}
}
