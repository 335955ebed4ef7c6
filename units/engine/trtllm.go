package engine

import (
	"net/http"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/pattern"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TRTLLM is TensorRT-LLM in a pool file.
const TRTLLM = "trtllm"

// trtllm is trtllm-serve of TensorRT-LLM. It binds its port before it loads and listens on it
// afterwards: until then, connections are refused. What is said here of its endpoints was read in
// the source of 1.2 and later; none of its versions runs without a GPU.
type trtllm struct{}

var _ Adapter = trtllm{}

func (trtllm) Kind() string          { return TRTLLM }
func (trtllm) Doc() string           { return "`trtllm-serve` of TensorRT-LLM" }
func (trtllm) Weights() Weights      { return Safetensors }
func (trtllm) DefaultBinary() string { return "trtllm-serve" }

// VersionArgs: there is no option for it, and any command prints the version first.
func (trtllm) VersionArgs(string) []string { return []string{"--help"} }

var trtllmVersion = pattern.Lazy(`(?m)^\[TensorRT[- ]LLM\] TensorRT[- ]LLM version:[ \t]+(\S+)`)

func (trtllm) ParseVersion(out []byte) string { return firstMatch(trtllmVersion(), out) }

var trtllmManaged = []managedFlag{
	{Spellings: []string{"--host"}, Instead: useHost, Key: keyHost},
	{Spellings: []string{"--port"}, Instead: usePort, Key: keyPort},
	{Spellings: []string{"--max-seq-len"}, Instead: useCtx, Key: keyCtx},
	{Spellings: []string{"--max-batch-size"}, Instead: useSlots, Key: keySlots},
	{Spellings: []string{"--metadata-server-config-file", "--server-role", "--disagg-cluster-uri"},
		Instead: "serve the model with the GPUs of one host",
		Why:     "belongs to a server of several hosts, and an engine has no network"},
}

// trtllmSyntax: the options have underscores, and newer versions know both spellings.
var trtllmSyntax = flagSyntax{Underscores: true}

func (trtllm) Given(args []string) Given { return trtllmSyntax.given(args, trtllmManaged, "serve") }

func (trtllm) Check(p pool.Pool) []pool.Refusal {
	refused := slices.Concat(needModel(p), needProgram(p, trtllm{}.DefaultBinary()), noTensorSplit(p),
		trtllmSyntax.refuse(p, trtllmManaged))
	if i := slices.IndexFunc(p.Devices, func(mask []string) bool { return len(mask) == 0 }); i >= 0 {
		refused = append(refused, pool.Refuse("devices", `Set devices = ["0"]; poolctl devices lists the GPUs.`,
			"engine %q runs on GPUs only, and replica r%d has none", p.Engine, i))
	}
	return refused
}

// trtllmFiles are the options that may name a file or a directory to read.
var trtllmFiles = []fileFlag{
	{Spellings: []string{"--tokenizer"}, Paths: absolute, Remote: onHub, Model: true},
	{Spellings: []string{"--chat-template", "--custom-module-dirs"}, Paths: absolute},
	{Spellings: []string{"--config", "--extra-llm-api-options"}},
}

// APIKey: trtllm-serve asks for no key.
func (trtllm) APIKey() APIKey { return APIKey{} }

func (trtllm) Files(p pool.Pool) []File { return trtllmSyntax.files(p, trtllmFiles) }

// Command splits the model evenly over the mask unless args split it.
func (trtllm) Command(p pool.Pool, at Instance) Command {
	args := []string{at.Model, "--host", at.Host, "--port", strconv.Itoa(at.Port)}
	if p.Ctx > 0 {
		args = append(args, "--max_seq_len", strconv.Itoa(p.Ctx))
	}
	if p.Slots > 0 {
		args = append(args, "--max_batch_size", strconv.Itoa(p.Slots))
	}
	split := trtllmSyntax.has(p.Args, "--tp-size", "--tensor-parallel-size", "--pp-size", "--pipeline-parallel-size",
		"--cp-size", "--context-parallel-size")
	if len(at.Devices) > 1 && !split {
		args = append(args, "--tp_size", strconv.Itoa(len(at.Devices)))
	}
	return Command{Args: append(args, p.Args...), Env: offlinePython()}
}

// UnixSocket: trtllm-serve listens on a port only.
func (trtllm) UnixSocket(pool.Pool, string) UnixSocket { return SocketNever }

func (trtllm) HealthPath() string { return "/health" }
func (trtllm) HealthStatus() int  { return http.StatusOK }

func (trtllm) Relax(Instance) []Relaxation { return pythonRelaxations() }

// StopTimeout: at SIGTERM the server takes no new connection and waits for the open ones without a
// bound, then for its workers.
func (trtllm) StopTimeout(p pool.Pool) time.Duration {
	return p.Drain.Deadline + 60*time.Second
}

// SlotsPath is empty: the batch size is in no answer.
func (trtllm) SlotsPath() string         { return "" }
func (trtllm) Slots([]byte) (int, error) { return 0, errNotReported }

// BusyPath is empty: /metrics has statistics of iterations, each once, and only where
// enable_iter_perf_stats of --config turns them on, and the metrics of QueuePath are
// off by default. The server waits for its requests when it is stopped.
func (trtllm) BusyPath() string         { return "" }
func (trtllm) Busy([]byte) (int, error) { return 0, errNotReported }

// QueuePath answers where return_perf_metrics of --config turns the metrics on.
func (trtllm) QueuePath() string { return "/prometheus/metrics" }

func (trtllm) Queue(body []byte) (int, error) {
	return sumGauges(bounds.OfQueue, body, "trtllm_num_requests_waiting")
}

func (trtllm) Workloads(pool.Pool) []string { return []string{WorkCompletion} }

func (trtllm) GeneratePath() string { return "/v1/completions" }

// GenerateBody names the model as the server does: by its directory.
func (trtllm) GenerateBody(p pool.Pool) []byte { return completionBody(path.Base(p.Model.Path())) }

func (trtllm) Generated(body []byte) error { return hasChoice(body) }

func (trtllm) ProgressPath() string            { return "" }
func (trtllm) Progress([]byte) (string, error) { return "", errNotReported }

// trtllmShare is the share of what is free after the weights that its cache takes by default.
const trtllmShare = 0.9

// Claim is not firm: the cache takes its share of what is free. The flag has a shorter spelling in
// newer versions, and its old one in all.
func (trtllm) Claim(p pool.Pool, _ string) Claim {
	f := flagSet{args: p.Args, syntax: trtllmSyntax}
	share := f.share(trtllmShare, "", "--kv-cache-free-gpu-memory-fraction", "--free-gpu-memory-fraction")
	return Claim{Share: share, Flag: "--kv_cache_free_gpu_memory_fraction"}
}

func (trtllm) Run(pool.Pool, Instance) (Run, error) { return Run{}, errNoGGUF }
func (trtllm) SplitsByShare() bool                  { return false }
func (trtllm) CacheTypes() []string                 { return nil }
func (trtllm) CacheArgs(string) []string            { return nil }
func (trtllm) CountsIdle() bool                     { return false }

func (trtllm) Fallbacks() []classify.Fallback {
	return append(torchFallbacks(),
		// commands/serve.py: ValueError("No GPU devices found on the node")
		fallback(`No GPU devices found on the node`, "TensorRT-LLM found no GPU"),
		containerFallback(), cudaFallback())
}
