package engine

import (
	"regexp"
	"strings"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// Fallbacks returns the log lines by which an engine of a kind reports that it runs without its
// GPU. For an unknown kind, such as that of a unit of a newer version, they are those of all kinds.
func Fallbacks(kind string) []classify.Fallback {
	if a, ok := For(kind); ok {
		return a.Fallbacks()
	}
	return everyFallback()
}

// everyFallback returns the lines of all adapters, for an engine of an unknown kind.
func everyFallback() []classify.Fallback {
	var all []classify.Fallback
	for _, a := range adapters() {
		if a.Weights() != Anything {
			all = append(all, a.Fallbacks()...)
		}
	}
	return all
}

// fallback returns one with a regular expression that ignores case.
func fallback(pattern, why string) classify.Fallback {
	return classify.Fallback{Pattern: regexp.MustCompile("(?i)" + pattern), Why: why}
}

// cudaFallback is what CUDA prints in any engine: cudaGetErrorString(cudaErrorNoDevice).
func cudaFallback() classify.Fallback {
	return fallback(`no CUDA-capable device is detected`, "CUDA found no GPU")
}

// containerFallback is what the entry point of NVIDIA's containers prints before the server starts.
func containerFallback() classify.Fallback {
	return fallback(`The NVIDIA Driver was not detected`, "the container has no NVIDIA driver")
}

// torchFallbacks are what PyTorch prints: c10/cuda and torch/cuda/__init__.py, _lazy_init.
func torchFallbacks() []classify.Fallback {
	return []classify.Fallback{
		fallback(`No CUDA GPUs are available`, "PyTorch found no GPU"),
		fallback(`Torch not compiled with CUDA enabled`, "PyTorch was built without CUDA"),
	}
}

// PortTaken reports whether a line of an engine's log says that a port is in use: by what
// strerror(3) says of EADDRINUSE in C, Python and Rust, and by the name of the error in Rust and
// Node. llama-server logs only that it "couldn't bind": the gate finds out who has its port.
func PortTaken(line string) bool {
	l := strings.ToLower(line)
	return strings.Contains(l, "address already in use") || strings.Contains(l, "addrinuse")
}
