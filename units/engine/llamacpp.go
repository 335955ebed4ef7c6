package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/pattern"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// LlamaCpp is llama.cpp in a pool file.
const LlamaCpp = "llamacpp"

// llamaCpp is llama-server of llama.cpp. It listens before the model is loaded and answers 503 on
// /health until then.
type llamaCpp struct{}

var _ Adapter = llamaCpp{}

func (llamaCpp) Kind() string                { return LlamaCpp }
func (llamaCpp) Doc() string                 { return "`llama-server` of llama.cpp" }
func (llamaCpp) Weights() Weights            { return GGUF }
func (llamaCpp) DefaultBinary() string       { return "llama-server" }
func (llamaCpp) VersionArgs(string) []string { return []string{"--version"} }

// llamaVersion matches the line "version: 0.7.0 (build 11669, commit Debian)" or "version: 6123
// (abcdef1)"; a CUDA build prints its devices before it.
var llamaVersion = pattern.Lazy(`(?m)^version:[ \t]+(\S+)`)

func (llamaCpp) ParseVersion(out []byte) string { return firstMatch(llamaVersion(), out) }

// Given: -c is of all slots together.
func (llamaCpp) Given(args []string) Given {
	g := llamaSyntax.given(args, llamaManaged)
	g.without("--metrics", "--slots") // which are written anyway
	if g.Slots > 1 && g.Ctx > 0 {
		g.Ctx = max(g.Ctx/g.Slots, 1)
	}
	return g
}

func (llamaCpp) Check(p pool.Pool) []pool.Refusal {
	return slices.Concat(needModel(p), needProgram(p, llamaCpp{}.DefaultBinary()), splitFitsDevices(p),
		mainGPUFits(p), prefixFits(p), llamaSyntax.refuse(p, llamaManaged), filesApart(p))
}

// mainGPUFits refuses a main GPU that is not in the mask. Its number is a position in the mask:
// CUDA counts what it is shown.
func mainGPUFits(p pool.Pool) []pool.Refusal {
	var refused []pool.Refusal
	for i, arg := range p.Args[:max(len(p.Args)-1, 0)] {
		if llamaSyntax.means(llamaSyntax.name(arg), "-mg", "--main-gpu") == "" {
			continue
		}
		n, err := strconv.Atoi(p.Args[i+1])
		if err != nil {
			continue // llama-server reports it
		}
		outside := func(mask []string) bool { return len(mask) > 0 && (n < 0 || n >= len(mask)) }
		if r := slices.IndexFunc(p.Devices, outside); r >= 0 {
			refused = append(refused, pool.Refuse(fmt.Sprintf("args[%d]", i),
				fmt.Sprintf("It is a position in the key devices: 0 to %d.", len(p.Devices[r])-1),
				"args[%d] is %s %d, and replica r%d has %d devices", i, arg, n, r, len(p.Devices[r])))
		}
	}
	return refused
}

// splitFitsDevices refuses a tensor_split that does not give each device of each mask its share.
func splitFitsDevices(p pool.Pool) []pool.Refusal {
	if len(p.TensorSplit) == 0 {
		return nil
	}
	for i, mask := range p.Devices {
		if len(mask) != len(p.TensorSplit) {
			return []pool.Refusal{pool.Refuse("tensor_split",
				"Give tensor_split one share for each device, in the order of devices.",
				"tensor_split has %d shares, and replica r%d has %d devices", len(p.TensorSplit), i, len(mask))}
		}
	}
	return nil
}

// Command writes the context for all slots together: -c is shared by them, while the key ctx is
// what one request may use, so -c is ctx × slots. Without slots the engine chooses their number and
// either has one, or lets all share one buffer of -c tokens: ctx is right as it is.
func (llamaCpp) Command(p pool.Pool, at Instance) Command {
	args := []string{"-m", at.Model, "--host", at.Host, "--port", strconv.Itoa(at.Port)}
	if at.Socket != "" {
		args = []string{"-m", at.Model, "--host", at.Socket} // one that ends in .sock is a unix socket
	}
	if p.Ctx > 0 {
		args = append(args, "-c", strconv.Itoa(p.Ctx*max(p.Slots, 1)))
	}
	if p.Slots > 0 {
		args = append(args, "-np", strconv.Itoa(p.Slots))
	}
	// Every layer on the GPU, or a failed start: a model that only half fits must not be served
	// slowly without notice. An operator who wants it split sets it in args.
	_, layers := p.Variables()["LLAMA_ARG_N_GPU_LAYERS"] // a flag of ours would win over it
	if at.GPU() && !layers && !llamaSyntax.has(p.Args, "-ngl", "--gpu-layers", "--n-gpu-layers") {
		args = append(args, "-ngl", strconv.Itoa(AllLayers))
	}
	if at.GPU() && len(p.TensorSplit) > 0 {
		args = append(args, "-ts", joinFloats(p.TensorSplit))
	}
	if at.KeyFile != "" {
		args = append(args, "--api-key-file", at.KeyFile)
	}
	args = append(args, "--metrics", "--slots")
	return Command{Args: append(args, p.Args...)}
}

