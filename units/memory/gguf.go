package memory

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	gguf "github.com/gpustack/gguf-parser-go"

	"github.com/pool-managerd/pool-managerd/units/engine"
)

// readTimeout bounds the reading of a model's headers, which may be on a slow network file system.
const readTimeout = 10 * time.Second

// maxSane is above the memory of any machine, in bytes: a larger estimate comes from a corrupt
// file.
const maxSane = 1 << 50

// ggufModels estimates what an engine needs for a GGUF model. Only its implementation knows the
// library.
type ggufModels interface {
	// Usage returns the need of a model whose parts are these files. The options are within bounds.
	Usage(ctx context.Context, paths []string, r run) (usage, error)
}

// usage is the memory that a model takes, in bytes.
type usage struct {
	Host    deviceUsage
	Devices []deviceUsage // by the position in the mask
	Ctx     uint64        // tokens of all slots together, for which it was computed
	Trained uint64        // the context that the model was trained for; 0: unknown
}

// deviceUsage is the need on one device, or of main memory.
type deviceUsage struct {
	Weights, KV, Compute, Runtime uint64
}

// parser is gguf-parser-go with our own header reader.
type parser struct{}

// Usage implements ggufModels. The library panics on invalid input, which becomes an error here. It
// gets only what readHeaders accepts, so it terminates, and it runs in the caller's goroutine.
func (parser) Usage(ctx context.Context, paths []string, r run) (u usage, err error) {
	defer func() {
		if p := recover(); p != nil {
			u, err = usage{}, fmt.Errorf("the model cannot be estimated: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	file, err := readHeaders(ctx, paths)
	if err != nil {
		return usage{}, err
	}
	arch, err := languageModel(file)
	if err != nil {
		return usage{}, err
	}
	trained := arch.MaximumContextLength
	if r.Ctx == 0 {
		r.Ctx = unsetCtx(trained)
	}
	e := file.EstimateLLaMACppRun(r.forParser()...)
	if e.Type != "model" {
		return usage{}, fmt.Errorf("its type is %.40q, not a model", e.Type)
	}
	u = usageOf(e, r, uint64(file.ModelSize), arch.EmbeddingLength)
	switch host := e.Devices[0].Computation; {
	case len(r.Split) == 0:
		u.Host.Compute = hostCompute(file, e, r)
	case e.FullOffloaded: // the library still counts a layer on the host; only the graph's inputs and outputs are there
		u.Host.Compute = uint64(host.Footprint + host.Input + host.Output)
	}
	u.Trained = trained
	if err := u.sane(); err != nil {
		return usage{}, err
	}
	return u, nil
}

// languageModel returns the architecture of a file that is a complete language model.
func languageModel(file *gguf.GGUFFile) (gguf.GGUFArchitecture, error) {
	if err := whole(file); err != nil {
		return gguf.GGUFArchitecture{}, err
	}
	if kind, ok := file.Header.MetadataKV.Get("general.type"); ok && kind.ValueString() != "model" {
		return gguf.GGUFArchitecture{}, fmt.Errorf("its type is %.40q, not a model", kind.ValueString())
	}
	name, ok := file.Header.MetadataKV.Get("general.architecture")
	if !ok || name.ValueString() == "clip" {
		return gguf.GGUFArchitecture{}, errors.New("its architecture is unknown")
	}
	return file.Architecture(), nil
}

// whole checks that the file is as long as its tensors, so that the weights are bounded by the
// file.
func whole(file *gguf.GGUFFile) error {
	var sum uint64
	for _, t := range file.TensorInfos {
		sum = saturated(sum, t.Bytes())
	}
	if sum > uint64(file.ModelSize) {
		return fmt.Errorf("its tensors take %s, but the file has %s", Size(sum), Size(uint64(file.ModelSize)))
	}
	return nil
}

// fittedCtx is the smallest context to which llama.cpp reduces an unset one if memory is short
// (--fit-ctx); versions before --fit used it as the default.
const fittedCtx = 4096

// unsetCtx returns the smallest context that llama.cpp uses if the pool sets none.
func unsetCtx(trained uint64) int {
	if trained == 0 || trained > fittedCtx {
		return fittedCtx
	}
	return int(trained)
}

// usageOf converts the library's estimate. Its first device is the host.
func usageOf(e gguf.LLaMACppRunEstimate, r run, modelSize, width uint64) usage {
	host := e.Devices[0]
	weights := uint64(host.Weight.Input + host.Weight.Compute + host.Weight.ComputeOverridden)
	if host.HandleOutputLayer || r.Layers == 0 {
		// An output layer that is shared with the input is in memory once: at most the file is
		// mapped.
		weights = min(weights+uint64(host.Weight.Output), modelSize)
	}
	u := usage{
		Host: deviceUsage{Weights: weights, KV: uint64(host.KVCache.Sum()), Compute: uint64(host.Computation.Sum()),
			Runtime: uint64(host.Footprint)},
		Ctx: e.ContextSize,
	}
	for i := range r.Split {
		u.Devices = append(u.Devices, onDevice(e, r, i, width))
	}
	if len(r.Split) > 0 {
		u.Host.Runtime = saturated(u.Host.Runtime, cudaHost)
	}
	return u
}

// hostCompute is the size of the buffers of one batch where all layers are on the CPU. The library
// leaves those of the layers out there; the graph is the same as on a GPU, for which its estimate
// was right to a few percent (TestEstimate in test/e2e).
func hostCompute(file *gguf.GGUFFile, e gguf.LLaMACppRunEstimate, r run) uint64 {
	r.Layers, r.Split = engine.AllLayers, []float64{1}
	graph := file.EstimateLLaMACppRun(r.forParser()...).Devices[1].Computation
	host := e.Devices[0].Computation
	return uint64(host.Footprint + max(graph.Compute, host.Output))
}

// onDevice returns the need on the device at a position of the mask.
func onDevice(e gguf.LLaMACppRunEstimate, r run, i int, width uint64) deviceUsage {
	// also without a part of the model: CUDA is initialised on all visible devices
	part := deviceUsage{Runtime: r.Contexts[i]}
	if r.Single {
		if i != r.Main {
			return part
		}
		i = 0
	}
	d := e.Devices[i+1]
	if e.FlashAttention {
		d.Computation.Input = gguf.GGUFBytesScalar(float64(d.Computation.Input) * maskInHalf(e.ContextSize, width))
	}
	part.Runtime = saturated(part.Runtime, uint64(d.Footprint))
	if d.HandleLastLayer >= 0 || d.HandleOutputLayer {
		part.Weights, part.KV, part.Compute = uint64(d.Weight.Sum()), uint64(d.KVCache.Sum()),
			uint64(d.Computation.Sum())
	}
	return part
}

// maskInHalf is the factor by which the inputs of a graph are smaller with flash attention: its
// mask, one number per token of context, is F16 then, but the library assumes F32. The other inputs
// are an embedding and a position, in 32 bits.
func maskInHalf(ctx, width uint64) float64 {
	beside := 4 * float64(width+1)
	return (beside + 2*float64(ctx)) / (beside + 4*float64(ctx))
}

// What CUDA itself takes in a process: the context and the kernels on the GPU, the driver's
// libraries in main memory. The library's command line assumes 150 and 250 MiB for all
// (--platform-footprint). On an H100 with driver 580 a C++ program was seen with 518 MiB on the GPU
// and the driver with 9 more; a program with kernels of its own and cuBLAS, such as PyTorch, with
// 612.
const (
	usualContext  = 250 << 20
	hopperContext = 620 << 20
	cudaHost      = 150 << 20
)

// cudaContext returns what CUDA takes of a GPU of that compute capability ("9.0"; empty: unknown).
func cudaContext(capability string) uint64 {
	major, _, _ := strings.Cut(capability, ".")
	if n, err := strconv.Atoi(major); err == nil && n >= 9 {
		return hopperContext
	}
	return usualContext
}

// sum returns the total.
func (d deviceUsage) sum() uint64 {
	return saturated(saturated(d.Weights, d.KV), saturated(d.Compute, d.Runtime))
}

// sane rejects numbers that no machine has: sums of a file's numbers may have overflowed.
func (u usage) sane() error {
	for _, d := range append([]deviceUsage{u.Host}, u.Devices...) {
		for _, part := range []uint64{d.Weights, d.KV, d.Compute, d.Runtime} {
			if part > maxSane {
				return errors.New("the estimate exceeds any machine; the file is corrupt")
			}
		}
	}
	return nil
}
