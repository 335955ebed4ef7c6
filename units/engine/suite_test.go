package engine_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

// subject is what the suite must know of an engine to hold it to what every engine promises.
type subject struct {
	kind     string
	versions map[string]string // file below testdata/version → version
	managed  map[string]string // flag in args → the pool key that the hint must name
	gpuRelax bool              // the sandbox is only relaxed with a GPU
	silent   bool              // it never says that it runs without its GPU

	slots, busy, queue       recorded
	generated, before, after string // files below testdata/answers; two of ProgressPath, with a step between them
}

var subjects = []subject{
	{
		kind: engine.LlamaCpp, gpuRelax: true,
		slots: recorded{"llamacpp-0.7.0-props.json", 2}, busy: recorded{"llamacpp-0.7.0-slots-busy-1.json", 2},
		queue: recorded{"llamacpp-0.7.0-metrics.txt", 0}, generated: "llamacpp-0.7.0-completion.json",
		before: "llamacpp-0.7.0-slots-busy-1.json", after: "llamacpp-0.7.0-slots-busy-2.json",
		versions: map[string]string{"llamacpp-6123.txt": "6123", "llamacpp-0.7.0-debian.txt": "0.7.0"},
		managed: map[string]string{
			"-m": "model", "--model": "model", "-hf": "model", "--host": "127.0.0.1", "--port": "port", "-c": "ctx",
			"--ctx-size": "ctx", "-np": "slots", "--parallel": "slots", "-ts": "tensor_split", "-dev": "devices",
			"--ssl-key-file": "HTTP",
		},
	},
	{
		kind: engine.VLLM,
		busy: recorded{"vllm-metrics.txt", 5}, queue: recorded{"vllm-metrics.txt", 2},
		generated: "vllm-completion.json", before: "vllm-metrics.txt", after: "vllm-metrics-later.txt",
		versions: map[string]string{
			"vllm-0.9.2.txt":                   "0.9.2",
			"vllm-0.7.4.dev390+gdebd6bbf0.txt": "0.7.4.dev390+gdebd6bbf0",
		},
		managed: map[string]string{
			"--port": "port", "--port=80": "port", "--host=0.0.0.0": "127.0.0.1", "--max-model-len": "ctx", "--max_model_len": "ctx",
			"--max-num-seqs=4": "slots", "--uds": "127.0.0.1", "--model": "model", "--config": "args",
		},
	},
	{
		kind: engine.SGLang, slots: recorded{"sglang-server-info.json", 32},
		busy: recorded{"sglang-loads.json", 5}, queue: recorded{"sglang-loads.json", 2},
		generated: "vllm-completion.json", before: "sglang-metrics.txt", after: "sglang-metrics-later.txt",
		versions: map[string]string{"sglang-0.5.23.txt": "0.5.23"},
		managed: map[string]string{
			"--port": "port", "--port=80": "port", "--host=0.0.0.0": "127.0.0.1", "--model-path": "model", "--model": "model",
			"--context-length": "ctx", "--max-running-requests=4": "slots", "--config": "args", "--enable-metrics": "leave it out",
			"--grpc-mode": "HTTP", "--nnodes": "one host", "--enable-http-worker-reuseport": "port", "--ssl-keyfile": "HTTP",
		},
	},
	{
		kind: engine.TRTLLM, queue: recorded{"trtllm-metrics.txt", 2}, generated: "vllm-completion.json",
		versions: map[string]string{"trtllm-1.2.1.txt": "1.2.1"},
		managed: map[string]string{
			"--port": "port", "--host=0.0.0.0": "127.0.0.1", "--max_seq_len": "ctx", "--max_batch_size=4": "slots",
			"--server_role": "one host", "--disagg_cluster_uri": "one host", "--metadata_server_config_file": "one host",
		},
	},
	{
		kind:  engine.TGI,
		slots: recorded{"tgi-info.json", 128}, busy: recorded{"tgi-metrics.txt", 5}, queue: recorded{"tgi-metrics.txt", 2},
		generated: "tgi-generate.json", before: "tgi-metrics.txt", after: "tgi-metrics-later.txt",
		versions: map[string]string{"tgi-3.3.4.txt": "3.3.4"},
		managed: map[string]string{
			"--port": "port", "-p": "port", "-p80": "port", "-p=80": "port", "--hostname": "127.0.0.1", "--model-id": "model",
			"--max-total-tokens=9": "ctx", "--max-concurrent-requests": "slots", "--ngrok": "127.0.0.1",
		},
	},
	{
		kind: engine.Triton,
		managed: map[string]string{
			"--http-port=80": "port", "--http-port": "port", "--http-address": "127.0.0.1", "--grpc-address": "127.0.0.1",
			"--model-repository=/x": "model", "--allow-http=false": "HTTP",
		},
	},
	{kind: engine.Program, gpuRelax: true},
}

