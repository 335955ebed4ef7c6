package classify

import (
	"regexp"
	"strings"
)

// fallbackRow is a line that says that an engine runs, or is about to run, without its GPU.
type fallbackRow struct {
	engines string // the kinds of engine that say it, as in a pool file
	pattern *regexp.Regexp
	why     string
}

// fallbackRows are what engines say, with where.
var fallbackRows = []fallbackRow{
	// llama.cpp src/llama-model.cpp, load_tensors: "%s: offloaded %d/%d layers to GPU". A part is
	// the operator's choice, none is not.
	{"llamacpp", regexp.MustCompile(`(?i)offloaded 0/\d+ layers to GPU`), "the engine put no layer of the model on its GPU"},
	// llama.cpp common/arg.cpp: "warning: no usable GPU found, --gpu-layers option will be ignored"
	{"llamacpp", regexp.MustCompile(`(?i)no usable GPU found`), "the engine found no usable GPU"},
	// llama.cpp ggml/src/ggml-cuda/ggml-cuda.cu: "%s: failed to initialize CUDA: %s", __func__,
	// cudaGetErrorString(err)
	{"llamacpp", regexp.MustCompile(`(?i)ggml_cuda_init: failed to initialize CUDA`), "CUDA could not be started in the engine"},
	// llama.cpp common/arg.cpp, where the build has no backend: "compiled without GPU support"
	// follows "no usable GPU found"
	{"llamacpp", regexp.MustCompile(`(?i)compiled without (?:support for )?GPU (?:support|offload)`), "the engine was built without GPU support"},
	// PyTorch c10/cuda and torch/cuda/__init__.py, _lazy_init
	{"vllm tgi", regexp.MustCompile(`(?i)No CUDA GPUs are available`), "PyTorch found no GPU"},
	{"vllm tgi", regexp.MustCompile(`(?i)Torch not compiled with CUDA enabled`), "PyTorch was built without CUDA"},
	// vLLM vllm/config, DeviceConfig: RuntimeError("Failed to infer device type")
	{"vllm", regexp.MustCompile(`(?i)Failed to infer device type`), "vLLM found no GPU"},
	// vLLM vllm/platforms/__init__.py: "Automatically detected platform %s.", "No platform
	// detected, vLLM is running on UnspecifiedPlatform"
	{"vllm", regexp.MustCompile(`(?i)Automatically detected platform cpu\b`), "vLLM runs on the CPU"},
	{"vllm", regexp.MustCompile(`(?i)vLLM is running on UnspecifiedPlatform`), "vLLM found no GPU"},
	// Triton core src/pinned_memory_manager.cc and src/metrics.cc; "CUDA memory pool disabled" and
	// "CudaDriverHelper has not been initialized" are said with a working GPU too.
	{"triton", regexp.MustCompile(`(?i)pinned memory pool will not be available: (?:no CUDA-capable device|CUDA driver version is insufficient)`),
		"Triton found no GPU"},
	{"triton", regexp.MustCompile(`(?i)Cannot get CUDA device count`), "Triton cannot count its GPUs"},
	// NVIDIA's container entry point, before the server starts
	{"triton tgi vllm", regexp.MustCompile(`(?i)The NVIDIA Driver was not detected`), "the container has no NVIDIA driver"},
	// cudaGetErrorString(cudaErrorNoDevice)
	{"llamacpp vllm tgi triton", regexp.MustCompile(`(?i)no CUDA-capable device is detected`), "CUDA found no GPU"},
}

// Fallback reports whether a line of an engine's log means that it does not use its GPU, and why.
// The engine is a kind of the pool file; every row applies to one that the
// table does not name ("command"). A line that quotes a caller's text is ignored.
func Fallback(engine, line string) (why string, ok bool) {
	if quotes(strings.ToLower(line)) {
		return "", false
	}
	for _, r := range fallbackRows {
		if r.holdsFor(engine) && r.pattern.MatchString(line) {
			return r.why, true
		}
	}
	return "", false
}

func (r fallbackRow) holdsFor(engine string) bool {
	switch engine {
	case "llamacpp", "vllm", "tgi", "triton":
		return strings.Contains(" "+r.engines+" ", " "+engine+" ")
	}
	return true
}
