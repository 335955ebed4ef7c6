package engine_test

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// version is an engine of that version on a GPU.
func version(text string) engine.Instance {
	instance := at("0")
	instance.Version = text
	return instance
}

func deadline(d time.Duration) func(*pool.Pool) {
	return func(p *pool.Pool) { p.Drain.Deadline = d }
}

// TestStopTimeout: an engine that finishes its requests after SIGTERM has the drain's deadline for
// it, and time to clean up.
func TestStopTimeout(t *testing.T) {
	for _, c := range []struct {
		kind  string
		args  []string
		least time.Duration
	}{
		{engine.VLLM, nil, 10*time.Minute + 10*time.Second},
		{engine.VLLM, []string{"--shutdown-timeout", "1200"}, 20*time.Minute + 10*time.Second},
		{engine.SGLang, nil, 10*time.Minute + 10*time.Second},
		{engine.TRTLLM, nil, 10*time.Minute + 10*time.Second},
	} {
		a, _ := engine.For(c.kind)
		p := wanted(c.kind, c.args...)
		p.Drain.Deadline = 10 * time.Minute
		if got := a.StopTimeout(p); got < c.least || got > c.least+time.Minute {
			t.Errorf("%s %v: %v, want a little more than %v", c.kind, c.args, got, c.least)
		}
	}
}

// TestServed: --api-prefix moves each path that llama-server is asked, and no flag moves those of
// the others.
func TestServed(t *testing.T) {
	paths := func(a engine.Adapter) []string {
		return []string{a.HealthPath(), a.SlotsPath(), a.BusyPath(), a.QueuePath(), a.GeneratePath(), a.ProgressPath()}
	}
	for _, kind := range engine.Kinds() {
		own, _ := engine.For(kind)
		for _, p := range []pool.Pool{
			wanted(kind, "--api-prefix", "/x/y"),
			{Engine: kind, Env: map[string]string{"LLAMA_ARG_API_PREFIX": "/x/y"}},
		} {
			got := engine.Served(own, p)
			if below := engine.Below(got); (below == "/x/y") != (kind == engine.LlamaCpp) || engine.Below(own) != "" {
				t.Errorf("%s: below %q", kind, below)
			}
			for i, path := range paths(own) {
				if path != "" && kind == engine.LlamaCpp {
					path = "/x/y" + path
				}
				if paths(got)[i] != path {
					t.Errorf("%s: %q, want %q", kind, paths(got)[i], path)
				}
			}
			if refused := own.Check(p); kind == engine.LlamaCpp && p.Model != "" && len(refused) > 0 {
				t.Error(refused)
			}
		}
		if got := engine.Served(own, wanted(kind)); !reflect.DeepEqual(paths(got), paths(own)) {
			t.Errorf("%s: %q without a prefix", kind, paths(got))
		}
	}
}

// TestVisibleNumbers: vLLM before 0.24 gets numbers, in the order of the bus, and no partition.
func TestVisibleNumbers(t *testing.T) {
	for _, c := range []struct {
		name, version string
		devices       []string
		indices       []int
		want          string // joined; "": the UUIDs
		refused       string
	}{
		{"a_version_that_reads_uuids", "0.24.0", []string{"GPU-a", "GPU-b"}, []int{2, 1}, "", ""},
		{"an_unknown_version", "", []string{"GPU-a"}, []int{2}, "", ""},
		{"one_gpu_is_the_first", "0.23.1", []string{"GPU-a"}, []int{5}, "0", ""},
		{"two_gpus_in_the_order_of_the_bus", "0.9.2", []string{"GPU-a", "GPU-b"}, []int{5, 7}, "0,1", ""},
		{"three_in_another_order", "0.20.1", []string{"GPU-a", "GPU-b", "GPU-c"}, []int{7, 2, 5}, "2,0,1", ""},
		{"a_partition", "0.20.1", []string{"MIG-a"}, []int{0}, "", "cannot use the partition MIG-a"},
		{"a_partition_of_a_newer_version", "1.0.0", []string{"MIG-a"}, []int{0}, "", ""},
		{"the_cpu", "0.20.1", nil, nil, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := engine.For(engine.VLLM)
			instance := at(c.devices...)
			instance.Version, instance.Indices = c.version, c.indices
			got := a.Command(wanted(engine.VLLM), instance)
			if strings.Join(got.Visible, ",") != c.want || (got.Refused == nil) != (c.refused == "") {
				t.Fatalf("visible %q, refused %+v", got.Visible, got.Refused)
			}
			if got.Refused != nil && (!strings.Contains(got.Refused.Message, c.refused) ||
				!strings.Contains(got.Refused.Hint, "0.24")) {
				t.Errorf("%+v", got.Refused)
			}
		})
	}
}