func at(devices ...string) engine.Instance {
	return engine.Instance{Model: "/srv/models/a", Host: "127.0.0.1", Port: 21007, Devices: devices}
}

func wanted(kind string, args ...string) pool.Pool {
	return pool.Pool{ID: "demo", Source: "/etc/pool-managerd/pools.d/demo.toml", Engine: kind,
		Model: "file:/srv/models/a", Args: args}
}

// TestEveryAdapter holds each engine to what the rest of the program relies on.
func TestEveryAdapter(t *testing.T) {
	if len(subjects) != len(engine.Kinds()) {
		t.Fatalf("the suite knows %d engines, the package %d", len(subjects), len(engine.Kinds()))
	}
	for i, s := range subjects {
		t.Run(s.kind, func(t *testing.T) {
			adapter, ok := engine.For(s.kind)
			if !ok || adapter.Kind() != s.kind || engine.Kinds()[i] != s.kind {
				t.Fatalf("For(%q) = %v, %t; Kinds()[%d] = %s", s.kind, adapter, ok, i, engine.Kinds()[i])
			}
			t.Run("command", func(t *testing.T) { commandSuite(t, s, adapter) })
			t.Run("given", func(t *testing.T) { givenSuite(t, s, adapter) })
			t.Run("managed_flags", func(t *testing.T) { managedSuite(t, s, adapter) })
			t.Run("version", func(t *testing.T) { versionSuite(t, s, adapter) })
			t.Run("bad_answers", func(t *testing.T) { badAnswersSuite(t, adapter) })
			t.Run("answers", func(t *testing.T) { answersSuite(t, s, adapter) })
			t.Run("memory", func(t *testing.T) { memorySuite(t, s, adapter) })
			t.Run("fallback", func(t *testing.T) { fallbackSuite(t, s, adapter) })
			t.Run("sandbox", func(t *testing.T) { relaxSuite(t, s, adapter) })
		})
	}
}

func commandSuite(t *testing.T, s subject, a engine.Adapter) {
	p := wanted(s.kind, "--operator", "last", "--word=1")
	p.Slots = 3
	if s.kind != engine.Triton {
		p.Ctx = 512
	}
	if refused := a.Check(p); len(refused) > 0 {
		t.Fatal(refused)
	}
	for _, instance := range []engine.Instance{at(), at("0"), at("GPU-a", "GPU-b")} {
		before := slices.Clone(p.Args)
		c := a.Command(p, instance)
		if !slices.Equal(c.Args[len(c.Args)-3:], p.Args) {
			t.Errorf("the operator's arguments are not last: %q", c.Args)
		}
		if !reflect.DeepEqual(c, a.Command(p, instance)) || !slices.Equal(before, p.Args) {
			t.Error("Command is not pure")
		}
		told := strings.Join(c.Args, " ") + " " + c.Env["PORT"] + " " + c.Env["HOST"] + " " + c.Env["MODEL"]
		for _, want := range []string{instance.Model, instance.Host, strconv.Itoa(instance.Port)} {
			if !strings.Contains(told, want) {
				t.Errorf("the engine does not get %s: %q", want, told)
			}
		}
	}
	if !strings.HasPrefix(a.HealthPath(), "/") || a.HealthStatus() != 200 {
		t.Errorf("health is %s with %d", a.HealthPath(), a.HealthStatus())
	}
	if a.StopTimeout(p) <= 0 {
		t.Errorf("StopTimeout is %v", a.StopTimeout(p))
	}
	if a.DefaultBinary() == "" && s.kind != engine.Program {
		t.Error("no default binary")
	}
	if a.Doc() == "" || strings.HasSuffix(a.Doc(), ".") {
		t.Errorf("Doc is %q, want a noun phrase", a.Doc())
	}
}

