package memory

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	gguf "github.com/gpustack/gguf-parser-go"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// llamaOptions is what of llama-server's command line changes its memory, with its defaults filled in.
type llamaOptions struct {
	Ctx           int // tokens of all slots together; 0: not given
	Slots         int
	Batch, UBatch int
	Layers        int       // on the devices, the output layer counted as one; allLayers or more: all
	Split         []float64 // the share of each device, adding up to 1; empty: a CPU replica
	Main          int       // the device that has all where Single
	Single        bool      // one device has all of it (-sm none)
	K, V          gguf.GGMLType
	Flash         bool
	KVOnHost      bool
	Mapped        bool // the file is mapped, not read into memory
	FullSWA       bool
	Beside        []string // further files that are loaded whole: draft model, projector, adapters
}

// allLayers is more than any model has (-ngl 999 is what the adapter writes).
const allLayers = 999

// Bounds of what an operator may write; the arithmetic behind them is in 64 bits.
const (
	maxCtx   = math.MaxInt32 / 2
	maxBatch = 1 << 20
	maxSlots = 4096
)

// llamaDefaults of llama-server 0.7.0 (--help): -b 2048, -ub 512, -np -1, which is 4 slots that share one cache.
const (
	defaultBatch  = 2048
	defaultUBatch = 512
	defaultSlots  = 4
)

// readLlama reads the options of a pool on targets of these sizes from the command line that its adapter writes. What it cannot foresee is an
// error, and the replica's need is not known then.
func readLlama(p pool.Pool, model string, totals []uint64) (llamaOptions, error) {
	adapter, _ := engine.For(pool.LlamaCpp)
	names := make([]string, len(totals)) // only their number counts
	f := flagSet{args: adapter.Command(p, engine.Instance{Model: model, Devices: names}).Args, env: p.Env}
	if f.given("", unforeseen...) || f.given("LLAMA_ARG_OVERRIDE_TENSOR") {
		return llamaOptions{}, fmt.Errorf("args place single tensors (%s), which the estimate does not follow", strings.Join(unforeseen, ", "))
	}
	o := llamaOptions{Batch: defaultBatch, UBatch: defaultUBatch, Slots: defaultSlots, Flash: true, K: gguf.GGMLTypeF16, V: gguf.GGMLTypeF16}
	o.Ctx, _ = f.integer(maxCtx, "LLAMA_ARG_CTX_SIZE", "-c", "--ctx-size")
	if n, ok := f.integer(maxSlots, "LLAMA_ARG_N_PARALLEL", "-np", "--parallel"); ok && n > 0 {
		o.Slots = n
	}
	if n, ok := f.integer(maxBatch, "LLAMA_ARG_BATCH", "-b", "--batch-size"); ok && n > 0 {
		o.Batch = n
	}
	if n, ok := f.integer(maxBatch, "LLAMA_ARG_UBATCH", "-ub", "--ubatch-size"); ok && n > 0 {
		o.UBatch = n
	}
	o.UBatch = min(o.UBatch, o.Batch)
	o.Mapped = !f.given("LLAMA_ARG_NO_MMAP", "--no-mmap", "-dio", "--direct-io") && !isFalse(p.Env["LLAMA_ARG_MMAP"])
	o.FullSWA = f.given("LLAMA_ARG_SWA_FULL", "--swa-full")
	if v, ok := f.value("LLAMA_ARG_FLASH_ATTN", "-fa", "--flash-attn"); ok {
		o.Flash = !isFalse(v) // older versions have no value there, and it is on
	}
	for _, flags := range besides {
		if path, ok := f.value(flags[0], flags[1:]...); ok {
			o.Beside = append(o.Beside, path)
		}
	}
	if err := o.readCache(f); err != nil {
		return llamaOptions{}, err
	}
	return o, o.readDevices(f, p.TensorSplit, totals)
}

// unforeseen are flags that move single tensors between devices and host.
var unforeseen = []string{"-ot", "--override-tensor", "-cmoe", "--cpu-moe", "-ncmoe", "--n-cpu-moe", "--rpc"}

// besides are flags that name a further file of weights, with the variable first.
var besides = [][]string{
	{"LLAMA_ARG_MODEL_DRAFT", "-md", "--model-draft", "--spec-draft-model"},
	{"LLAMA_ARG_MMPROJ", "-mm", "--mmproj"},
	{"LLAMA_ARG_LORA", "--lora"},
}

