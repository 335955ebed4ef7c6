package view

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// fleetOf are the keys of a fleet, with pools as real ones are.
func fleetOf(hosts, pools int) []KV {
	keys := record.Below(prefix)
	known := registrytest.Llama()
	w := wire.PoolOf(&known)
	p := record.PoolOf(&w)
	var all []KV
	for h := range hosts {
		id := fmt.Sprintf("%032x", h)
		all = append(all, KV{keys.Host(id), record.Encode(record.Host{Schema: record.Schema, MachineID: id, BootID: id,
			Name: "gpu" + id, Address: "https://gpu" + id + ":9200", GPUs: make([]record.GPU, 8)})})
		for n := range pools {
			p.ID = fmt.Sprintf("pool%d", n)
			all = append(all, KV{keys.Pool(id, p.ID), record.Encode(p)})
		}
	}
	return all
}

// BenchmarkFleet is what a reader of 1000 hosts with 20 pools each needs: to take the whole list,
// to take a change, to encode the list; and what it then keeps in memory.
func BenchmarkFleet(b *testing.B) {
	kvs := fleetOf(1000, 20)
	s := New(prefix)
	whole := func() {
		s.Apply(Batch{Kind: Begin})
		s.Apply(Batch{Kind: Page, KVs: kvs})
		s.Apply(Batch{Kind: End, Revision: 1})
	}
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	before := heap()
	whole()
	kept := heap() - before
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			whole()
		}
		b.ReportMetric(kept/(1<<20), "MiB-kept")
	})
	b.Run("change", func(b *testing.B) {
		one := kvs[len(kvs)/2+1]                      // of a pool
		s.Apply(Batch{Kind: Changed, KVs: []KV{one}}) // an odd number of changes deleted it
		for i := 0; b.Loop(); i++ {
			change := Batch{Kind: Changed, KVs: []KV{{one.Key, nil}}}
			if i%2 == 1 {
				change.KVs[0].Value = one.Value
			}
			if len(s.Apply(change)) != 1 {
				b.Fatal("nothing changed")
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		size := 0
		for b.Loop() {
			body, err := wire.Encode(s.Pools())
			if err != nil {
				b.Fatal(err)
			}
			size = len(body)
		}
		b.ReportMetric(float64(size)/(1<<20), "MiB")
	})
}
