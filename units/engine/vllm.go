package engine

import (
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

// VLLM is vLLM in a pool file.
const VLLM = "vllm"

// vllm is "vllm serve", or the same as a module where the pool's binary is a Python. While it
// loads, connections are refused or time out.
type vllm struct{}

var _ Adapter = vllm{}

func (vllm) Kind() string          { return VLLM }
func (vllm) Doc() string           { return "vLLM" }
func (vllm) Weights() Weights      { return Safetensors }
func (vllm) DefaultBinary() string { return "vllm" }

// vllmModule is what the vllm command runs; that of the API server alone is deprecated.
var vllmModule = []string{"-m", "vllm.entrypoints.cli.main"}

func (vllm) VersionArgs(binary string) []string {
	if isPython(binary) {
		return append(slices.Clone(vllmModule), "--version")
	}
	return []string{"--version"}
}

// vllmVersion matches a line that holds a Python version and nothing else ("0.9.2",
// "0.7.4.dev390+gdebd6bbf0"); log lines about the platform come before it.
var vllmVersion = pattern.Lazy(`(?m)^(?:vllm )?v?(\d+\.\d+[0-9A-Za-z.+_-]*)[ \t\r]*$`)

func (vllm) ParseVersion(out []byte) string { return firstMatch(vllmVersion(), out) }

var vllmManaged = []managedFlag{
	{Spellings: []string{"--model"}, Instead: useModel, Key: keyModel},
	{Spellings: []string{"--host"}, Instead: useHost, Key: keyHost},
	{Spellings: []string{"--uds"}, Instead: useHost},
	{Spellings: []string{"--port"}, Instead: usePort, Key: keyPort},
	{Spellings: []string{"--max-model-len"}, Instead: useCtx, Key: keyCtx},
	{Spellings: []string{"--max-num-seqs"}, Instead: useSlots, Key: keySlots},
	{Spellings: []string{"--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs"}, Instead: noTLS},
	{Spellings: []string{"--config"}, Instead: "give each option in args: a file could change the port without the manager's knowledge"},
}

var vllmSyntax = flagSyntax{Underscores: true, Shortened: true}

func (vllm) Given(args []string) Given { return vllmSyntax.given(args, vllmManaged, "serve") }

func (vllm) Check(p pool.Pool) []pool.Refusal {
	return slices.Concat(needModel(p), noTensorSplit(p), vllmSyntax.refuse(p, vllmManaged))
}

// vllmFiles are the options of "vllm serve --help" that may name a file or a directory to read. In
// the place of most of them a name on Hugging Face or the text itself may be given.
var vllmFiles = []fileFlag{
	{Spellings: []string{"--chat-template", "--generation-config", "--hf-config-path", "--tool-parser-plugin",
		"--reasoning-parser-plugin", "--allowed-local-media-path", "--quantization-param-path"}, Paths: absolute},
	{Spellings: []string{"--tokenizer"}, Paths: absolute, Remote: onHub, Model: true},
	{Spellings: []string{"--lora-modules"}, Paths: named(absolute), Remote: named(onHub), Weights: true, Many: true},
	{Spellings: []string{"--speculative-config", "-sc"}, Paths: inJSON(absolute, "model"), Remote: inJSON(onHub, "model"), Weights: true},
	{Spellings: []string{"--speculative-config.model", "--speculative-model"}, Paths: absolute, Remote: onHub, Weights: true},
}

func (vllm) Files(p pool.Pool) []File { return vllmSyntax.files(p, vllmFiles) }

// Command splits the model evenly over the mask unless args split it.
func (vllm) Command(p pool.Pool, at Instance) Command {
	var args []string
	if isPython(p.Provisioning.Binary) {
		args = slices.Clone(vllmModule)
	}
	if at.Socket != "" {
		args = append(args, "serve", at.Model, "--uds", at.Socket)
	} else {
		args = append(args, "serve", at.Model, "--host", at.Host, "--port", strconv.Itoa(at.Port))
	}
	if !vllmSyntax.has(p.Args, "--served-model-name") {
		// A request names the model, and the pool's id is a better name than a path.
		args = append(args, "--served-model-name", p.ID)
	}
	if p.Ctx > 0 {
		args = append(args, "--max-model-len", strconv.Itoa(p.Ctx))
	}
	if p.Slots > 0 {
		args = append(args, "--max-num-seqs", strconv.Itoa(p.Slots))
	}
	split := vllmSyntax.has(p.Args, "--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp",
		"--data-parallel-size", "-dp")
	if len(at.Devices) > 1 && !split {
		args = append(args, "--tensor-parallel-size", strconv.Itoa(len(at.Devices)))
	}
	// Whatever stops the unit, systemctl or a shutdown of the host, finishes the requests within
	// the drain's deadline. The manager drains before, and kills at its deadline.
	if seconds := int(p.Drain.Deadline.Seconds()); seconds > 0 && vllmDrains.reached(at.Version) &&
		!vllmSyntax.has(p.Args, vllmDrainFlag) {
		args = append(args, vllmDrainFlag, strconv.Itoa(seconds))
	}
	env := offlinePython()
	// vLLM's processes find each other by the host's own address, which the unit may not use.
	env["VLLM_HOST_IP"] = at.Host
	env["VLLM_NO_USAGE_STATS"] = "1"
	c := Command{Args: append(args, p.Args...), Env: env}
	if vllmUUIDs.before(at.Version) {
		c.Visible, c.Refused = numbered(p, at)
	}
	return c
}

// vllmUUIDs is the first version that reads UUIDs in CUDA_VISIBLE_DEVICES. Those before take its
// entries for numbers and end with "invalid literal for int()" (vllm-project/vllm#13815, #32569).
var vllmUUIDs = release{0, 24}

// numbered returns the devices as numbers for a version that cannot read UUIDs. The unit shows an
// engine no other GPU, and so CUDA and NVML count those of the mask alone in it, in the order of
// their bus. No number means a partition.
func numbered(p pool.Pool, at Instance) ([]string, *Refused) {
	var numbers []string
	for i, uuid := range at.Devices {
		if strings.HasPrefix(uuid, "MIG-") {
			return nil, &Refused{
				fmt.Sprintf("%s %s cannot use the partition %s: it reads CUDA_VISIBLE_DEVICES as numbers", p.Engine,
					at.Version, uuid),
				fmt.Sprintf("Install version %d.%d or newer, or give the pool whole GPUs.", vllmUUIDs.major,
					vllmUUIDs.minor)}
		}
		before := i
		if len(at.Indices) == len(at.Devices) {
			before = 0
			for _, other := range at.Indices {
				if other < at.Indices[i] {
					before++
				}
			}
		}
		numbers = append(numbers, strconv.Itoa(before))
	}
	return numbers, nil
}

// APIKey: vLLM reads a key from no file. It protects /v1 and what generates, and neither /health
// nor /metrics.
func (vllm) APIKey() APIKey {
	return APIKey{Variable: "VLLM_API_KEY", Others: []string{"--api-key", "VLLM_API_KEY"}}
}

// UnixSocket: vLLM has --uds; it was not tried without a network.
func (vllm) UnixSocket(pool.Pool, string) UnixSocket { return SocketUntested }

func (vllm) HealthPath() string { return "/health" }
func (vllm) HealthStatus() int  { return http.StatusOK }

func (vllm) Relax(Instance) []Relaxation { return vllmRelaxations() }

// vllmDrains is the first version that can finish its requests after SIGTERM. Without the flag it
// aborts them.
var vllmDrains = release{0, 18}

const vllmDrainFlag = "--shutdown-timeout"

// StopTimeout is for the requests that vLLM finishes after SIGTERM, and for the workers' clean-up.
func (vllm) StopTimeout(p pool.Pool) time.Duration {
	f := flagSet{args: p.Args, syntax: vllmSyntax}
	drain := p.Drain.Deadline
	if seconds, ok := f.integer(maxDrainSeconds, "", vllmDrainFlag); ok {
		drain = time.Duration(seconds) * time.Second
	}
	return drain + 30*time.Second
}

// maxDrainSeconds is a bound for what an operator may write.
const maxDrainSeconds = 30 * 24 * 3600

func (vllm) SlotsPath() string         { return "" }
func (vllm) Slots([]byte) (int, error) { return 0, errNotReported }
func (vllm) BusyPath() string          { return "/metrics" }
func (vllm) Busy(body []byte) (int, error) {
	return sumGauges(bounds.OfBusy, body, "vllm:num_requests_running", "vllm:num_requests_waiting")
}

func (vllm) GeneratePath() string { return "/v1/completions" }

// GenerateBody names the model as Command does.
func (vllm) GenerateBody(p pool.Pool) []byte {
	return completionBody(servedName(p))
}

func (vllm) Generated(body []byte) error { return hasChoice(body) }

func (vllm) ProgressPath() string { return "/metrics" }

func (vllm) Progress(body []byte) (string, error) {
	return counted(body, "vllm:generation_tokens_total", "vllm:prompt_tokens_total")
}

// servedName is the name by which a request to vLLM names the model: the operator's first, else the
// pool's id.
func servedName(p pool.Pool) string {
	for i, arg := range p.Args {
		name := vllmSyntax.name(arg)
		if vllmSyntax.means(name, "--served-model-name") == "" {
			continue
		}
		if value, joined := vllmSyntax.inline(arg, name); joined {
			return value
		}
		if i+1 < len(p.Args) {
			return p.Args[i+1]
		}
	}
	return p.ID
}

// Shares of each GPU that vLLM takes by default (--gpu-memory-utilization).
const (
	vllmShare      = 0.9
	vllmShareSince = 0.92 // from 0.21 on
)

// Claim is firm: vLLM does not start where less than its share is free. With a fixed size of its
// cache it does not look at the share.
func (vllm) Claim(p pool.Pool, version string) Claim {
	const flag = "--gpu-memory-utilization"
	f := flagSet{args: p.Args, syntax: vllmSyntax}
	if f.given("", "--kv-cache-memory-bytes", "--kv-cache-memory") {
		return Claim{}
	}
	return Claim{Share: f.share(vllmDefaultShare(version), "", flag), Firm: true, Flag: flag}
}

// vllmDefaultShare returns the share that this version takes; the smaller one for an unknown
// version.
func vllmDefaultShare(version string) float64 {
	if (release{0, 21}).reached(version) {
		return vllmShareSince
	}
	return vllmShare
}

func (vllm) Run(pool.Pool, Instance) (Run, error) { return Run{}, errNoGGUF }
func (vllm) SplitsByShare() bool                  { return false }
func (vllm) CacheTypes() []string                 { return nil }
func (vllm) CacheArgs(string) []string            { return nil }

func (vllm) CountsIdle() bool { return false }

func (vllm) QueuePath() string { return "/metrics" }

func (vllm) Queue(body []byte) (int, error) {
	return sumGauges(bounds.OfQueue, body, "vllm:num_requests_waiting")
}

// Workloads are unknown where the server chooses by the model, which is not read here, and where it
// serves what is neither text nor a vector nor a rank.
func (vllm) Workloads(p pool.Pool) []string {
	f := flagSet{args: p.Args, env: p.Env, syntax: vllmSyntax}
	task, _ := f.value("", "--task")
	convert, _ := f.value("", "--convert")
	runner, _ := f.value("", "--runner")
	switch {
	case task == "embed", task == "embedding", convert == "embed":
		return []string{WorkEmbedding}
	case task == "score":
		return []string{WorkRerank}
	case task == "" && convert == "" && runner == "", task == "generate", runner == "generate":
		return []string{WorkCompletion}
	}
	return nil
}

func (vllm) Fallbacks() []classify.Fallback {
	return append(torchFallbacks(),
		// vllm/config, DeviceConfig: RuntimeError("Failed to infer device type")
		fallback(`Failed to infer device type`, "vLLM found no GPU"),
		// vllm/platforms/__init__.py: "Automatically detected platform %s."
		fallback(`Automatically detected platform cpu\b`, "vLLM runs on the CPU"),
		fallback(`vLLM is running on UnspecifiedPlatform`, "vLLM found no GPU"),
		containerFallback(), cudaFallback())
}