func joinFloats(values []float64) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strings.Join(texts, ",")
}

func (llamaCpp) APIKey() APIKey {
	return APIKey{File: true,
		Others: []string{"--api-key", "--api-key-file", "LLAMA_API_KEY", "LLAMA_ARG_API_KEY_FILE"}}
}

// llamaSocketBuild is a build of llama.cpp that has the option: it came with ggml-org/llama.cpp
// #12613 in March 2025. llamaSocketRelease is the same for versions with a number of their own,
// such as Debian's "0.7.0".
const llamaSocketBuild = 5000

var llamaSocketRelease = pattern.Lazy(`^(?:0\.(?:[7-9]|\d\d+)|[1-9]\d*\.\d+)\.\d+$`)

// UnixSocket: an engine that computes on other hosts (--rpc) needs its network.
func (llamaCpp) UnixSocket(p pool.Pool, version string) UnixSocket {
	build, err := strconv.Atoi(version)
	known := err == nil && build >= llamaSocketBuild || llamaSocketRelease().MatchString(version)
	if !known || llamaSyntax.has(p.Args, "--rpc") || p.Variables()["LLAMA_ARG_RPC"] != "" {
		return SocketUntested
	}
	return SocketTested
}

func (llamaCpp) HealthPath() string { return "/health" }
func (llamaCpp) HealthStatus() int  { return http.StatusOK }

func (llamaCpp) Relax(at Instance) []Relaxation { return cudaRelaxations(at) }

// StopTimeout is above the 30 s that llama-server 0.7.0 was seen to take with a stream open. A
// drain comes first; with a queued request it would not end by itself at all.
func (llamaCpp) StopTimeout(pool.Pool) time.Duration { return 35 * time.Second }

func (llamaCpp) SlotsPath() string { return "/props" }

func (llamaCpp) Slots(body []byte) (int, error) {
	return slotsField(body, "total_slots")
}

func (llamaCpp) BusyPath() string { return "/slots" }

func (llamaCpp) Busy(body []byte) (int, error) {
	var slots []struct {
		Processing *bool `json:"is_processing"`
	}
	if err := json.Unmarshal(body, &slots); err != nil {
		return 0, bounds.Refuse(bounds.OfBusy, "no list of slots: %s", bounds.Quote(err.Error()))
	}
	if slots == nil || len(slots) > bounds.Slots {
		return 0, bounds.Refuse(bounds.OfBusy, "a list of %d slots, want 1 to %d", len(slots), bounds.Slots)
	}
	busy := 0
	for _, s := range slots {
		if s.Processing == nil {
			return 0, bounds.Refuse(bounds.OfBusy, "a slot without is_processing")
		}
		if *s.Processing {
			busy++
		}
	}
	return busy, nil
}

func (llamaCpp) GeneratePath() string { return "/completion" }

// GenerateBody leaves the prompt out of the slot's cache as far as the server lets it.
func (llamaCpp) GenerateBody(pool.Pool) []byte {
	return []byte(`{"prompt":"a","n_predict":1,"temperature":0,"cache_prompt":false,"stream":false}`)
}

func (llamaCpp) Generated(body []byte) error { return hasField(body, "content") }

// ProgressPath is not /metrics: its counters of tokens grow when a request has ended, those of
// /slots with each token.
func (llamaCpp) ProgressPath() string { return "/slots" }

