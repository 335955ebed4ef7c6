package top

import (
	"fmt"
	"strconv"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// figures are the numbers of one row. Nil is not known.
type figures struct {
	used, total int // slots of the ready replicas
	requests    *int
	tokens      *float64 // a second
	first       *float64 // ms until the first token
	vram, ram   *uint64  // bytes
	pressure    *float64 // 0 to 1
	restarts    int
}

// figuresOf are those of each pool, "POOL", and of each replica, "POOL/REPLICA".
func figuresOf(p *Picture) map[string]*figures {
	out := make(map[string]*figures)
	for i := range p.Pools.Pools {
		w := &p.Pools.Pools[i]
		f := &figures{tokens: w.PerfTokensPerS, first: w.FirstTokenMS, restarts: w.RestartCount}
		out[w.ID] = f
		for j := range w.Replicas {
			r := &w.Replicas[j]
			one := &figures{restarts: r.RestartCount}
			if r.Ready {
				one.used, one.total = r.SlotsTotal-r.SlotsFree, r.SlotsTotal
				f.used, f.total = f.used+one.used, f.total+one.total
			}
			out[w.ID+"/"+r.ID] = one
		}
	}
	for _, u := range p.Usage.Pools {
		if f := out[u.PoolID]; f != nil {
			f.requests, f.ram, f.pressure = u.RequestsInProgress, u.MemoryBytes, u.MemoryPressure
		}
		for _, r := range u.Replicas {
			if f := out[u.PoolID+"/"+r.ID]; f != nil {
				f.requests, f.ram, f.pressure = r.RequestsInProgress, r.MemoryBytes, r.MemoryPressure
			}
		}
	}
	for i := range p.Devices.Devices {
		for _, of := range processesOf(&p.Devices.Devices[i]) {
			for _, key := range []string{of.PoolID, of.PoolID + "/" + of.ReplicaID} {
				if f := out[key]; f != nil {
					f.vram = add(f.vram, of.UsedBytes)
				}
			}
		}
	}
	return out
}

// processesOf are those of a GPU and its partitions, each once.
func processesOf(d *wire.GPUDevice) []wire.GPUProcess {
	all := d.Processes
	seen := make(map[int]bool)
	for _, p := range d.Processes {
		seen[p.PID] = true
	}
	for _, part := range d.Partitions {
		for _, p := range part.Processes {
			if !seen[p.PID] {
				all = append(all[:len(all):len(all)], p)
			}
		}
	}
	return all
}

// sum adds the figures of pools; what is known of one is a part of it.
func (f *figures) sum(o *figures) {
	f.used, f.total, f.restarts = f.used+o.used, f.total+o.total, f.restarts+o.restarts
	f.requests, f.tokens = add(f.requests, o.requests), add(f.tokens, o.tokens)
	f.vram, f.ram = add(f.vram, o.vram), add(f.ram, o.ram)
	if o.pressure != nil && (f.pressure == nil || *f.pressure < *o.pressure) {
		f.pressure = o.pressure
	}
}

// add is the sum of what is known.
func add[T int | uint64 | float64](a, b *T) *T {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	sum := *a + *b
	return &sum
}

const unknown = "-"

func count(n *int) string {
	if n == nil {
		return unknown
	}
	return strconv.Itoa(*n)
}

// short is a number in at most five characters.
func short(v *float64) string {
	switch {
	case v == nil:
		return unknown
	case *v < 10:
		return fmt.Sprintf("%.1f", *v)
	case *v < 10_000:
		return fmt.Sprintf("%.0f", *v)
	}
	return fmt.Sprintf("%.0fk", *v/1000)
}

// size is a number of bytes in at most five characters, to the base of 1024.
func size(b *uint64) string {
	if b == nil {
		return unknown
	}
	v, units := float64(*b), "BKMGTP"
	i := 0
	for v >= 999.5 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if v < 9.95 && i > 0 {
		return fmt.Sprintf("%.1f%c", v, units[i])
	}
	return fmt.Sprintf("%.0f%c", v, units[i])
}

func percent(ratio *float64) string {
	if ratio == nil {
		return unknown
	}
	return fmt.Sprintf("%.0f%%", *ratio*100)
}

func (f *figures) slots() string {
	if f.total == 0 {
		return unknown
	}
	return fmt.Sprintf("%d/%d", f.used, f.total)
}
