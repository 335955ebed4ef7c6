package engine

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Triton is NVIDIA's Triton Inference Server in a pool file.
const Triton = "triton"

// triton is NVIDIA's tritonserver; the model is a model repository, a directory. Its endpoints open
// after the models are loaded; not ready is 400.
type triton struct{}

var _ Adapter = triton{}

func (triton) Kind() string          { return Triton }
func (triton) Doc() string           { return "NVIDIA's Triton Inference Server" }
func (triton) Weights() Weights      { return Repository }
func (triton) DefaultBinary() string { return "tritonserver" }

// VersionArgs is nil: tritonserver has no option that prints its version
// (triton-inference-server/server#5393).
func (triton) VersionArgs(string) []string { return nil }

func (triton) ParseVersion([]byte) string { return "" }

var tritonManaged = []managedFlag{
	{Spellings: []string{"--model-repository", "--model-store"}, Instead: useModel, Key: keyModel},
	{Spellings: []string{"--http-address"}, Instead: useHost, Key: keyHost},
	{Spellings: []string{"--grpc-address", "--metrics-address"}, Instead: useHost},
	{Spellings: []string{"--http-port"}, Instead: usePort, Key: keyPort},
	{Spellings: []string{"--allow-http"}, Instead: "leave it out: the health probe is HTTP"},
}

func (triton) Given(args []string) Given {
	g := tritonSyntax.given(args, tritonManaged)
	g.without("--allow-grpc=false") // which is written anyway
	return g
}

func (triton) Check(p pool.Pool) []pool.Refusal {
	var refused []pool.Refusal
	if p.Ctx > 0 {
		refused = append(refused, pool.Refuse("ctx", "Remove ctx; a Triton model's limits are in its own config.pbtxt.",
			"ctx has no meaning for engine %q", p.Engine))
	}
	return slices.Concat(refused, needModel(p), needProgram(p, triton{}.DefaultBinary()), noTensorSplit(p),
		tritonSyntax.refuse(p, tritonManaged))
}

// tritonFiles are the options of tritonserver that name a file or a directory to read.
var tritonFiles = []fileFlag{
	{Spellings: []string{"--backend-directory", "--repoagent-directory", "--cache-directory", "--grpc-server-cert",
		"--grpc-server-key", "--grpc-root-cert"}, Paths: absolute},
}

// tritonSyntax is getopt_long(3)'s.
var tritonSyntax = flagSyntax{Shortened: true}

func (triton) Files(p pool.Pool) []File { return tritonSyntax.files(p, tritonFiles) }

// Command turns gRPC off unless args say otherwise: its default port is the same for every replica.
// Slots are only counted: the concurrency of Triton is set in its models.
func (triton) Command(p pool.Pool, at Instance) Command {
	args := []string{
		"--model-repository=" + at.Model,
		"--http-address=" + at.Host,
		"--http-port=" + strconv.Itoa(at.Port),
	}
	syntax := tritonSyntax
	if syntax.has(p.Args, "--grpc-port", "--allow-grpc") {
		args = append(args, "--grpc-address="+at.Host)
	} else {
		args = append(args, "--allow-grpc=false")
	}
	if !syntax.has(p.Args, "--metrics-port", "--allow-metrics") {
		args = append(args, "--metrics-port="+sidePort(at.Port, metricsOffset))
	}
	return Command{Args: append(args, p.Args...)}
}

// APIKey: Triton asks for no key.
func (triton) APIKey() APIKey { return APIKey{} }

// UnixSocket: tritonserver listens on ports only.
func (triton) UnixSocket(pool.Pool, string) UnixSocket { return SocketNever }

func (triton) HealthPath() string { return "/v2/health/ready" }
func (triton) HealthStatus() int  { return http.StatusOK }

// Relax is the whole Python list: Triton's Python and vLLM backends run in its processes.
func (triton) Relax(Instance) []Relaxation { return pythonRelaxations() }

// StopTimeout is above the 30 s of --exit-timeout-secs.
func (triton) StopTimeout(pool.Pool) time.Duration { return 40 * time.Second }

func (triton) SlotsPath() string         { return "" }
func (triton) Slots([]byte) (int, error) { return 0, errNotReported }
func (triton) BusyPath() string          { return "" }
func (triton) Busy([]byte) (int, error)  { return 0, errNotReported }

// Triton has no request that fits any model: its inputs are those of the model.
func (triton) GeneratePath() string            { return "" }
func (triton) GenerateBody(pool.Pool) []byte   { return nil }
func (triton) Generated(body []byte) error     { return hasAnything(body) }
func (triton) ProgressPath() string            { return "" }
func (triton) Progress([]byte) (string, error) { return "", errNotReported }

func (triton) Claim(pool.Pool, string) Claim        { return Claim{} }
func (triton) Run(pool.Pool, Instance) (Run, error) { return Run{}, errNoGGUF }
func (triton) SplitsByShare() bool                  { return false }
func (triton) CacheTypes() []string                 { return nil }
func (triton) CacheArgs(string) []string            { return nil }

func (triton) CountsIdle() bool { return true }

// QueuePath is empty: Triton publishes its metrics on another port than the one that it serves on.
func (triton) QueuePath() string            { return "" }
func (triton) Queue([]byte) (int, error)    { return 0, errNotReported }
func (triton) Workloads(pool.Pool) []string { return nil }

// Fallbacks: "CUDA memory pool disabled" and "CudaDriverHelper has not been initialized" are logged
// with a working GPU too.
func (triton) Fallbacks() []classify.Fallback {
	return []classify.Fallback{
		// core, src/pinned_memory_manager.cc
		fallback(`pinned memory pool will not be available: (?:no CUDA-capable device|CUDA driver version is insufficient)`,
			"Triton found no GPU"),
		fallback(`Cannot get CUDA device count`, "Triton cannot count its GPUs"), // core, src/metrics.cc
		containerFallback(), cudaFallback(),
	}
}
