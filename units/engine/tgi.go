package engine

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/pattern"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TGI is Text Generation Inference in a pool file.
const TGI = "tgi"

// tgi is text-generation-launcher of Text Generation Inference, whose repository was archived in
// March 2026. Its port opens after the warm-up.
type tgi struct{}

var _ Adapter = tgi{}

func (tgi) Kind() string                { return TGI }
func (tgi) Doc() string                 { return "Text Generation Inference, which is no longer developed" }
func (tgi) Weights() Weights            { return Safetensors }
func (tgi) DefaultBinary() string       { return "text-generation-launcher" }
func (tgi) VersionArgs(string) []string { return []string{"--version"} }

var tgiVersion = pattern.Lazy(`(?m)^text-generation-launcher[ \t]+(\S+)`)

func (tgi) ParseVersion(out []byte) string { return firstMatch(tgiVersion(), out) }

var tgiManaged = []managedFlag{
	{Spellings: []string{"--model-id"}, Instead: useModel, Key: keyModel},
	{Spellings: []string{"--hostname"}, Instead: useHost, Key: keyHost},
	{Spellings: []string{"-p", "--port"}, Instead: usePort, Key: keyPort},
	{Spellings: []string{"--max-total-tokens"}, Instead: useCtx, Key: keyCtx},
	{Spellings: []string{"--max-concurrent-requests"}, Instead: useSlots, Key: keySlots},
	{Spellings: []string{"--ngrok", "--ngrok-authtoken", "--ngrok-edge"}, Instead: useHost},
}

var tgiSyntax = flagSyntax{ShortValue: true}

func (tgi) Given(args []string) Given { return tgiSyntax.given(args, tgiManaged) }

func (tgi) Check(p pool.Pool) []pool.Refusal {
	return slices.Concat(needModel(p), needProgram(p, tgi{}.DefaultBinary()), noTensorSplit(p),
		tgiSyntax.refuse(p, tgiManaged))
}

// tgiFiles are the options of text-generation-launcher, with their variables, that may name a file
// or a directory to read.
var tgiFiles = []fileFlag{
	{Spellings: []string{"--tokenizer-config-path"}, Variables: []string{"TOKENIZER_CONFIG_PATH"}, Paths: absolute},
	{Spellings: []string{"--lora-adapters"}, Variables: []string{"LORA_ADAPTERS"}, Weights: true,
		Paths: listed(named(absolute)), Remote: listed(named(onHub))},
}

func (tgi) Files(p pool.Pool) []File { return tgiSyntax.files(p, tgiFiles) }

func (tgi) Command(p pool.Pool, at Instance) Command {
	args := []string{"--model-id", at.Model, "--hostname", at.Host, "--port", strconv.Itoa(at.Port)}
	if p.Ctx > 0 {
		args = append(args, "--max-total-tokens", strconv.Itoa(p.Ctx))
	}
	if p.Slots > 0 {
		args = append(args, "--max-concurrent-requests", strconv.Itoa(p.Slots))
	}
	if len(at.Devices) > 1 && !tgiSyntax.has(p.Args, "--num-shard", "--sharded") {
		args = append(args, "--num-shard", strconv.Itoa(len(at.Devices)))
	}
	env := offlinePython()
	// As variables and not as flags: a version that lacks one ignores the variable and would fail
	// on the flag. Both ports have a fixed default on which a second replica would fail.
	env["PROMETHEUS_PORT"] = sidePort(at.Port, metricsOffset)
	env["MASTER_PORT"] = sidePort(at.Port, rendezvousOffset)
	env["MASTER_ADDR"] = at.Host
	env["USAGE_STATS"] = "off"
	return Command{Args: append(args, p.Args...), Env: env}
}

// APIKey: the launcher passes its key on the command line of the router, where every user of the
// host could read it.
func (tgi) APIKey() APIKey { return APIKey{} }

// UnixSocket: TGI's router listens on a port only.
func (tgi) UnixSocket(pool.Pool, string) UnixSocket { return SocketNever }

func (tgi) HealthPath() string { return "/health" }
func (tgi) HealthStatus() int  { return http.StatusOK }

func (tgi) Relax(Instance) []Relaxation { return pythonRelaxations() }

// StopTimeout is above the 90 s that the launcher gives its router and shards.
func (tgi) StopTimeout(pool.Pool) time.Duration { return 100 * time.Second }

func (tgi) SlotsPath() string { return "/info" }

func (tgi) Slots(body []byte) (int, error) {
	return slotsField(body, "max_concurrent_requests")
}

func (tgi) BusyPath() string { return "/metrics" }

func (tgi) Busy(body []byte) (int, error) {
	return sumGauges(bounds.OfBusy, body, "tgi_batch_current_size", "tgi_queue_size")
}

// GeneratePath is TGI's own request: /v1/completions came later.
func (tgi) GeneratePath() string { return "/generate" }

func (tgi) GenerateBody(pool.Pool) []byte {
	return []byte(`{"inputs":"a","parameters":{"max_new_tokens":1}}`)
}

func (tgi) Generated(body []byte) error { return hasField(body, "generated_text") }

func (tgi) ProgressPath() string { return "/metrics" }

// Progress counts steps of the model
// (https://huggingface.co/docs/text-generation-inference/reference/metrics).
func (tgi) Progress(body []byte) (string, error) {
	return counted(body, "tgi_batch_inference_success", "tgi_batch_inference_count")
}

// Shares of each GPU that TGI takes.
const (
	tgiShare    = 1.0  // --cuda-memory-fraction by default
	tgiHeadroom = 0.95 // what a warm-up reaches of its share (TGI_WIGGLE_ROOM)
)

// Claim is not firm: TGI fills what is free of its share with its cache.
func (tgi) Claim(p pool.Pool, _ string) Claim {
	const flag = "--cuda-memory-fraction"
	f := flagSet{args: p.Args, env: p.Variables(), syntax: tgiSyntax}
	return Claim{Share: tgiHeadroom * f.share(tgiShare, "CUDA_MEMORY_FRACTION", flag), Flag: flag}
}

func (tgi) Run(pool.Pool, Instance) (Run, error) { return Run{}, errNoGGUF }
func (tgi) SplitsByShare() bool                  { return false }
func (tgi) CacheTypes() []string                 { return nil }
func (tgi) CacheArgs(string) []string            { return nil }

func (tgi) CountsIdle() bool { return false }

func (tgi) QueuePath() string { return "/metrics" }

func (tgi) Queue(body []byte) (int, error) { return sumGauges(bounds.OfQueue, body, "tgi_queue_size") }

func (tgi) Workloads(pool.Pool) []string { return []string{WorkCompletion} }

func (tgi) Fallbacks() []classify.Fallback {
	return append(torchFallbacks(), containerFallback(), cudaFallback())
}