// Progress is how many tokens each slot has decoded, and of its prompt processed, as far as the
// version reports it. next_token is an object or, in versions of 2025 and later, a list with one.
// Both numbers fall back to 0 when a request ends, so that the mark shows requests that are under
// way and not those that have ended, and a slot that was never used has neither (seen on 0.7.0).
func (llamaCpp) Progress(body []byte) (string, error) {
	var slots []struct {
		Prompt int             `json:"n_prompt_tokens_processed"`
		Next   json.RawMessage `json:"next_token"`
	}
	if err := json.Unmarshal(body, &slots); err != nil {
		return "", bounds.Refuse(bounds.OfProgress, "no list of slots: %s", bounds.Quote(err.Error()))
	}
	if len(slots) > bounds.Slots {
		return "", bounds.Refuse(bounds.OfProgress, "a list of %d slots, want at most %d", len(slots), bounds.Slots)
	}
	var mark strings.Builder
	reported := false
	for _, s := range slots {
		decoded, known, err := decodedOf(s.Next)
		if err != nil {
			return "", err
		}
		reported = reported || known
		for _, n := range []int{s.Prompt, decoded} {
			if n < 0 || n > bounds.Tokens {
				return "", bounds.Refuse(bounds.OfProgress, "%d tokens of a slot, want 0 to %d", n, bounds.Tokens)
			}
		}
		reported = reported || s.Prompt > 0
		mark.WriteString(strconv.Itoa(s.Prompt) + "+" + strconv.Itoa(decoded) + " ")
	}
	if !reported {
		return "", errNotReported
	}
	return short(mark.String()), nil
}

// decodedOf reads how many tokens a slot has decoded from its next_token.
func decodedOf(next json.RawMessage) (n int, known bool, err error) {
	var token struct {
		Decoded int `json:"n_decoded"`
	}
	text := strings.Trim(strings.TrimSpace(string(next)), "[]")
	if text == "" || text == "null" {
		return 0, false, nil
	}
	if err := json.Unmarshal([]byte(text), &token); err != nil {
		return 0, false, bounds.Refuse(bounds.OfProgress, "next_token of a slot: %s", bounds.Quote(err.Error()))
	}
	return token.Decoded, true, nil
}

func (llamaCpp) CountsIdle() bool { return false }

// Defaults of llama-server 0.7.0 (--help): -b 2048, -ub 512, -np -1, which is 4 slots that share
// one cache.
const (
	llamaBatch    = 2048
	llamaUBatch   = 512
	llamaSlots    = 4
	llamaMaxSlots = 4096
)

// Claim is zero: llama-server takes what the model and its context need.
func (llamaCpp) Claim(pool.Pool, string) Claim { return Claim{} }

// SplitsByShare: without -ts, llama-server gives each device layers by its free memory.
func (llamaCpp) SplitsByShare() bool { return true }

// Run reads the options from the command line that Command writes. It returns an error for options
// that it cannot estimate; the replica's need is unknown then.
func (l llamaCpp) Run(p pool.Pool, at Instance) (Run, error) {
	f := flagSet{args: l.Command(p, at).Args, env: p.Variables(), syntax: llamaSyntax}
	if f.given("", llamaUnforeseen...) || f.given("LLAMA_ARG_OVERRIDE_TENSOR") {
		return Run{}, fmt.Errorf("args place single tensors (%s), which the estimate does not follow",
			strings.Join(llamaUnforeseen, ", "))
	}
	r := Run{Batch: llamaBatch, UBatch: llamaUBatch, Slots: llamaSlots, Flash: true, K: "f16", V: "f16"}
	r.Ctx, _ = f.integer(MaxCtx, "LLAMA_ARG_CTX_SIZE", "-c", "--ctx-size")
	f.positive(&r.Slots, llamaMaxSlots, "LLAMA_ARG_N_PARALLEL", "-np", "--parallel")
	f.positive(&r.Batch, maxBatch, "LLAMA_ARG_BATCH", "-b", "--batch-size")
	f.positive(&r.UBatch, maxBatch, "LLAMA_ARG_UBATCH", "-ub", "--ubatch-size")
	r.UBatch = min(r.UBatch, r.Batch)
	r.Mapped = llamaMapped(f)
	r.FullSWA = f.given("LLAMA_ARG_SWA_FULL", "--swa-full")
	if v, ok := f.value("LLAMA_ARG_FLASH_ATTN", "-fa", "--flash-attn"); ok {
		r.Flash = !isFalse(v) // older versions have no value there, and it is on
	}
	for _, beside := range Brought(p) {
		if beside.Weights {
			r.Beside = append(r.Beside, beside.Path)
		}
	}
	return r, errors.Join(llamaCache(&r, f), llamaDevices(&r, f, len(at.Devices)))
}

// llamaMapped reports whether the model's file is mapped and its pages may be dropped: not where it
// is read, or locked into memory. Newer versions have one option for that, older ones one for each.
func llamaMapped(f flagSet) bool {
	if mode, ok := f.value("LLAMA_ARG_LOAD_MODE", "-lm", "--load-mode"); ok && mode != "auto" {
		return mode == "mmap"
	}
	return !f.given("LLAMA_ARG_NO_MMAP", "--no-mmap", "-dio", "--direct-io") && !isFalse(f.env["LLAMA_ARG_MMAP"]) &&
		!f.given("LLAMA_ARG_MLOCK", "--mlock")
}

