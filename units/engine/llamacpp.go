package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// llamaCpp is llama-server of llama.cpp. It listens before the model is loaded and answers 503 on
// /health until then.
type llamaCpp struct{}

var _ Adapter = llamaCpp{}

func (llamaCpp) Kind() string          { return pool.LlamaCpp }
func (llamaCpp) DefaultBinary() string { return "llama-server" }
func (llamaCpp) VersionArgs() []string { return []string{"--version"} }

// llamaVersion matches the line "version: 0.7.0 (build 11669, commit Debian)" or "version: 6123 (abcdef1)"; a CUDA
// build prints its devices before it.
var llamaVersion = regexp.MustCompile(`(?m)^version:[ \t]+(\S+)`)

func (llamaCpp) ParseVersion(out []byte) string { return firstMatch(llamaVersion, out) }

var llamaManaged = []managedFlag{
	{[]string{"-m", "--model", "-mu", "--model-url", "-dr", "--docker-repo", "-hf", "-hfr", "--hf-repo",
		"-hff", "--hf-file", "--models-dir", "--models-preset"}, useModel},
	{[]string{"--host"}, useHost},
	{[]string{"--port"}, usePort},
	{[]string{"-c", "--ctx-size"}, useCtx},
	{[]string{"-np", "--parallel"}, useSlots},
	{[]string{"-ts", "--tensor-split"}, "set the key tensor_split"},
	{[]string{"-dev", "--device"}, "set the key devices"},
	{[]string{"--ssl-key-file", "--ssl-cert-file"}, noTLS},
}

func (llamaCpp) Check(p pool.Pool) []pool.Refusal {
	return slices.Concat(needModel(p), splitFitsDevices(p), mainGPUFits(p), llamaVariables(p), flagSyntax{}.refuse(p, llamaManaged))
}

// mainGPUFits refuses a main GPU that is none of the mask. Its number is a position in the mask: CUDA counts what it is shown.
func mainGPUFits(p pool.Pool) []pool.Refusal {
	var refused []pool.Refusal
	for i, arg := range p.Args[:max(len(p.Args)-1, 0)] {
		if arg != "-mg" && arg != "--main-gpu" {
			continue
		}
		n, err := strconv.Atoi(p.Args[i+1])
		if err != nil {
			continue // llama-server says what it wants
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

// llamaVariables refuses the variables by which llama-server would take other devices or another split than the keys say. Of the
// others that mean a key, the command line wins.
func llamaVariables(p pool.Pool) []pool.Refusal {
	var refused []pool.Refusal
	for _, v := range [...]struct{ name, key string }{{"LLAMA_ARG_DEVICE", "devices"}, {"LLAMA_ARG_TENSOR_SPLIT", "tensor_split"}} {
		if _, set := p.Env[v.name]; set {
			refused = append(refused, pool.Refuse("env."+v.name, "Remove it from env and set the key "+v.key+".",
				"env holds %s, which engine %q gets from pool-managerd", v.name, p.Engine))
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
			return []pool.Refusal{pool.Refuse("tensor_split", "Give tensor_split one share for each device, in the order of devices.",
				"tensor_split has %d shares, and replica r%d has %d devices", len(p.TensorSplit), i, len(mask))}
		}
	}
	return nil
}

// Command writes the context for all slots together: -c is shared by them, while the key ctx is
// what one request may use, so -c is ctx × slots. Without slots the engine chooses their number and
// either has one, or lets all share one buffer of -c tokens: ctx is right as it stands.
func (llamaCpp) Command(p pool.Pool, at Instance) Command {
	args := []string{"-m", at.Model, "--host", at.Host, "--port", strconv.Itoa(at.Port)}
	if p.Ctx > 0 {
		args = append(args, "-c", strconv.Itoa(p.Ctx*max(p.Slots, 1)))
	}
	if p.Slots > 0 {
		args = append(args, "-np", strconv.Itoa(p.Slots))
	}
	// Every layer on the GPU, or a failed start: a model that only half fits must not be served slowly
	// in silence. An operator who wants it split says so in args.
	_, layers := p.Env["LLAMA_ARG_N_GPU_LAYERS"] // a flag of ours would win over it
	if at.GPU() && !layers && !(flagSyntax{}).has(p.Args, "-ngl", "--gpu-layers", "--n-gpu-layers") {
		args = append(args, "-ngl", "999")
	}
	if at.GPU() && len(p.TensorSplit) > 0 {
		args = append(args, "-ts", joinFloats(p.TensorSplit))
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

func (llamaCpp) HealthPath() string { return "/health" }
func (llamaCpp) HealthStatus() int  { return http.StatusOK }

func (llamaCpp) Relax(at Instance) []Relaxation { return cudaRelaxations(at) }

// StopTimeout is above the 30 s that llama-server 0.7.0 was seen to take with a stream open. A
// drain comes first; with a queued request it would not end by itself at all.
func (llamaCpp) StopTimeout() time.Duration { return 35 * time.Second }

func (llamaCpp) SlotsPath() string { return "/props" }

func (llamaCpp) Slots(body []byte) (int, error) {
	return positiveField(body, "total_slots")
}

func (llamaCpp) BusyPath() string { return "/slots" }

func (llamaCpp) Busy(body []byte) (int, error) {
	var slots []struct {
		Processing *bool `json:"is_processing"`
	}
	if err := json.Unmarshal(body, &slots); err != nil {
		return 0, fmt.Errorf("read slots: %w", err)
	}
	if slots == nil {
		return 0, errors.New("read slots: no list")
	}
	busy := 0
	for _, s := range slots {
		if s.Processing == nil {
			return 0, errors.New("read slots: a slot without is_processing")
		}
		if *s.Processing {
			busy++
		}
	}
	return busy, nil
}

// QueuePath is served because Command adds --metrics.
func (llamaCpp) QueuePath() string { return "/metrics" }

func (llamaCpp) Queue(body []byte) (int, error) { return sumGauges(body, "llamacpp:requests_deferred") }

// Workloads depend on the mode in which the server was started: for embeddings or for ranks it serves nothing else.
func (llamaCpp) Workloads(p pool.Pool) []string {
	switch syntax := (flagSyntax{}); {
	case syntax.has(p.Args, "--rerank", "--reranking"):
		return []string{WorkRerank}
	case syntax.has(p.Args, "--embedding", "--embeddings"):
		return []string{WorkEmbedding}
	}
	return []string{WorkCompletion}
}