// TestCommandLine says what each key of a pool file becomes on the command line.
func TestCommandLine(t *testing.T) {
	cases := []struct {
		name string
		kind string
		at   engine.Instance
		pool func(p *pool.Pool)
		want string   // a part of the command line
		not  []string // no part of it
	}{
		{"llamacpp/ctx_is_for_one_request_and_shared_by_slots", engine.LlamaCpp, at(),
			func(p *pool.Pool) { p.Ctx, p.Slots = 8192, 4 }, "-c 32768 -np 4", nil},
		{"llamacpp/ctx_without_slots", engine.LlamaCpp, at(), func(p *pool.Pool) { p.Ctx = 8192 }, "-c 8192", []string{"-np"}},
		{"llamacpp/slots_without_ctx", engine.LlamaCpp, at(), func(p *pool.Pool) { p.Slots = 2 }, "-np 2", []string{"-c "}},
		{"llamacpp/cpu_offloads_nothing", engine.LlamaCpp, at(), nil, "--metrics --slots", []string{"-ngl", "-ts"}},
		{"llamacpp/gpu_offloads_all", engine.LlamaCpp, at("0"), nil, "-ngl 999", nil},
		{"llamacpp/operator_offloads_less", engine.LlamaCpp, at("0"), func(p *pool.Pool) { p.Args = []string{"-ngl", "20"} },
			"--slots -ngl 20", []string{"999"}},
		{"llamacpp/operator_offloads_less_by_a_variable", engine.LlamaCpp, at("0"),
			func(p *pool.Pool) { p.Env = map[string]string{"LLAMA_ARG_N_GPU_LAYERS": "20"} }, "--metrics --slots", []string{"-ngl"}},
		{"llamacpp/operator_splits_by_rows_with_a_main_gpu", engine.LlamaCpp, at("0", "1"), func(p *pool.Pool) {
			p.TensorSplit, p.Args = []float64{0.6, 0.4}, []string{"-sm", "row", "-mg", "1"}
		}, "-ngl 999 -ts 0.6,0.4 --metrics --slots -sm row -mg 1", nil},
		{"llamacpp/tensor_split", engine.LlamaCpp, at("0", "1"), func(p *pool.Pool) { p.TensorSplit = []float64{0.6, 2} }, "-ts 0.6,2", nil},
		{"vllm/gpus_are_split_evenly", engine.VLLM, at("0", "1"), nil, "--tensor-parallel-size 2", nil},
		{"vllm/one_gpu_is_not_split", engine.VLLM, at("0"), nil, "serve /srv/models/a", []string{"parallel"}},
		{"vllm/operator_splits", engine.VLLM, at("0", "1"), func(p *pool.Pool) { p.Args = []string{"--pipeline_parallel_size=2"} },
			"--pipeline_parallel_size=2", []string{"--tensor"}},
		{"vllm/model_is_served_under_the_pool_id", engine.VLLM, at("0"), nil, "--served-model-name demo", nil},
		{"vllm/operator_names_the_model", engine.VLLM, at("0"), func(p *pool.Pool) { p.Args = []string{"--served-model-name", "x"} },
			"--served-model-name x", []string{"demo"}},
		{"sglang/gpus_are_split_evenly", engine.SGLang, at("0", "1"), nil,
			"serve --model-path /srv/models/a --host 127.0.0.1 --port 21007 --served-model-name demo --tp-size 2 --enable-metrics", nil},
		{"sglang/one_gpu_is_not_split", engine.SGLang, at("0"), func(p *pool.Pool) { p.Ctx, p.Slots = 4096, 7 },
			"--context-length 4096 --max-running-requests 7 --enable-metrics", []string{"--tp"}},
		{"sglang/operator_splits", engine.SGLang, at("0", "1"), func(p *pool.Pool) { p.Args = []string{"--pp-size", "2"} }, "--pp-size 2", []string{"--tp"}},
		{"sglang/as_a_module_of_a_python", engine.SGLang, at("0"),
			func(p *pool.Pool) { p.Provisioning.Binary = "/opt/sglang/bin/python3.12" }, "-m sglang.launch_server --model-path /srv/models/a", []string{"serve "}},
		{"vllm/as_a_module_of_a_python", engine.VLLM, at("0"), func(p *pool.Pool) { p.Provisioning.Binary = "/opt/vllm/bin/python3" },
			"-m vllm.entrypoints.cli.main serve /srv/models/a --host 127.0.0.1", nil},
		{"trtllm/gpus_are_split_evenly", engine.TRTLLM, at("0", "1"), func(p *pool.Pool) { p.Ctx, p.Slots = 4096, 7 },
			"/srv/models/a --host 127.0.0.1 --port 21007 --max_seq_len 4096 --max_batch_size 7 --tp_size 2", nil},
		{"trtllm/operator_splits", engine.TRTLLM, at("0", "1"), func(p *pool.Pool) { p.Args = []string{"--pp_size=2"} }, "--pp_size=2", []string{"--tp"}},
		{"vllm/a_version_that_drains_gets_the_deadline", engine.VLLM, version("0.18.0"), deadline(90 * time.Second), "--shutdown-timeout 90", nil},
		{"vllm/an_older_version_does_not", engine.VLLM, version("0.17.1"), deadline(90 * time.Second), "serve", []string{"shutdown"}},
		{"vllm/an_unknown_version_does_not", engine.VLLM, at("0"), deadline(90 * time.Second), "serve", []string{"shutdown"}},
		{"vllm/operator_sets_the_deadline", engine.VLLM, version("0.32.0"),
			func(p *pool.Pool) { p.Drain.Deadline, p.Args = time.Minute, []string{"--shutdown_timeout=5"} }, "--shutdown_timeout=5", []string{"--shutdown-timeout"}},
		{"tgi/gpus_are_split_evenly", engine.TGI, at("0", "1"), nil, "--num-shard 2", nil},
		{"tgi/operator_splits", engine.TGI, at("0", "1"), func(p *pool.Pool) { p.Args = []string{"--sharded", "false"} }, "--sharded false", []string{"--num-shard"}},
		{"tgi/ctx_and_slots", engine.TGI, at("0"), func(p *pool.Pool) { p.Ctx, p.Slots = 4096, 7 },
			"--max-total-tokens 4096 --max-concurrent-requests 7", nil},
		{"triton/grpc_is_off", engine.Triton, at("0"), nil, "--allow-grpc=false --metrics-port=26007", nil},
		{"triton/operator_wants_grpc_on_the_loopback", engine.Triton, at("0"), func(p *pool.Pool) { p.Args = []string{"--grpc-port=9"} },
			"--grpc-address=127.0.0.1", []string{"--allow-grpc"}},
		{"command/placeholders", engine.Program, at(), func(p *pool.Pool) {
			p.Ctx, p.Slots, p.Args = 5, 6, []string{"{host}:{port}", "{model}", "c{ctx}s{slots}", `{"a":{}}`, "{other}"}
		}, `127.0.0.1:21007 /srv/models/a c5s6 {"a":{}} {other}`, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := wanted(c.kind)
			if c.pool != nil {
				c.pool(&p)
			}
			a, _ := engine.For(c.kind)
			line := strings.Join(a.Command(p, c.at).Args, " ")
			if !strings.Contains(line, c.want) {
				t.Errorf("command line %q, want %q in it", line, c.want)
			}
			for _, not := range c.not {
				if strings.Contains(line, not) {
					t.Errorf("command line %q holds %q", line, not)
				}
			}
		})
	}
}