func (o *llamaOptions) readCache(f flagSet) error {
	for _, side := range []struct {
		to    *gguf.GGMLType
		flags []string
	}{{&o.K, []string{"LLAMA_ARG_CACHE_TYPE_K", "-ctk", "--cache-type-k"}}, {&o.V, []string{"LLAMA_ARG_CACHE_TYPE_V", "-ctv", "--cache-type-v"}}} {
		name, ok := f.value(side.flags[0], side.flags[1:]...)
		if !ok {
			continue
		}
		kind, known := cacheType(name)
		if !known {
			return fmt.Errorf("%s %.20q is no cache type", side.flags[1], name)
		}
		*side.to = kind
	}
	o.KVOnHost = f.given("LLAMA_ARG_NO_KV_OFFLOAD", "-nkvo", "--no-kv-offload") || isFalse(f.env["LLAMA_ARG_KV_OFFLOAD"])
	return nil
}

// CacheTypes are the types of the KV cache that llama-server takes (--help, -ctk).
func CacheTypes() []string {
	return []string{"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"}
}

func cacheType(name string) (gguf.GGMLType, bool) {
	types := []gguf.GGMLType{gguf.GGMLTypeF32, gguf.GGMLTypeF16, gguf.GGMLTypeBF16, gguf.GGMLTypeQ8_0, gguf.GGMLTypeQ4_0,
		gguf.GGMLTypeQ4_1, gguf.GGMLTypeIQ4_NL, gguf.GGMLTypeQ5_0, gguf.GGMLTypeQ5_1}
	for i, known := range CacheTypes() {
		if name == known {
			return types[i], true
		}
	}
	return 0, false
}

// readDevices fills in what goes where. Without a split, llama.cpp gives each device layers by its free memory; the totals stand in
// for that, as free memory is not known beforehand.
func (o *llamaOptions) readDevices(f flagSet, split []float64, totals []uint64) error {
	if len(totals) == 0 {
		return nil
	}
	o.Layers = allLayers
	if text, ok := f.value("LLAMA_ARG_N_GPU_LAYERS", "-ngl", "--gpu-layers", "--n-gpu-layers"); ok && text != "all" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 { // "auto", -1: as many as fit
			return fmt.Errorf("-ngl %.20q leaves to the engine what goes to the devices", text)
		}
		o.Layers = min(n, allLayers)
	}
	switch mode, _ := f.value("LLAMA_ARG_SPLIT_MODE", "-sm", "--split-mode"); mode {
	case "none":
		o.Single = true
		main, _ := f.integer(len(totals)-1, "LLAMA_ARG_MAIN_GPU", "-mg", "--main-gpu")
		o.Main = main
	case "", "layer", "row":
	default:
		return fmt.Errorf("split mode %.20q is not known", mode)
	}
	o.Split = shares(split, totals)
	return nil
}

// shares are the parts of each device, adding up to 1: by the weights where there is one for each, else by the sizes, else evenly.
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

// forParser are the options in the library's words.
func (o llamaOptions) forParser() []gguf.GGUFRunEstimateOption {
	opts := []gguf.GGUFRunEstimateOption{
		gguf.WithLLaMACppContextSize(int32(o.Ctx)),
		gguf.WithParallelSize(int32(o.Slots)),
		gguf.WithLLaMACppLogicalBatchSize(int32(o.Batch)),
		gguf.WithLLaMACppPhysicalBatchSize(int32(o.UBatch)),
		gguf.WithLLaMACppCacheKeyType(o.K),
		gguf.WithLLaMACppCacheValueType(o.V),
		gguf.WithLLaMACppOffloadLayers(uint64(o.Layers)),
	}
	if o.Flash {
		opts = append(opts, gguf.WithFlashAttention())
	}
	if o.KVOnHost {
		opts = append(opts, gguf.WithoutLLaMACppOffloadKVCache())
	}
	if o.FullSWA {
		opts = append(opts, gguf.WithLLaMACppFullSizeSWACache())
	}
	if len(o.Split) > 0 {
		opts = append(opts, gguf.WithTensorSplitFraction(o.cumulated()))
	}
	return opts
}

// cumulated is the split as the library takes it: each share with all before it, the last exactly 1.
func (o llamaOptions) cumulated() []float64 {
	if o.Single {
		return []float64{1}
	}
	sums, sum := make([]float64, len(o.Split)), 0.0
	for i, s := range o.Split {
		sum += s
		sums[i] = min(sum, 1)
	}
	sums[len(sums)-1] = 1
	return sums
}
