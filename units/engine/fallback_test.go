package engine_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/units/engine"
)

var update = flag.Bool("update", false, "write this package's part of docs/reference/gpu-errors.md")

// fallbackCases: want "" means that the line says nothing for that engine.
var fallbackCases = []struct{ name, kind, line, want string }{
	{"llamacpp/none_offloaded", "llamacpp", "load_tensors: offloaded 0/33 layers to GPU", "no layer"},
	{"llamacpp/old_prefix", "llamacpp", "llm_load_tensors: offloaded 0/33 layers to GPU", "no layer"},
	{"llamacpp/some_offloaded", "llamacpp", "load_tensors: offloaded 10/33 layers to GPU", ""},
	{"llamacpp/all_offloaded", "llamacpp", "load_tensors: offloaded 33/33 layers to GPU", ""},
	{"llamacpp/no_usable", "llamacpp", "warning: no usable GPU found, --gpu-layers option will be ignored", "no usable GPU"},
	{"llamacpp/cuda_init", "llamacpp", "ggml_cuda_init: failed to initialize CUDA: unknown error", "CUDA could not be started"},
	{"llamacpp/found", "llamacpp", "ggml_cuda_init: found 1 CUDA devices:", ""},
	{"vllm/no_gpus", "vllm", "RuntimeError: No CUDA GPUs are available", "no GPU"},
	{"vllm/infer", "vllm", "RuntimeError: Failed to infer device type", "no GPU"},
	{"vllm/cpu_platform", "vllm", "INFO 02-07 01:56:16 [__init__.py:239] Automatically detected platform cpu.", "CPU"},
	{"vllm/cuda_platform", "vllm", "INFO 02-07 01:56:16 [__init__.py:239] Automatically detected platform cuda.", ""},
	{"vllm/no_platform", "vllm", "INFO 04-03 09:29:49 [__init__.py:243] No platform detected, vLLM is running on UnspecifiedPlatform", "no GPU"},
	{"sglang/no_accelerator", "sglang", "RuntimeError: No accelerator (CUDA, XPU, HPU, NPU, MUSA, MPS) or platform plugin is available.", "no GPU"},
	{"sglang/torch", "sglang", "RuntimeError: No CUDA GPUs are available", "no GPU"},
	{"trtllm/no_devices", "trtllm", "ValueError: No GPU devices found on the node", "no GPU"},
	{"tgi/torch", "tgi", "RuntimeError: No CUDA GPUs are available", "no GPU"},
	{"triton/pinned", "triton", "W0907 17:13:12.624284 88 pinned_memory_manager.cc:236] Unable to allocate pinned system memory, pinned memory pool will not be available: no CUDA-capable device is detected", "no GPU"},
	{"triton/pinned_other_reason", "triton", "pinned memory pool will not be available: out of host memory", ""},
	{"triton/metrics", "triton", "W0728 10:07:39.947975 8 metrics.cc:274] Cannot get CUDA device count, GPU metrics will not be available", "cannot count"},
	{"triton/container", "triton", "WARNING: The NVIDIA Driver was not detected.  GPU functionality will not be available.", "no NVIDIA driver"},
	{"triton/said_with_a_gpu_too", "triton", "E0211 06:05:55.864870 2860 server.cc:243] CudaDriverHelper has not been initialized.", ""},
	{"another_engines_line", "vllm", "load_tensors: offloaded 0/33 layers to GPU", ""},
	{"command/any_line", "command", "load_tensors: offloaded 0/33 layers to GPU", "no layer"},
	{"command/quoted", "command", `prompt: "offloaded 0/33 layers to GPU"`, ""},
	{"unknown/any_line", "newer", "load_tensors: offloaded 0/33 layers to GPU", "no layer"},
}

func TestFallback(t *testing.T) {
	for _, c := range fallbackCases {
		t.Run(c.name, func(t *testing.T) {
			why, ok := classify.OnCPU(engine.Fallbacks(c.kind), c.line)
			if ok != (c.want != "") || !strings.Contains(why, c.want) {
				t.Errorf("OnCPU = %q %t, want %q", why, ok, c.want)
			}
		})
	}
}

// The parts of the page of GPU errors: this package's is between classify's and health's.
const (
	ownPart  = "<!-- From here on written by go test ./units/engine -update; do not edit. -->\n"
	nextPart = "<!-- From here on written by go test ./nvml/health -update; do not edit. -->\n"
)

// TestTableInDocs prints the lines; the operator's page shows them as they are in the code.
func TestTableInDocs(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "reference", "gpu-errors.md")
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(have), ownPart)
	mine, after, last := strings.Cut(rest, nextPart)
	if *update && found && last {
		if err := os.WriteFile(path, []byte(before+ownPart+page()+nextPart+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !found || !last || mine != page() {
		t.Errorf("%s is not what the code says; run go test ./units/engine -update", path)
	}
}

func page() string {
	var b strings.Builder
	b.WriteString("## Engines that run without their GPU\n\n[NVML decides](../gpus.md#proof-of-the-gpu) whether an " +
		"engine uses its GPUs. One of these lines explains why it does not; where NVML cannot tell, a start " +
		"whose log has one fails with `GPU_UNAVAILABLE`.\n\n" +
		"| engine | line (regular expression) | meaning |\n| --- | --- | --- |\n")
	for _, kind := range engine.Kinds() {
		a, _ := engine.For(kind)
		if a.Weights() == engine.Anything {
			fmt.Fprintf(&b, "| %s | every line above | |\n", kind)
			continue
		}
		for _, f := range a.Fallbacks() {
			pattern := strings.TrimPrefix(f.Pattern.String(), "(?i)")
			fmt.Fprintf(&b, "| %s | `%s` | %s |\n", kind, strings.ReplaceAll(pattern, "|", `\|`), f.Why)
		}
	}
	b.WriteString("\n")
	return b.String()
}

// TestPortTaken: what engines log when a port that they want to listen on is in use.
func TestPortTaken(t *testing.T) {
	for line, want := range map[string]bool{
		"ERROR: [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use": true,
		"OSError: [Errno 98] Address already in use":                                                              true,
		"thread 'main' panicked: Os { code: 98, kind: AddrInUse, message: \"Address already in use\" }":           true,
		"E0101 failed to bind to 127.0.0.1:8001: Address already in use":                                          true,
		"main: HTTP server is listening, hostname: 127.0.0.1, port: 8080":                                         false,
		"": false,
	} {
		if got := engine.PortTaken(line); got != want {
			t.Errorf("PortTaken(%q) = %t", line, got)
		}
	}
}