func TestCheckRefusesKeysWithoutMeaning(t *testing.T) {
	cases := []struct {
		name string
		pool pool.Pool
		want string
	}{
		{"llamacpp_without_model", pool.Pool{Engine: engine.LlamaCpp}, "needs a model"},
		{"tensor_split_of_vllm", pool.Pool{Engine: engine.VLLM, Model: "file:/m", TensorSplit: []float64{1}}, "tensor_split has no meaning"},
		{"tensor_split_of_command", pool.Pool{Engine: engine.Program, TensorSplit: []float64{1}}, "tensor_split has no meaning"},
		{"ctx_of_triton", pool.Pool{Engine: engine.Triton, Model: "file:/m", Ctx: 1}, "ctx has no meaning"},
		{"tensor_split_too_short", pool.Pool{Engine: engine.LlamaCpp, Model: "file:/m", TensorSplit: []float64{1},
			Devices: [][]string{{"0"}, {"1", "2"}}}, "1 shares, and replica r1 has 2 devices"},
		{"main_gpu_behind_the_mask", pool.Pool{Engine: engine.LlamaCpp, Model: "file:/m", Args: []string{"-mg", "3"},
			Devices: [][]string{{"3", "4"}}}, "args[0] is -mg 3, and replica r0 has 2 devices"},
		{"device_by_variable", pool.Pool{Engine: engine.LlamaCpp, Model: "file:/m", Env: map[string]string{"LLAMA_ARG_DEVICE": "none"}}, "env holds LLAMA_ARG_DEVICE"},
		{"two_engines_on_one_port", llamaWith("--reuse-port"), "two engines listen on one port"},
		{"the_same_by_variable", pool.Pool{Engine: engine.LlamaCpp, Model: "file:/m", Env: map[string]string{"LLAMA_ARG_REUSE_PORT": "1"}},
			"env holds LLAMA_ARG_REUSE_PORT, which lets two engines"},
		{"router_mode", llamaWith("--models-preset=/m.ini"), "router mode, which is not supported"},
		{"router_mode_by_variable", pool.Pool{Engine: engine.LlamaCpp, Model: "file:/m", Env: map[string]string{"LLAMA_ARG_MODELS_DIR": "/m"}}, "router mode"},
		{"prefix_without_a_slash", llamaWith("--api-prefix", "x"), `--api-prefix "x" is no path`},
		{"prefix_that_ends_with_one", llamaWith("--api-prefix", "/x/"), `--api-prefix "/x/" is no path`},
		{"prefix_by_variable", pool.Pool{Engine: engine.LlamaCpp, Model: "file:/m", Env: map[string]string{"LLAMA_ARG_API_PREFIX": "/a b"}}, `"/a b" is no path`},
		{"tls_by_variable", pool.Pool{Engine: engine.LlamaCpp, Model: "file:/m", Env: map[string]string{"LLAMA_ARG_SSL_KEY_FILE": "/k"}}, "env holds LLAMA_ARG_SSL_KEY_FILE"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, _ := engine.For(c.pool.Engine)
			if refused := a.Check(c.pool); len(refused) != 1 || !strings.Contains(refused[0].Message, c.want) ||
				refused[0].Hint == "" {
				t.Errorf("Check = %v, want %q alone", refused, c.want)
			}
		})
	}
	command, _ := engine.For(engine.Program)
	if refused := command.Check(pool.Pool{Engine: engine.Program}); len(refused) > 0 {
		t.Errorf("a command without a model: %v", refused)
	}
}

