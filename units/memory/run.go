package memory

import (
	"fmt"
	"math"

	gguf "github.com/gpustack/gguf-parser-go"

	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// run is how an engine would load a model, and on which devices.
type run struct {
	engine.Run
	K, V  gguf.GGMLType
	Split []float64 // the share of each device, adding up to 1; empty: a CPU replica
	// Contexts are what CUDA itself takes of each device, in bytes.
	Contexts []uint64
}

// readRun returns how the adapter would load the model on these targets. Without a tensor_split,
// their totals are used in place of the free memory, which is unknown.
func readRun(a engine.Adapter, p pool.Pool, model string, targets []devices.Target) (r run, err error) {
	names := make([]string, len(targets)) // only their number counts
	totals, contexts := make([]uint64, len(targets)), make([]uint64, len(targets))
	for i, t := range targets {
		totals[i], contexts[i] = t.Total, cudaContext(t.ComputeCapability)
	}
	if r.Run, err = a.Run(p, engine.Instance{Model: model, Devices: names}); err != nil {
		return run{}, err
	}
	if r.K, err = cacheType(r.Run.K); err != nil {
		return run{}, err
	}
	if r.V, err = cacheType(r.Run.V); err != nil {
		return run{}, err
	}
	if len(totals) > 0 {
		r.Split, r.Contexts = shares(p.TensorSplit, totals), contexts
	}
	return r, nil
}

// cacheType returns the library's type for a KV cache type.
func cacheType(name string) (gguf.GGMLType, error) {
	known := map[string]gguf.GGMLType{
		"f32": gguf.GGMLTypeF32, "f16": gguf.GGMLTypeF16, "bf16": gguf.GGMLTypeBF16, "q8_0": gguf.GGMLTypeQ8_0,
		"q4_0": gguf.GGMLTypeQ4_0, "q4_1": gguf.GGMLTypeQ4_1, "iq4_nl": gguf.GGMLTypeIQ4_NL,
		"q5_0": gguf.GGMLTypeQ5_0, "q5_1": gguf.GGMLTypeQ5_1,
	}
	kind, ok := known[name]
	if !ok {
		return 0, fmt.Errorf("unknown cache type %.20q", name)
	}
	return kind, nil
}

// shares returns the share of each device, adding up to 1: by the weights if there is one for each,
// else by the sizes, else evenly.
func shares(weights []float64, totals []uint64) []float64 {
	if len(weights) != len(totals) {
		weights = make([]float64, len(totals))
		for i, t := range totals {
			weights[i] = float64(t)
		}
	}
	sum := 0.0
	for _, w := range weights {
		sum += max(w, 0)
	}
	parts := make([]float64, len(totals))
	for i, w := range weights {
		parts[i] = 1 / float64(len(parts))
		if sum > 0 && !math.IsInf(sum, 0) { // a NaN makes the sum one
			parts[i] = max(w, 0) / sum
		}
	}
	return parts
}

// forParser returns the library's options.
func (r run) forParser() []gguf.GGUFRunEstimateOption {
	opts := []gguf.GGUFRunEstimateOption{
		gguf.WithLLaMACppContextSize(int32(r.Ctx)),
		gguf.WithParallelSize(int32(r.Slots)),
		gguf.WithLLaMACppLogicalBatchSize(int32(r.Batch)),
		gguf.WithLLaMACppPhysicalBatchSize(int32(r.UBatch)),
		gguf.WithLLaMACppCacheKeyType(r.K),
		gguf.WithLLaMACppCacheValueType(r.V),
		gguf.WithLLaMACppOffloadLayers(uint64(r.Layers)),
	}
	if r.Flash {
		opts = append(opts, gguf.WithFlashAttention())
	}
	if r.KVOnHost {
		opts = append(opts, gguf.WithoutLLaMACppOffloadKVCache())
	}
	if r.FullSWA {
		opts = append(opts, gguf.WithLLaMACppFullSizeSWACache())
	}
	if len(r.Split) > 0 {
		opts = append(opts, gguf.WithTensorSplitFraction(r.cumulated()))
	}
	return opts
}

// cumulated returns the split as the library expects it: the cumulative shares, the last exactly 1.
func (r run) cumulated() []float64 {
	if r.Single {
		return []float64{1}
	}
	sums, sum := make([]float64, len(r.Split)), 0.0
	for i, s := range r.Split {
		sum += s
		sums[i] = min(sum, 1)
	}
	sums[len(sums)-1] = 1
	return sums
}
