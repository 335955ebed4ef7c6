package main

import (
	"net/http"

	"github.com/pool-managerd/pool-managerd/cgroups"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/metrics"
	"github.com/pool-managerd/pool-managerd/units/bench"
	"github.com/pool-managerd/pool-managerd/units/perf"
)

// buildBench makes what measures engines, before the registry gets its first status.
func (d *daemon) buildBench(counts *metrics.Metrics) {
	client := &http.Client{
		// A connection of its own for each request: an idle one would count as work to engines that
		// are stopped.
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	d.bench = bench.New(bench.Options{Registry: d.registry, Store: d.measured, Log: d.log, Client: client,
		Pressure: cpuPressure, Ended: counts.Measured})
	d.registry.Hint(d.bench.Hints)
	d.registry.OnPool(d.bench.Changed)
}

// cpuPressure is the share of the last ten seconds in which a task of the host waited for a CPU.
func cpuPressure() (share float64, ok bool) {
	p, err := cgroups.CPU("/proc/pressure/cpu")
	if err != nil || p == nil {
		return 0, false
	}
	return p.Some.Avg10 / 100, true
}

// observer passes what engines count on to what follows their performance, beside the metrics.
type observer struct {
	*metrics.Metrics
	bench *bench.Bench
}

// Counted implements supervise.Observer.
func (o observer) Counted(p registry.Pool, replica, version string, c registry.Counted) {
	o.Metrics.Counted(p, replica, version, c)
	o.bench.Counted(p.ID, replica, c)
}

// measurements implements api.Bench.
type measurements struct{ *bench.Bench }

// Shown implements api.Bench.
func (m measurements) Shown(pool string, details bool) wire.Bench {
	shown := m.Bench.Shown(pool)
	out := wire.Bench{PoolID: pool, Replicas: []wire.BenchReplica{}}
	if r := shown.Run; r != nil {
		run := wire.BenchRun{ID: r.ID, State: r.State, ReplicaID: optional(r.Replica), Step: r.Step, Steps: r.Steps,
			SinceMS: r.Since.UnixMilli()}
		if f := r.Failure; f != nil {
			if !details {
				f = f.Public()
			}
			run.Error, run.Hint = optional(f.Error()), optional(f.Hint)
		}
		out.Run = &run
	}
	for _, r := range shown.Replicas {
		i := r.Target.Identity
		one := wire.BenchReplica{ReplicaID: r.Target.Name, Engine: i.Engine, EngineVersion: optional(i.Version),
			ModelID: optional(i.Model), DeviceMask: append([]string{}, i.Mask...), Waits: optional(r.Waits)}
		if r.Row != nil {
			one.Last = resultOf(&r.Row.Last)
			one.Former = resultOf(r.Row.Former)
		}
		out.Replicas = append(out.Replicas, one)
	}
	return out
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func resultOf(r *perf.Result) *wire.BenchResult {
	if r == nil {
		return nil
	}
	out := &wire.BenchResult{MeasuredMS: r.At.UnixMilli(), One: figuresOf(r.One), SpreadRatio: perf.Round(r.Spread),
		Disturbed: optional(r.Disturbed)}
	if r.All != nil {
		all := figuresOf(*r.All)
		out.All = &all
	}
	return out
}

func figuresOf(f perf.Figures) wire.BenchFigures {
	return wire.BenchFigures{Streams: f.Streams, FirstTokenMS: perf.Round(f.FirstTokenMS),
		TokensPerS: perf.Round(f.TokensPerS), TotalTokensPerS: perf.Round(f.TotalTokensPerS),
		PromptTokensPerS: perf.Round(f.PromptTokensPerS)}
}
