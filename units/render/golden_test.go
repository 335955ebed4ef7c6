package render_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
	"github.com/pool-managerd/pool-managerd/units/render"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// chatTemplate holds everything that a unit file, a command line or PID 1 could take for its own.
const chatTemplate = "{% if x %}$HOME ${PATH} %h 100%\n\t\"quoted\" 'single' \\back\\ ;{% endif %}"

// goldenCases are the units that the golden files hold: the unit file and the properties as sent.
var goldenCases = []struct {
	name  string
	input render.Input
}{
	{"llamacpp_cpu_252", input(systemd252)},
	{"llamacpp_cpu_257", input(systemd257)},
	{"llamacpp_cpu_262", input(systemd262)},
	{"llamacpp_one_gpu", input(gpus([]string{"0"}), with(func(p *pool.Pool) { p.Ctx, p.Slots = 8192, 4 }))},
	{"llamacpp_two_gpus_tensor_split", input(gpus([]string{"0", "1"}), with(func(p *pool.Pool) { p.TensorSplit = []float64{0.6, 0.4} }))},
	{"llamacpp_two_replicas_r0", input(gpus([]string{"0"}, []string{"1"}))},
	{"llamacpp_two_replicas_r1", input(gpus([]string{"0"}, []string{"1"}), replicaNumber(1))},
	{"llamacpp_mig_and_memory", input(gpus([]string{"MIG-5a7d"}), mask(render.Device{Visible: "MIG-5a7d1c9e-0000-0000-0000-000000000000",
		Nodes: []string{"/dev/nvidia3", "/dev/nvidia-caps/nvidia-cap30", "/dev/nvidia-caps/nvidia-cap31"}}), need(3<<30, 9<<30))},
	{"llamacpp_mig_and_memory_252", input(systemd252, gpus([]string{"MIG-5a7d"}), mask(render.Device{Visible: "MIG-5a7d1c9e-0000-0000-0000-000000000000",
		Nodes: []string{"/dev/nvidia3", "/dev/nvidia-caps/nvidia-cap30", "/dev/nvidia-caps/nvidia-cap31"}}), need(3<<30, 9<<30))},
	{"llamacpp_cpu_and_memory", input(need(5 << 30))},
	{"llamacpp_all_limits", input(with(func(p *pool.Pool) {
		p.Limits = pool.Limits{MemoryMaxBytes: 24 << 30, MemoryHighBytes: 20 << 30, CPUQuotaPercent: 250, CPUs: "0-3,8",
			CPUWeight: 200, IOWeight: 50, TasksMax: 512}
	}))},
	{"llamacpp_all_relaxations", input(with(func(p *pool.Pool) { p.Sandbox.Allow = relax.Names() }))},
	{"llamacpp_all_process_limits", input(with(func(p *pool.Pool) {
		p.Process = pool.Process{MemlockBytes: 8 << 30, OpenFiles: 4096, Nice: -5, NUMAPolicy: pool.NUMABind,
			NUMANodes: "0-1,3"}
	}))},
	{"llamacpp_writable", input(with(func(p *pool.Pool) { p.Writable = []string{"/srv/slots", "/data/a/cache", "/home/ann/log"} }))},
	{"llamacpp_files", input(args("--jinja", "--chat-template-file", "/srv/chat.jinja", "--mmproj", "/data/v/mmproj.gguf"),
		with(func(p *pool.Pool) { p.Files = []string{"/home/ann/schemas", "/etc/pool-managerd/a.gbnf"} }),
		shows("/srv/chat.jinja", "/data/v/mmproj.gguf", "/home/ann/schemas", "/etc/pool-managerd/a.gbnf"))},
	{"llamacpp_api_key_file", input(keyFile)},
	{"llamacpp_api_key_file_252", input(systemd252, alone, keyFile)},
	{"llamacpp_env_file", input(gpus([]string{"0"}), envFiles)},
	{"vllm_api_key_file", input(gpus([]string{"0"}), kind(engine.VLLM, "/opt/vllm/bin/vllm", "/srv/models/llama3"), keyFile)},
	{"llamacpp_model_in_home", input(modelAt("/home/ann/models/a-50%.gguf"))},
	{"container_252", input(systemd252, contained)},
	{"container_257", input(systemd257, contained, keyFile)},
	{"container_262_without_network", input(systemd262, contained, alone)},
	{"container_engine_in_home", input(contained, modelAt("/home/ann/models/a.gguf"), envFiles, func(in *render.Input) {
		in.Prepared.Binary, in.Prepared.Programs = "/home/app/llama-server", []string{"/home/app/llama-server"}
	})},
	{"container_model_beside_engine", input(contained, modelAt("/app/models/a.gguf"))},
	{"container_one_gpu", input(contained, gpus([]string{"0"}), withDriver)},
	{"podman_257", input(systemd257, byPodman)},
	{"podman_252_two_gpus", input(systemd252, byPodman, gpus([]string{"0", "1"}), need(3<<30, 9<<30),
		kind(engine.VLLM, "/opt/vllm/bin/vllm", "/srv/models/llama3"), byPodman, withDriver)},
	{"podman_what_a_pool_brings", input(systemd262, byPodman, modelAt("/home/ann/a,b.gguf"), with(func(p *pool.Pool) {
		p.Env, p.Writable = map[string]string{"PROMPT": chatTemplate}, []string{"/srv/slots"}
		p.Sandbox.Allow = relax.Names()
	}))},
	{"docker_257", input(systemd257, byDocker, alone)},
	{"docker_252_two_gpus", input(systemd252, byDocker, gpus([]string{"0", "1"}), need(3<<30, 9<<30),
		kind(engine.VLLM, "/opt/vllm/bin/vllm", "/srv/models/llama3"), byDocker, withDriver)},
	{"docker_what_a_pool_brings", input(systemd262, byDocker, modelAt("/home/ann/a,b.gguf"), with(func(p *pool.Pool) {
		p.Env, p.Writable = map[string]string{"PROMPT": chatTemplate}, []string{"/srv/slots"}
		p.Process = pool.Process{MemlockBytes: 8 << 30, OpenFiles: 4096}
		p.Sandbox.Allow = relax.Names()
	}))},
	{"llamacpp_binary_in_home", input(func(in *render.Input) {
		in.Prepared.Binary = "/home/ann/llama.cpp/build/bin/llama-server"
		in.Prepared.ReadOnly = []string{"/home/ann/llama.cpp/build/bin"}
	})},
	{"llamacpp_sharded_model", input(modelAt("/data/big-00001-of-00003.gguf", "/data/big-00001-of-00003.gguf",
		"/data/big-00002-of-00003.gguf", "/data/big-00003-of-00003.gguf"))},
	{"llamacpp_chat_template", input(args("--jinja", "--chat-template", chatTemplate, "", ";"),
		with(func(p *pool.Pool) { p.Env = map[string]string{"PROMPT": chatTemplate} }))},
	{"llamacpp_chat_template_252", input(systemd252, args("--jinja", "--chat-template", chatTemplate, "", ";"))},
	{"vllm_two_gpus", input(gpus([]string{"0", "1"}), kind(engine.VLLM, "/opt/vllm/bin/vllm", "/srv/models/llama3"),
		with(func(p *pool.Pool) { p.Ctx, p.Slots = 8192, 64 }))},
	{"sglang_two_gpus", input(gpus([]string{"0", "1"}), kind(engine.SGLang, "/opt/sglang/bin/sglang", "/srv/models/llama3"),
		with(func(p *pool.Pool) { p.Ctx, p.Slots = 8192, 64 }))},
	{"trtllm_two_gpus", input(gpus([]string{"0", "1"}), kind(engine.TRTLLM, "/opt/trtllm/bin/trtllm-serve", "/srv/models/llama3"),
		with(func(p *pool.Pool) { p.Ctx, p.Slots = 8192, 64 }))},
	{"vllm_without_uuids", input(gpus([]string{"1", "0"}), kind(engine.VLLM, "/opt/vllm/bin/vllm", "/srv/models/llama3"),
		func(in *render.Input) { in.Prepared.Version, in.Mask[0].Index = "0.20.1", 1 })},
	{"tgi_one_gpu", input(gpus([]string{"0"}), kind(engine.TGI, "/usr/local/bin/text-generation-launcher", "/srv/models/llama3"),
		with(func(p *pool.Pool) { p.Ctx, p.Slots = 8192, 64 }))},
	{"triton_one_gpu", input(gpus([]string{"0"}), kind(engine.Triton, "/opt/tritonserver/bin/tritonserver", "/srv/models/repository"))},
	{"llamacpp_survives_soft_reboot", input(systemd262, func(in *render.Input) { in.Host.SoftReboot = true })},
	{"llamacpp_without_network_252", input(systemd252, alone)},
	{"llamacpp_without_network_262", input(systemd262, alone, func(in *render.Input) { in.Host.SoftReboot = true })},
	{"vllm_without_network", input(gpus([]string{"0"}), kind(engine.VLLM, "/opt/vllm/bin/vllm", "/srv/models/llama3"), alone)},
	{"command_cpu", input(kind(engine.Program, "/usr/local/bin/stub", ""),
		args("--listen", "{host}:{port}", `{"slots": {slots}}`),
		with(func(p *pool.Pool) {
			p.Slots, p.Health.Path, p.Env = 2, "/ready", map[string]string{"PORT": "9", "LANG": "C"}
		}))},
}

