package classify

import "strings"

// enginePhrase is a text in an engine's log, compared case-insensitively.
type enginePhrase struct {
	phrase string
	row
}

const (
	hintMemory = "lower ctx, slots or the model's size, or give the pool more GPU memory; `poolctl fit` shows what " +
		"is needed"
	hintNoDevice = "check `poolctl devices`, and /dev/nvidia-uvm on the host"
)

// phrase returns the row for one text of an engine's log.
func phrase(text, kind string, class Class, action Action, code, hint string) enginePhrase {
	return enginePhrase{strings.ToLower(text),
		row{SourceEngine, kind, "`" + text + "`", class, ScopeProcess, action, code, hint}}
}

// enginePhrases are the known texts: those of the CUDA runtime (cudaGetErrorString), of
// ggml-cuda.cu and llama-context.cpp, of PyTorch's allocator and lazy initialisation. The first one
// in a line decides. Too little memory is ClassLog: in PyTorch it fails one request only, and if it
// ends the engine, it is reported as the reason.
var enginePhrases = []enginePhrase{
	phrase("CUDA error: out of memory", "cuda-oom", ClassLog, ActionNone, CodeCUDAMemory, hintMemory),
	phrase("cudaMalloc failed: out of memory", "cuda-oom", ClassLog, ActionNone, CodeCUDAMemory, hintMemory),
	phrase("CUDA out of memory. Tried to allocate", "cuda-oom", ClassLog, ActionNone, CodeCUDAMemory, hintMemory),
	phrase("unable to allocate CUDA", "cuda-oom", ClassLog, ActionNone, CodeCUDAMemory, hintMemory),
	phrase("is less than desired GPU memory utilization", "cuda-oom", ClassLog, ActionNone, CodeCUDAMemory, hintMemory),
	phrase("No available memory for the cache blocks", "cuda-oom", ClassLog, ActionNone, CodeCUDAMemory, hintMemory),
	phrase("Please try to increase --mem-fraction-static", "cuda-oom", ClassLog, ActionNone, CodeCUDAMemory, hintMemory),
	phrase("uncorrectable ECC error encountered", "cuda-ecc", ClassApplication, ActionRestart, CodeCUDA,
		"the memory of the GPU has an error: check `poolctl devices`, and reset the GPU if it happens again"),
	phrase("an illegal memory access was encountered", "cuda-error", ClassApplication, ActionRestart, CodeCUDA, hintApplication),
	phrase("unspecified launch failure", "cuda-error", ClassApplication, ActionRestart, CodeCUDA, hintApplication),
	phrase("no kernel image is available", "cuda-image", ClassApplication, ActionNone, CodeCUDA,
		"the engine was not built for this GPU's compute capability: install a matching build"),
	phrase("CUDA driver version is insufficient for CUDA runtime version", "driver-old", ClassApplication, ActionDriver, CodeDriver,
		"the driver is older than the engine's CUDA: update the driver, or install an engine built for an older CUDA"),
	phrase("no CUDA-capable device is detected", "no-device", ClassApplication, ActionRestart, CodeUnavailable, hintNoDevice),
	phrase("no usable GPU found", "no-device", ClassApplication, ActionRestart, CodeUnavailable, hintNoDevice),
	phrase("No CUDA GPUs are available", "no-device", ClassApplication, ActionRestart, CodeUnavailable, hintNoDevice),
}

// retryPhrase follows a failed allocation that llama.cpp can do without ("compute buffer allocation
// failed, retrying without pipeline parallelism", llama-context.cpp).
const retryPhrase = "retrying without pipeline parallelism"

// EngineLog classifies a line of an engine's log. A line that quotes a caller's text (vLLM logs
// prompts at its INFO level) is ignored: a prompt must not be able to restart an engine.
func EngineLog(line string) (v Verdict, ok bool) {
	low := strings.ToLower(line)
	if strings.Contains(low, retryPhrase) || quotes(low) {
		return Verdict{}, false
	}
	for _, p := range enginePhrases {
		if strings.Contains(low, p.phrase) {
			return p.verdict(clip(line)), true
		}
	}
	return Verdict{}, false
}

// Retried reports whether the line cancels an out-of-memory verdict of an earlier line: the engine
// continues without that memory.
func Retried(line string) bool { return strings.Contains(strings.ToLower(line), retryPhrase) }

// Quotes reports whether a line of an engine's log repeats what a caller sent. Such a line proves
// nothing and is private.
func Quotes(line string) bool { return quotes(strings.ToLower(line)) }

// quotes reports whether a line, in lower case, repeats what a caller sent.
func quotes(low string) bool {
	return strings.Contains(low, "received request") || strings.Contains(low, "prompt:") ||
		strings.Contains(low, `"prompt"`) ||
		strings.Contains(low, `"messages"`)
}

// Reason classifies the lines of one run, the oldest first, and returns the verdict that explains
// its end best: the last one of the worst class that was not cancelled. ok is false if no line is
// classified.
func Reason(lines []string) (v Verdict, ok bool) {
	var memory Verdict
	var short bool
	for _, line := range lines {
		if Retried(line) {
			short = false
			continue
		}
		next, classified := EngineLog(line)
		switch {
		case !classified:
		case next.Code == CodeCUDAMemory:
			memory, short = next, true
		case !ok || next.Class.Rank() >= v.Class.Rank():
			v, ok = next, true
		}
	}
	if !ok && short {
		return memory, true
	}
	return v, ok
}
