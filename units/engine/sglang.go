package engine

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/pattern"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// SGLang is SGLang in a pool file.
const SGLang = "sglang"

// sglang is "sglang serve", or "python -m sglang.launch_server" where the pool's binary is a
// Python. While it loads, connections are refused, and then /health answers 503 until its own first
// request is done. What is said here of its endpoints was read in the source of 0.5.23.
type sglang struct{}

var _ Adapter = sglang{}

func (sglang) Kind() string          { return SGLang }
func (sglang) Doc() string           { return "SGLang" }
func (sglang) Weights() Weights      { return Safetensors }
func (sglang) DefaultBinary() string { return "sglang" }

func (sglang) VersionArgs(binary string) []string {
	if isPython(binary) {
		return []string{"-c", `from sglang.version import __version__; print("sglang version:", __version__)`}
	}
	return []string{"version"}
}

var sglangVersion = pattern.Lazy(`(?m)^sglang version:[ \t]+(\S+)`)

func (sglang) ParseVersion(out []byte) string { return firstMatch(sglangVersion(), out) }

var sglangManaged = []managedFlag{
	{Spellings: []string{"--model-path", "--model"}, Instead: useModel, Key: keyModel},
	{Spellings: []string{"--host"}, Instead: useHost, Key: keyHost},
	{Spellings: []string{"--port"}, Instead: usePort, Key: keyPort},
	{Spellings: []string{"--context-length"}, Instead: useCtx, Key: keyCtx},
	{Spellings: []string{"--max-running-requests"}, Instead: useSlots, Key: keySlots},
	{Spellings: []string{"--enable-metrics"}, Instead: "leave it out"},
	{Spellings: []string{"--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs"}, Instead: noTLS},
	{Spellings: []string{"--enable-http-worker-reuseport"}, Instead: usePort,
		Why: "lets two engines listen on one port, so that each gets some of the other's requests"},
	{Spellings: []string{"--grpc-mode", "--smg-grpc-mode"}, Instead: "leave it out: the health probe is HTTP",
		Why: "replaces the HTTP server"},
	{Spellings: []string{"--nnodes", "--node-rank"}, Instead: "serve the model with the GPUs of one host",
		Why: "belongs to a server of several hosts, and an engine has no network"},
	{Spellings: []string{"--config"}, Instead: "give each option in args: a file could change the port without the manager's knowledge"},
}

// Given: a command line of it has --enable-metrics, which is written anyway.
func (sglang) Given(args []string) Given {
	g := sglangSyntax.given(args, sglangManaged, "serve", "-m", "sglang.launch_server")
	g.without("--enable-metrics")
	return g
}

// sglangSyntax is argparse's of Python.
var sglangSyntax = flagSyntax{Shortened: true}

func (sglang) Check(p pool.Pool) []pool.Refusal {
	return slices.Concat(needModel(p), noTensorSplit(p), sglangSyntax.refuse(p, sglangManaged))
}

// sglangFiles are the options that may name a file or a directory to read.
var sglangFiles = []fileFlag{
	{Spellings: []string{"--chat-template", "--completion-template", "--quantization-param-path",
		"--lmcache-config-file", "--flexkv-config-file"}, Paths: absolute},
	{Spellings: []string{"--tokenizer-path"}, Paths: absolute, Remote: onHub, Model: true},
	{Spellings: []string{"--lora-paths"}, Paths: named(absolute), Remote: named(onHub), Weights: true, Many: true},
	{Spellings: []string{"--speculative-draft-model-path", "--speculative-draft-model"}, Paths: absolute, Remote: onHub, Weights: true},
}

// APIKey: SGLang takes a key on its command line only, where every user of the host could read it.
func (sglang) APIKey() APIKey { return APIKey{} }

func (sglang) Files(p pool.Pool) []File { return sglangSyntax.files(p, sglangFiles) }

// Command splits the model evenly over the mask unless args split it.
func (sglang) Command(p pool.Pool, at Instance) Command {
	args := []string{"serve"}
	if isPython(p.Provisioning.Binary) {
		args = []string{"-m", "sglang.launch_server"}
	}
	args = append(args, "--model-path", at.Model, "--host", at.Host, "--port", strconv.Itoa(at.Port))
	syntax := sglangSyntax
	if !syntax.has(p.Args, "--served-model-name") {
		args = append(args, "--served-model-name", p.ID)
	}
	if p.Ctx > 0 {
		args = append(args, "--context-length", strconv.Itoa(p.Ctx))
	}
	if p.Slots > 0 {
		args = append(args, "--max-running-requests", strconv.Itoa(p.Slots))
	}
	split := syntax.has(p.Args, "--tp", "--tp-size", "--tensor-parallel-size", "--pp-size", "--pipeline-parallel-size",
		"--dp", "--dp-size", "--data-parallel-size")
	if len(at.Devices) > 1 && !split {
		args = append(args, "--tp-size", strconv.Itoa(len(at.Devices)))
	}
	args = append(args, "--enable-metrics") // without it there is no /metrics
	env := offlinePython()
	env["SGLANG_HOST_IP"] = at.Host
	return Command{Args: append(args, p.Args...), Env: env}
}