func TestRenderGolden(t *testing.T) {
	for _, c := range goldenCases {
		t.Run(c.name, func(t *testing.T) {
			unit, err := render.Render(c.input)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, c.name+".service", unit.File())
			golden(t, c.name+".properties", dump(t, unit))
		})
	}
}

// contained has the engine in an image.
func contained(in *render.Input) {
	in.Pool.Provisioning = pool.Provisioning{Mode: pool.ModeContainer, Image: "registry.example/llama:1"}
	const hex = "00112233445566778899aabbccddeeff00112233"
	in.Prepared = pool.Prepared{Binary: "/app/llama-server", Version: "0.7.0", Programs: []string{"/app/llama-server"},
		Env: map[string]string{"PATH": "/app:/usr/bin", "LLAMA_ARG_THREADS": "4"},
		Image: &pool.Image{Digest: "sha256:" + hex + "445566778899aabbccddeeff",
			Root: "/var/cache/pool-managerd/models/image--registry.example--llama--0123456789ab/snapshots/" + hex +
				"/rootfs"}}
}

// withDriver gives that image the GPU driver's files.
func withDriver(in *render.Input) {
	in.Prepared.Image.Driver = []pool.Mount{{Host: "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.14",
		Inside: "/usr/lib64/libcuda.so.1"}}
}

