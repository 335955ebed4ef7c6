package main

import (
	"strings"
	"sync"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// benches measures engines in two looks, as a manager does in some seconds.
type benches struct {
	mu    sync.Mutex
	asked []wire.BenchRequest
	err   error
	ends  string // the state of the run in the end
	looks int
	known []wire.BenchReplica
}

func (b *benches) Ask(_, replica string, force bool, _ string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.asked = append(b.asked, wire.BenchRequest{ReplicaID: replica, Force: force})
	}
	return b.err
}

func (b *benches) Shown(pool string, _ bool) wire.Bench {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := wire.Bench{PoolID: pool, Replicas: b.known}
	if len(b.asked) == 0 {
		return out
	}
	out.Run = &wire.BenchRun{ID: "b1", State: "running", ReplicaID: new("r0"), Step: 1, Steps: 4}
	if b.looks++; b.looks > 3 {
		out.Run.State = b.ends
		if b.ends != "done" {
			out.Run.Error, out.Run.Hint = new("BENCH_FAILED: a lease was asked for"), new("Try again.")
		}
	}
	return out
}

// benched is what was measured of a pool: twice, once, and not yet.
func benched() []wire.BenchReplica {
	figures := func(streams int, rate float64) wire.BenchFigures {
		return wire.BenchFigures{Streams: streams, FirstTokenMS: 183, TokensPerS: rate,
			TotalTokensPerS: rate * float64(streams), PromptTokensPerS: 712}
	}
	at := registrytest.Start().UnixMilli()
	last := &wire.BenchResult{MeasuredMS: at, One: figures(1, 41.7), All: new(figures(4, 28.3)), SpreadRatio: 0.03}
	former := &wire.BenchResult{MeasuredMS: at - 6*24*3600*1000, One: figures(1, 42.1), All: new(figures(4, 20)),
		SpreadRatio: 0.1}
	r := wire.BenchReplica{ReplicaID: "r0", Engine: "llamacpp", EngineVersion: new("0.7.0"),
		ModelID: new("file:/srv/models/gemma.gguf"), DeviceMask: []string{}, Last: last, Former: former}
	one := r
	one.ReplicaID, one.Former, one.DeviceMask = "r1", nil, []string{"GPU-1", "GPU-2"}
	one.Last = &wire.BenchResult{MeasuredMS: at, SpreadRatio: 0.4, Disturbed: new("the runs differ by 40 %"),
		One: wire.BenchFigures{Streams: 1, FirstTokenMS: 0.5, TokensPerS: 3820, TotalTokensPerS: 3000}}
	none := r
	none.ReplicaID, none.Last, none.Former, none.Waits = "r2", nil, nil, new("the host is busy")
	return []wire.BenchReplica{r, one, none}
}

func TestBench(t *testing.T) {
	refused := registry.Fail(registry.CodeBenchRefused, "pool gemma is not measured now: leases are held",
		"Use --force.")
	for _, c := range []struct {
		name, line string
		ends       string
		err        error
		asked      int
		code       int
		says       string
	}{
		{"measured", "bench gemma", "done", nil, 1, exitOK, "r0: llamacpp 0.7.0, file:/srv/models/gemma.gguf, on the CPU"},
		{"progress", "bench gemma", "done", nil, 1, exitOK, "gemma: measuring r0, run 2 of 4"},
		{"last", "bench gemma --last", "", nil, 0, exitOK, "measured 1 min ago, spread 3 %; before: 6 d 0 h ago"},
		{"json", "bench gemma --last -o json", "", nil, 0, exitOK, `{"pool_id":"gemma","run":null,"replicas":[{"replica_id":"r0",`},
		{"yaml", "bench gemma --last -o yaml", "", nil, 0, exitOK, `pool_id: "gemma"`},
		{"cancelled", "bench gemma", "cancelled", nil, 1, exitFailed, "BENCH_FAILED: a lease was asked for\n  Try again."},
		{"refused", "bench gemma", "", refused, 0, exitFailed, "leases are held\n  Use --force."},
		{"of_one_replica_by_force", "bench gemma --force --replica r0", "done", nil, 1, exitOK, "r0: llamacpp"},
		{"unknown_replica", "bench gemma --replica r9", "", nil, 0, exitFailed, "no replica"},
		{"unknown_pool", "bench gema", "", nil, 0, exitNoPool, "Did you mean gemma?"},
		{"no_pool", "bench", "", nil, 0, exitUsage, "accepts 1 arg"},
		{"last_and_force", "bench gemma --last --force", "", nil, 0, exitUsage, "force last"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.fill()
			h.bench.ends, h.bench.err, h.bench.known = c.ends, c.err, benched()
			r := h.run(strings.Fields(c.line)...)
			if r.code != c.code || !strings.Contains(r.out+r.errOut, c.says) || len(h.bench.asked) != c.asked {
				t.Errorf("status %d, asked %+v\n%s%s\nwant status %d and %q", r.code, h.bench.asked, r.out, r.errOut,
					c.code, c.says)
			}
		})
	}
	t.Run("table", func(t *testing.T) {
		h := newHost(t)
		h.fill()
		h.bench.known = benched()
		h.golden(t, "bench", "bench gemma --last")
	})
}

// TestPerformanceLine: status shows the hints, how old their measurement is, and that it was
// disturbed.
func TestPerformanceLine(t *testing.T) {
	h := newHost(t)
	h.reg.Hint(func(string, *registry.Replica) *registry.Perf {
		return &registry.Perf{TokensPerS: 41.7, FirstTokenMS: 183, Measured: registrytest.Start(), Disturbed: true}
	})
	h.fill()
	want := "41.7 tokens/s, first token after 183 ms, measured 1 min ago, disturbed"
	if r := h.run("status", "gemma"); !strings.Contains(r.out, want) {
		t.Errorf("%s\nwant %q", r.out, want)
	}
}
