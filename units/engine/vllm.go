package engine

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// vllm is "vllm serve". While it loads, connections are refused or time out.
type vllm struct{}

var _ Adapter = vllm{}

func (vllm) Kind() string          { return pool.VLLM }
func (vllm) DefaultBinary() string { return "vllm" }
func (vllm) VersionArgs() []string { return []string{"--version"} }

// vllmVersion matches a line that holds a Python version and nothing else ("0.9.2",
// "0.7.4.dev390+gdebd6bbf0"); log lines about the platform come before it.
var vllmVersion = regexp.MustCompile(`(?m)^(?:vllm )?v?(\d+\.\d+[0-9A-Za-z.+_-]*)[ \t\r]*$`)

func (vllm) ParseVersion(out []byte) string { return firstMatch(vllmVersion, out) }

var vllmManaged = []managedFlag{
	{[]string{"--model"}, useModel},
	{[]string{"--host", "--uds"}, useHost},
	{[]string{"--port"}, usePort},
	{[]string{"--max-model-len"}, useCtx},
	{[]string{"--max-num-seqs"}, useSlots},
	{[]string{"--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs"}, noTLS},
	{[]string{"--config"}, "give each option in args: a file could change the port behind the manager's back"},
}

var vllmSyntax = flagSyntax{Underscores: true}

func (vllm) Check(p pool.Pool) []pool.Refusal {
	return slices.Concat(needModel(p), noTensorSplit(p), vllmSyntax.refuse(p, vllmManaged))
}

// Command splits the model evenly over the mask unless args split it. Versions that read CUDA_VISIBLE_DEVICES as numbers die of the
// UUIDs that it holds ("invalid literal for int()", vllm-project/vllm#13815 and #32569; 0.20.1 still does): docs/gpus.md tells the
// operator. A number in its place would be one of CUDA's inside the sandbox for PyTorch, and one of NVML's outside of it for vLLM itself.
func (vllm) Command(p pool.Pool, at Instance) Command {
	args := []string{"serve", at.Model, "--host", at.Host, "--port", strconv.Itoa(at.Port)}
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
	env := offlinePython()
	// vLLM's processes find each other by the host's own address, which the unit may not use.
	env["VLLM_HOST_IP"] = at.Host
	env["VLLM_NO_USAGE_STATS"] = "1"
	return Command{Args: append(args, p.Args...), Env: env}
}

// offlinePython keeps the Hugging Face libraries from waiting for a network that the unit does not
// have, and the libraries of several GPUs on the loopback interface.
func offlinePython() map[string]string {
	return map[string]string{
		"HF_HUB_OFFLINE":       "1",
		"TRANSFORMERS_OFFLINE": "1",
		"DO_NOT_TRACK":         "1",
		"NCCL_SOCKET_IFNAME":   "lo",
		"GLOO_SOCKET_IFNAME":   "lo",
	}
}

func (vllm) HealthPath() string { return "/health" }
func (vllm) HealthStatus() int  { return http.StatusOK }

func (vllm) Relax(Instance) []Relaxation { return pythonRelaxations() }

// StopTimeout is for the workers' clean-up: vLLM aborts what is in flight at SIGTERM.
func (vllm) StopTimeout() time.Duration { return 30 * time.Second }

func (vllm) SlotsPath() string         { return "" }
func (vllm) Slots([]byte) (int, error) { return 0, errNotTold }
func (vllm) BusyPath() string          { return "/metrics" }
func (vllm) Busy(body []byte) (int, error) {
	return sumGauges(body, "vllm:num_requests_running", "vllm:num_requests_waiting")
}

// errNotTold is returned for what an engine has no endpoint for.
var errNotTold = errors.New("the engine does not tell")

func (vllm) QueuePath() string { return "/metrics" }

func (vllm) Queue(body []byte) (int, error) { return sumGauges(body, "vllm:num_requests_waiting") }

// Workloads are known only of a server that was not told what to run the model for: it then generates text, or chooses by the
// model, which is not read here.
func (vllm) Workloads(p pool.Pool) []string {
	if vllmSyntax.has(p.Args, "--task", "--runner", "--convert") {
		return nil
	}
	return []string{WorkCompletion}
}