// UnixSocket: SGLang listens on ports only.
func (sglang) UnixSocket(pool.Pool, string) UnixSocket { return SocketNever }

// HealthPath generates a token itself unless other requests are under way, and takes a second for
// it. A hung scheduler is a 503 after 20 seconds.
func (sglang) HealthPath() string { return "/health" }
func (sglang) HealthStatus() int  { return http.StatusOK }

func (sglang) Relax(Instance) []Relaxation { return pythonRelaxations() }

// StopTimeout: at SIGTERM, SGLang takes no new request and waits for the others without a bound,
// then for its schedulers. It looks every five seconds.
func (sglang) StopTimeout(p pool.Pool) time.Duration {
	return p.Drain.Deadline + 60*time.Second
}

// SlotsPath came with 0.5.7; before it was /get_server_info, and slots must be in the pool file.
func (sglang) SlotsPath() string { return "/server_info" }

// Slots adds up what each scheduler processes at a time: by the flag, or by the memory that it has.
func (sglang) Slots(body []byte) (int, error) {
	var info struct {
		States []map[string]json.RawMessage `json:"internal_states"`
	}
	if err := json.Unmarshal(body, &info); err != nil {
		return 0, bounds.Refuse(bounds.OfSlots, "no object with internal_states: %s", bounds.Quote(err.Error()))
	}
	sum := 0
	for _, state := range info.States {
		raw, ok := state["effective_max_running_requests_per_dp"]
		if !ok {
			return 0, errNotReported
		}
		n, err := bounds.Int(bounds.OfSlots, string(raw), 1, bounds.Slots)
		if err != nil {
			return 0, err
		}
		if sum += n; sum > bounds.Slots {
			return 0, bounds.Refuse(bounds.OfSlots, "the schedulers have %d, want at most %d", sum, bounds.Slots)
		}
	}
	if sum == 0 {
		return 0, errNotReported
	}
	return sum, nil
}

// BusyPath is asked of the schedulers. The gauges of /metrics are old: they are set every 40 steps.
func (sglang) BusyPath() string { return "/v1/loads?include=core" }

func (sglang) Busy(body []byte) (int, error) {
	return sglangLoads(bounds.OfBusy, body, "num_running_reqs", "num_waiting_reqs")
}

func (sglang) QueuePath() string { return "/v1/loads?include=core" }

func (sglang) Queue(body []byte) (int, error) {
	return sglangLoads(bounds.OfQueue, body, "num_waiting_reqs")
}

// sglangLoads adds up these fields of all schedulers.
func sglangLoads(subject bounds.Subject, body []byte, fields ...string) (int, error) {
	var answer struct {
		Loads []map[string]json.RawMessage `json:"loads"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, errNotReported // another page than that of /v1/loads
	}
	if len(answer.Loads) == 0 {
		return 0, errNotReported
	}
	sum := 0
	for _, load := range answer.Loads {
		for _, field := range fields {
			raw, ok := load[field]
			if !ok {
				return 0, errNotReported
			}
			n, err := bounds.Int(subject, string(raw), 0, bounds.Requests)
			if err != nil {
				return 0, err
			}
			if sum += n; sum > bounds.Requests {
				return 0, bounds.Refuse(subject, "the schedulers have %d, want at most %d", sum, bounds.Requests)
			}
		}
	}
	return sum, nil
}

func (sglang) Workloads(p pool.Pool) []string {
	if sglangSyntax.has(p.Args, "--is-embedding") {
		return []string{WorkEmbedding}
	}
	return []string{WorkCompletion}
}

func (sglang) GeneratePath() string { return "/v1/completions" }

func (sglang) GenerateBody(p pool.Pool) []byte { return completionBody(servedName(p)) }

func (sglang) Generated(body []byte) error { return hasChoice(body) }

func (sglang) ProgressPath() string { return "/metrics" }

// Progress: the first counts during a request, the others at its end.
func (sglang) Progress(body []byte) (string, error) {
	return counted(body, "sglang:realtime_tokens_total", "sglang:generation_tokens_total", "sglang:prompt_tokens_total")
}

// sglangShare is the largest share that SGLang chooses by itself; the size of the GPU lowers it.
const sglangShare = 0.9

// Claim is not firm: SGLang takes its share of what is free when it starts.
func (sglang) Claim(p pool.Pool, _ string) Claim {
	const flag = "--mem-fraction-static"
	f := flagSet{args: p.Args, syntax: sglangSyntax}
	return Claim{Share: f.share(sglangShare, "", flag), Flag: flag}
}

func (sglang) Run(pool.Pool, Instance) (Run, error) { return Run{}, errNoGGUF }
func (sglang) SplitsByShare() bool                  { return false }
func (sglang) CacheTypes() []string                 { return nil }
func (sglang) CacheArgs(string) []string            { return nil }
func (sglang) CountsIdle() bool                     { return false }

func (sglang) Fallbacks() []classify.Fallback {
	return append(torchFallbacks(),
		// srt/utils/common.py, get_device
		fallback(`No accelerator \(CUDA, XPU, HPU, NPU, MUSA, MPS\)`, "SGLang found no GPU"),
		containerFallback(), cudaFallback())
}