// llamaUnforeseen are flags that move single tensors between devices and host.
var llamaUnforeseen = []string{"-ot", "--override-tensor", "-cmoe", "--cpu-moe", "-ncmoe", "--n-cpu-moe", "--rpc"}

// CacheTypes are those of --help, -ctk.
func (llamaCpp) CacheTypes() []string {
	return []string{"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"}
}

func (llamaCpp) CacheArgs(kind string) []string { return []string{"-ctk", kind, "-ctv", kind} }

func llamaCache(r *Run, f flagSet) error {
	for _, side := range []struct {
		to    *string
		flags []string
	}{
		{&r.K, []string{"LLAMA_ARG_CACHE_TYPE_K", "-ctk", "--cache-type-k"}},
		{&r.V, []string{"LLAMA_ARG_CACHE_TYPE_V", "-ctv", "--cache-type-v"}},
	} {
		name, ok := f.value(side.flags[0], side.flags[1:]...)
		switch {
		case !ok:
		case !slices.Contains(llamaCpp{}.CacheTypes(), name):
			return fmt.Errorf("%s %.20q is not a cache type", side.flags[1], name)
		default:
			*side.to = name
		}
	}
	r.KVOnHost = f.given("LLAMA_ARG_NO_KV_OFFLOAD", "-nkvo", "--no-kv-offload") ||
		isFalse(f.env["LLAMA_ARG_KV_OFFLOAD"])
	return nil
}

// llamaDevices reads what goes where on so many devices.
func llamaDevices(r *Run, f flagSet, devices int) error {
	if devices == 0 {
		return nil
	}
	r.Layers = AllLayers
	if text, ok := f.value("LLAMA_ARG_N_GPU_LAYERS", "-ngl", "--gpu-layers", "--n-gpu-layers"); ok && text != "all" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 { // "auto", -1: as many as fit
			return fmt.Errorf("-ngl %.20q lets the engine choose what goes to the devices", text)
		}
		r.Layers = min(n, AllLayers)
	}
	switch mode, _ := f.value("LLAMA_ARG_SPLIT_MODE", "-sm", "--split-mode"); mode {
	case "none":
		r.Single = true
		r.Main, _ = f.integer(devices-1, "LLAMA_ARG_MAIN_GPU", "-mg", "--main-gpu")
	case "", "layer", "row":
	default:
		return fmt.Errorf("unknown split mode %.20q", mode)
	}
	return nil
}

// QueuePath is served because Command adds --metrics.
func (llamaCpp) QueuePath() string { return "/metrics" }

func (llamaCpp) Queue(body []byte) (int, error) {
	return sumGauges(bounds.OfQueue, body, "llamacpp:requests_deferred")
}

// Workloads depend on the mode in which the server was started: for embeddings or for ranks it
// serves nothing else. Embeddings that are pooled to ranks are the mode for ranks.
func (llamaCpp) Workloads(p pool.Pool) []string {
	f := flagSet{args: p.Args, env: p.Env, syntax: llamaSyntax}
	pooling, _ := f.value("LLAMA_ARG_POOLING", "--pooling")
	embeddings := f.given("LLAMA_ARG_EMBEDDINGS", "--embedding", "--embeddings")
	switch {
	case f.given("LLAMA_ARG_RERANKING", "--rerank", "--reranking"), embeddings && pooling == "rank":
		return []string{WorkRerank}
	case embeddings:
		return []string{WorkEmbedding}
	}
	return []string{WorkCompletion}
}

func (llamaCpp) Fallbacks() []classify.Fallback {
	return []classify.Fallback{
		// src/llama-model.cpp, load_tensors: "%s: offloaded %d/%d layers to GPU". A part is the
		// operator's choice, none is not.
		fallback(`offloaded 0/\d+ layers to GPU`, "the engine put no layer of the model on its GPU"),
		// common/arg.cpp: "warning: no usable GPU found, --gpu-layers option will be ignored"
		fallback(`no usable GPU found`, "the engine found no usable GPU"),
		// ggml/src/ggml-cuda/ggml-cuda.cu: "%s: failed to initialize CUDA: %s"
		fallback(`ggml_cuda_init: failed to initialize CUDA`, "CUDA could not be started in the engine"),
		// common/arg.cpp, where the build has no backend
		fallback(`compiled without (?:support for )?GPU (?:support|offload)`, "the engine was built without GPU support"),
		cudaFallback(),
	}
}
