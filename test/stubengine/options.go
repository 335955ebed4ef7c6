package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Load modes: the kind of progress that a load shows to an observer.
const (
	loadCPU   = "cpu"   // burns processor time
	loadIO    = "io"    // reads the model from the disk
	loadLog   = "log"   // prints a line now and then
	loadStall = "stall" // nothing at all
)

// options are the command line.
type options struct {
	Host  string // --host, or $HOST
	Port  int    // --port, or $PORT
	Model string // -m, --model: must be readable, is not read further
	Slots int    // -np, --parallel: what /props and /slots report; 1 when left out

	Load       time.Duration // --load: /health is 503 for so long
	LoadMode   string        // --load-mode
	ListenLate bool          // --listen-late: the port opens when the load is done, as vLLM does
	CrashAfter time.Duration // --crash-after: end with --exit-code so long after the start; negative: never
	ExitCode   int           // --exit-code, 1 when left out
	IgnoreTerm bool          // --ignore-term
	Unload     time.Duration // --unload: so long it takes to end after SIGTERM
	GRPC       bool          // --grpc: the port serves gRPC's health protocol, and no HTTP
	Version    bool          // --version

	// --vram: bytes of each device in $CUDA_VISIBLE_DEVICES that it takes from the fake driver, and
	// holds
	VRAM       uint64
	Driver     string // --fake-driver: the socket of the fake driver
	Say        string // --say: a line that it logs before it is loaded, as an engine's own
	Props      string // --lie-props: what /props answers instead of the truth
	Metrics    string // --lie-metrics: the same of /metrics
	HealthPath string // --health-path: where /health is instead
	AccessLog  bool   // --access-log: a line for each request, as uvicorn writes it

	Kind   kind   // by the name of the program
	Masked string // $CUDA_VISIBLE_DEVICES
	Key    string // $VLLM_API_KEY, or in --api-key-file: all but /health, /metrics and /stub/ asks for it
}

// switches are engines' flags without a value that a test may pass; they change nothing here.
var switches = []string{"--metrics", "--slots", "--no-webui", "--flash-attn", "-fa", "--no-mmap", "--mlock",
	"--enable-metrics"}

// parse reads the arguments. An unknown flag is skipped together with a value that follows it, so
// that any llama-server command line is taken; a wrong value of a known one is an error.
func parse(args []string, getenv func(string) string) (options, error) {
	o := options{Host: "127.0.0.1", Slots: 1, LoadMode: loadCPU, CrashAfter: -1, ExitCode: 1, Driver: fakeDriver,
		Masked: getenv("CUDA_VISIBLE_DEVICES"), Key: getenv("VLLM_API_KEY")}
	if h := getenv("HOST"); h != "" {
		o.Host = h
	}
	if p := getenv("PORT"); p != "" {
		args = append([]string{"--port", p}, args...) // the command line wins
	}
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		if slices.Contains(switches, name) || !strings.HasPrefix(name, "-") {
			continue
		}
		if o.setSwitch(name) {
			continue
		}
		if !joined && i+1 < len(args) && !strings.HasPrefix(args[i+1], "--") {
			i++
			value = args[i]
		}
		if err := o.set(name, value); err != nil {
			return options{}, fmt.Errorf("%s %q: %w", name, value, err)
		}
	}
	if !o.Version && networkOf(o.Host) == "tcp" && (o.Port < 1 || o.Port > 65535) {
		return options{}, fmt.Errorf("--port is %d, want 1 to 65535", o.Port)
	}
	return o, nil
}

// address is where it listens. As llama-server's, a host that ends in .sock is a unix socket.
func (o options) address() string {
	if networkOf(o.Host) == "unix" {
		return o.Host
	}
	return net.JoinHostPort(o.Host, strconv.Itoa(o.Port))
}

// networkOf is the network of an address, as net.Listen takes it.
func networkOf(address string) string {
	if strings.HasSuffix(address, ".sock") {
		return "unix"
	}
	return "tcp"
}

// setSwitch takes a flag that has no value.
func (o *options) setSwitch(name string) bool {
	switch name {
	case "--ignore-term":
		o.IgnoreTerm = true
	case "--grpc":
		o.GRPC = true
	case "--listen-late":
		o.ListenLate = true
	case "--access-log":
		o.AccessLog = true
	case "--version":
		o.Version = true
	default:
		return false
	}
	return true
}

// set takes a flag with its value; an unknown flag is nothing.
func (o *options) set(name, value string) (err error) {
	switch name {
	case "--host":
		o.Host = value
	case "--port":
		o.Port, err = strconv.Atoi(value)
	case "-m", "--model", "--model-path":
		o.Model = value
	case "-np", "--parallel", "--max-running-requests", "--max_batch_size":
		o.Slots, err = strconv.Atoi(value)
	case "--load":
		o.Load, err = time.ParseDuration(value)
	case "--unload":
		o.Unload, err = time.ParseDuration(value)
	case "--load-mode":
		o.LoadMode = value
		if !slices.Contains([]string{loadCPU, loadIO, loadLog, loadStall}, value) {
			err = fmt.Errorf("want %s, %s, %s or %s", loadCPU, loadIO, loadLog, loadStall)
		}
	case "--crash-after":
		o.CrashAfter, err = time.ParseDuration(value)
	case "--exit-code":
		o.ExitCode, err = strconv.Atoi(value)
	case "--vram":
		o.VRAM, err = strconv.ParseUint(value, 10, 64)
	case "--fake-driver":
		o.Driver = value
	case "--say":
		o.Say = value
	case "--api-key-file":
		var key []byte
		key, err = os.ReadFile(value)
		o.Key = strings.TrimSpace(string(key))
	case "--health-path":
		o.HealthPath = value
	case "--lie-props":
		o.Props = value
	case "--lie-metrics":
		o.Metrics = value
	}
	return err
}