// byPodman has podman run that image.
func byPodman(in *render.Input) {
	contained(in)
	in.Pool.Provisioning.Runtime, in.Prepared.Image.Podman = pool.RuntimePodman, "/usr/bin/podman"
}

// byDocker has docker run that image.
func byDocker(in *render.Input) {
	contained(in)
	in.Pool.Provisioning.Runtime, in.Prepared.Image.Docker = pool.RuntimeDocker, "/usr/bin/docker"
}

// alone asks for no network, on a host that can forward the port.
func alone(in *render.Input) {
	in.Pool.Sandbox.Network, in.Host.Forwarder = pool.NetworkNone, "/usr/lib/systemd/systemd-socket-proxyd"
}

// dump prints the properties as sent, one a line, and the live limits.
func dump(t *testing.T, unit render.Unit) string {
	t.Helper()
	var b strings.Builder
	for _, p := range unit.Properties() {
		fmt.Fprintf(&b, "%s %T %s\n", p.Name, p.Value, value(t, p.Value))
	}
	if unit.Port != nil {
		for _, of := range []render.Unit{unit.Port.Socket, unit.Port.Service} {
			fmt.Fprintf(&b, "\n%s:\n", of.Name)
			for _, p := range of.Properties() {
				fmt.Fprintf(&b, "%s %T %s\n", p.Name, p.Value, value(t, p.Value))
			}
		}
	}
	b.WriteString("\nSetUnitProperties:\n")
	for _, p := range unit.LimitProperties() {
		fmt.Fprintf(&b, "%s %T %s\n", p.Name, p.Value, value(t, p.Value))
	}
	return b.String()
}

func value(t *testing.T, v any) string {
	t.Helper()
	if fields, ok := v.([][]byte); ok {
		texts := make([]string, len(fields))
		for i, f := range fields {
			texts[i] = string(f)
		}
		v = texts
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (run with -update to write it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); if that is meant, run with -update:\n%s", name, diff)
	}
}