func managedSuite(t *testing.T, s subject, a engine.Adapter) {
	for flag, key := range s.managed {
		refused := a.Check(wanted(s.kind, "--fine", flag, flag))
		if len(refused) != 2 || refused[0].Key != "args[1]" || refused[1].Key != "args[2]" {
			t.Errorf("args %q: %v, want both refused", flag, refused)
			continue
		}
		f := refused[0]
		name, _, _ := strings.Cut(flag, "=")
		if s.kind == engine.TGI && !strings.HasPrefix(name, "--") {
			name = name[:2]
		}
		name = strings.ReplaceAll(name, "_", "-")
		if !strings.Contains(f.Message, "args[1] is "+name) || !strings.Contains(f.Hint, key) {
			t.Errorf("args %q: message %q, hint %q; want the item, %q and %q", flag, f.Message, f.Hint, name, key)
		}
	}
	unmanaged := wanted(s.kind, "--temperature", "-1", "-", "--", "port", "80", "--portal", "--modelling=1")
	if refused := a.Check(unmanaged); len(refused) > 0 {
		t.Errorf("args that are not managed: %v", refused)
	}
}

func versionSuite(t *testing.T, s subject, a engine.Adapter) {
	if (a.VersionArgs("/usr/bin/x") == nil) != (len(s.versions) == 0) {
		t.Errorf("version arguments %q, and %d recorded outputs", a.VersionArgs("/usr/bin/x"), len(s.versions))
	}
	for file, want := range s.versions {
		out, err := os.ReadFile(filepath.Join("testdata", "version", file))
		if err != nil {
			t.Fatal(err)
		}
		if got := a.ParseVersion(out); got != want {
			t.Errorf("%s: version %q, want %q", file, got, want)
		}
	}
	for _, out := range []string{"", "error: unknown argument: --version\n", "\x00\xff\xfe",
		"Traceback (most recent call last):\n"} {
		if got := a.ParseVersion([]byte(out)); got != "" {
			t.Errorf("version %q out of %q", got, out)
		}
	}
}

func badAnswersSuite(t *testing.T, a engine.Adapter) {
	for _, body := range []string{"", "{}", "[", "null", "404 page not found", `{"error":{"code":501}}`} {
		if n, err := a.Slots([]byte(body)); err == nil {
			t.Errorf("Slots(%q) = %d without an error", body, n)
		}
	}
	for _, body := range []string{"", "{}", "[", "null", "404 page not found", `{"error":{"code":501}}`, `[{}]`} {
		if n, err := a.Busy([]byte(body)); err == nil {
			t.Errorf("Busy(%q) = %d without an error", body, n)
		}
	}
}

func relaxSuite(t *testing.T, s subject, a engine.Adapter) {
	if got := a.Relax(at()); s.gpuRelax != (len(got) == 0) {
		t.Errorf("a CPU replica relaxes %v", got)
	}
	relaxations := a.Relax(at("0"))
	if len(relaxations) == 0 {
		t.Error("CUDA works in no full sandbox, and nothing is relaxed")
	}
	for _, r := range relaxations {
		if !slices.Contains(relax.Names(), r.Name) || r.Why == "" {
			t.Errorf("relaxation %q without a reason: %q", r.Name, r.Why)
		}
	}
}