func llamaWith(args ...string) pool.Pool {
	return pool.Pool{Engine: engine.LlamaCpp, Model: "file:/m", Args: args}
}

// TestEveryBadFlagIsNamed: not only the first.
func TestEveryBadFlagIsNamed(t *testing.T) {
	a, _ := engine.For(engine.LlamaCpp)
	refused := a.Check(llamaWith("-c", "4096", "--host=0.0.0.0", "--reuse-port"))
	var keys []string
	for _, r := range refused {
		keys = append(keys, r.Key)
	}
	if got := strings.Join(keys, " "); got != "args[0] args[2] args[3]" {
		t.Errorf("refused: %s", got)
	}
}

func TestAgentTools(t *testing.T) {
	with := func(name, value string) pool.Pool {
		return pool.Pool{Engine: engine.LlamaCpp, Env: map[string]string{name: value}}
	}
	cases := []struct {
		name string
		pool pool.Pool
		want string
	}{
		{"none", llamaWith("--jinja"), ""},
		{"tools", llamaWith("--tools", "all"), "--tools"},
		{"each_once", llamaWith("--tools=all", "-ag", "--tools", "x"), "--tools -ag"},
		{"servers", llamaWith("--mcp-servers-json", "{}", "--mcp-servers-config", "/x"), "--mcp-servers-config --mcp-servers-json"},
		{"by_variable", with("LLAMA_ARG_AGENT", "1"), "LLAMA_ARG_AGENT"},
		{"a_variable_that_is_off", with("LLAMA_ARG_AGENT", "0"), ""},
		{"of_vllm", pool.Pool{Engine: engine.VLLM, Args: []string{"--tool_serv=demo", "--tool-call-parser", "hermes"}}, "--tool-server"},
		{"of_sglang", pool.Pool{Engine: engine.SGLang, Args: []string{"--tool-server", "demo"}}, "--tool-server"},
		{"of_another_engine", pool.Pool{Engine: engine.Program, Args: []string{"--tools"}}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(engine.AgentTools(c.pool), " "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestForUnknownKind(t *testing.T) {
	if a, ok := engine.For("ollama"); ok || a != nil {
		t.Errorf("For = %v, %t", a, ok)
	}
}

// TestSidePorts: two replicas of one host never get one another's second ports.
func TestSidePorts(t *testing.T) {
	a, _ := engine.For(engine.TGI)
	seen := map[string]int{}
	for port := 21000; port <= 21999; port++ {
		instance := at()
		instance.Port = port
		env := a.Command(wanted(engine.TGI), instance).Env
		for _, key := range []string{"PROMETHEUS_PORT", "MASTER_PORT"} {
			if other, taken := seen[env[key]]; taken {
				t.Fatalf("port %s is a side port of %d and of %d", env[key], other, port)
			}
			seen[env[key]] = port
		}
	}
	instance := at()
	instance.Port = 65535
	if got := a.Command(wanted(engine.TGI), instance).Env["MASTER_PORT"]; got != "55535" {
		t.Errorf("side port of 65535 is %s", got)
	}
}

func TestAnswers(t *testing.T) {
	cases := []struct {
		name, kind, body string
		busy             bool // else slots
		want             int
	}{
		{"llamacpp/slots", engine.LlamaCpp, `{"total_slots":4,"model_path":"/m","default_generation_settings":{"n_ctx":512}}`, false, 4},
		{"llamacpp/busy", engine.LlamaCpp, `[{"id":0,"is_processing":true},{"id":1,"is_processing":false},{"id":2,"is_processing":true}]`, true, 2},
		{"llamacpp/idle", engine.LlamaCpp, `[{"id":0,"is_processing":false}]`, true, 0},
		{"tgi/slots", engine.TGI, `{"model_id":"/m","max_concurrent_requests":128,"version":"3.3.4"}`, false, 128},
		{"tgi/busy", engine.TGI, "# TYPE tgi_queue_size gauge\ntgi_queue_size 3\n\n# TYPE tgi_batch_current_size gauge\ntgi_batch_current_size 2\n", true, 5},
		{"vllm/busy_of_all_engines", engine.VLLM, "# HELP vllm:num_requests_running Number of requests\n" +
			"vllm:num_requests_running{engine=\"0\",model_name=\"a{b}c 9\"} 2.0\nvllm:num_requests_running{engine=\"1\",model_name=\"x\"} 1.0 1700000000\n" +
			"vllm:num_requests_waiting{engine=\"0\",model_name=\"x\"} 4.0\nvllm:num_requests_waiting_by_reason{engine=\"0\"} 70\n", true, 7},
		{"vllm/idle", engine.VLLM, "vllm:num_requests_running 0\n", true, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, _ := engine.For(c.kind)
			read := a.Slots
			if c.busy {
				read = a.Busy
			}
			if got, err := read([]byte(c.body)); err != nil || got != c.want {
				t.Errorf("= %d, %v; want %d", got, err, c.want)
			}
		})
	}
	for _, body := range []string{"vllm:num_requests_running NaN\n", "vllm:num_requests_running -1\n",
		"vllm:num_requests_running 1e300\n"} {
		a, _ := engine.For(engine.VLLM)
		if n, err := a.Busy([]byte(body)); err == nil {
			t.Errorf("Busy(%q) = %d without an error", body, n)
		}
	}
}

// FuzzAnswers: whatever an engine answers, a count comes without an error or an error without a
// count.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"total_slots":4}`))
	f.Add([]byte(`[{"is_processing":true}]`))
	f.Add([]byte("vllm:num_requests_running{a=\"}\"} 2\n"))
	f.Add([]byte("tgi_queue_size{ 3"))
	files, err := filepath.Glob(filepath.Join("testdata", "*", "*.*"))
	if err != nil || len(files) < 10 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(mutate.Many(func(t *testing.T, body []byte) {
		for _, kind := range engine.Kinds() {
			a, _ := engine.For(kind)
			believed(t, a, body)
		}
	}))
}

// TestEnvironmentStaysOnTheLoopback: no engine of several processes looks for a network.
func TestEnvironmentStaysOnTheLoopback(t *testing.T) {
	for _, kind := range []string{engine.VLLM, engine.SGLang, engine.TRTLLM, engine.TGI} {
		a, _ := engine.For(kind)
		env := a.Command(wanted(kind), at("0", "1")).Env
		for key, want := range map[string]string{"HF_HUB_OFFLINE": "1", "NCCL_SOCKET_IFNAME": "lo",
			"GLOO_SOCKET_IFNAME": "lo"} {
			if env[key] != want {
				t.Errorf("%s: %s is %q, want %q (has %v)", kind, key, env[key], want, slices.Sorted(maps.Keys(env)))
			}
		}
	}
}
