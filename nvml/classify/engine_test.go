package classify_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// engineCases are lines of engines, as users have posted them.
var engineCases = []struct {
	name, line string
	class      classify.Class
	code       string
}{
	{"llamacpp/cudamalloc", "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 5461.33 MiB on device 0: cudaMalloc failed: out of memory", classify.ClassLog, "CUDA_OOM"},
	{"llamacpp/cuda_error", "CUDA error: out of memory", classify.ClassLog, "CUDA_OOM"},
	{"llamacpp/buffer", "alloc_tensor_range: failed to allocate; unable to allocate CUDA0 buffer", classify.ClassLog, "CUDA_OOM"},
	{"vllm/torch", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB. GPU 0 has a total capacity of 23.65 GiB", classify.ClassLog, "CUDA_OOM"},
	{"vllm/share", "ValueError: Free memory on device (3.1/23.65 GiB) on startup is less than desired GPU memory utilization (0.9, 21.28 GiB).", classify.ClassLog, "CUDA_OOM"},
	{"case_does_not_matter", "cuda ERROR: An Illegal Memory Access Was Encountered", classify.ClassApplication, "CUDA_ERROR"},
	{"launch_failure", "CUDA error: unspecified launch failure", classify.ClassApplication, "CUDA_ERROR"},
	{"ecc", "RuntimeError: CUDA error: uncorrectable ECC error encountered", classify.ClassApplication, "CUDA_ERROR"},
	{"other_architecture", "CUDA error: no kernel image is available for execution on the device", classify.ClassApplication, "CUDA_ERROR"},
	{"old_driver", "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version", classify.ClassApplication, "DRIVER_ERROR"},
	{"no_device", "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected", classify.ClassApplication, "GPU_UNAVAILABLE"},
	{"llamacpp/no_usable_gpu", "warning: no usable GPU found, --gpu-layers option will be ignored", classify.ClassApplication, "GPU_UNAVAILABLE"},
	{"torch/no_gpus", "RuntimeError: No CUDA GPUs are available", classify.ClassApplication, "GPU_UNAVAILABLE"},
}

func TestEngineLog(t *testing.T) {
	for _, c := range engineCases {
		t.Run(c.name, func(t *testing.T) {
			v, ok := classify.EngineLog(c.line)
			if !ok {
				t.Fatal("the line was passed over")
			}
			checkVerdict(t, v, c.class, classify.ScopeProcess, c.code, "")
			if v.Hint == "" || v.Source != classify.SourceEngine {
				t.Errorf("verdict = %+v", v)
			}
		})
	}
}

// passedOver are lines of engines that say nothing, though they look so.
var passedOver = map[string]string{
	"empty":                "",
	"retry":                "graph_reserve: failed to allocate compute buffers: cudaMalloc failed: out of memory, retrying without pipeline parallelism",
	"vllm_quotes_a_prompt": `INFO 11-23 07:00:00 [logger.py:41] Received request cmpl-1: prompt: 'CUDA error: an illegal memory access was encountered', params: …`,
	"json_of_a_request":    `{"messages":[{"content":"no usable GPU found"}]}`,
	"host_out_of_memory":   "std::bad_alloc: out of memory",
}

func TestEngineLogPassesOver(t *testing.T) {
	for name, line := range passedOver {
		t.Run(name, func(t *testing.T) {
			if v, ok := classify.EngineLog(line); ok {
				t.Errorf("classified as %+v", v)
			}
		})
	}
}

func TestReason(t *testing.T) {
	const oom = "cudaMalloc failed: out of memory"
	const retry = "sched_reserve: compute buffer allocation failed, retrying without pipeline parallelism"
	const illegal = "CUDA error: an illegal memory access was encountered"
	for _, c := range []struct {
		name  string
		lines []string
		code  string
	}{
		{"nothing", []string{"main: server is listening"}, ""},
		{"out_of_memory", []string{"load", oom, "exiting"}, "CUDA_OOM"},
		{"retried_and_served", []string{oom, retry, "main: server is listening"}, ""},
		{"retried_and_failed_again", []string{oom, retry, oom}, "CUDA_OOM"},
		{"retried_then_crashed", []string{oom, retry, illegal}, "CUDA_ERROR"},
		{"the_crash_outweighs_memory", []string{illegal, oom}, "CUDA_ERROR"},
		{"the_last_of_equals", []string{illegal, "CUDA driver version is insufficient for CUDA runtime version"}, "DRIVER_ERROR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, ok := classify.Reason(c.lines)
			if v.Code != c.code || ok != (c.code != "") {
				t.Errorf("Reason = %q %t, want %q", v.Code, ok, c.code)
			}
		})
	}
}

func TestOnCPU(t *testing.T) {
	fallbacks := []classify.Fallback{{Pattern: regexp.MustCompile(`(?i)no layer on (?:a|the) gpu`), Why: "no layer"}}
	for line, want := range map[string]string{
		"load: No layer on the GPU":     "no layer",
		"load: 3 layers on the GPU":     "",
		`prompt: "no layer on the gpu"`: "",
	} {
		if why, ok := classify.OnCPU(fallbacks, line); why != want || ok != (want != "") {
			t.Errorf("%q = %q, %t; want %q", line, why, ok, want)
		}
	}
}
