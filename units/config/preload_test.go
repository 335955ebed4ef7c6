package config_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// asked is what existing orchestrators send.
func asked(change ...func(*pool.Preload)) pool.Preload {
	p := pool.Preload{Binary: "/usr/bin/llama-server", Host: "127.0.0.1", Port: 9000, Model: "/models/x.gguf",
		Flags:   strings.Fields("--host 127.0.0.1 --port 9000 -m /models/x.gguf -ngl 99 -c 8192 -np 2"),
		Devices: []string{"0"}}
	for _, c := range change {
		c(&p)
	}
	return p
}

// TestPreload: a request becomes the pool that a file with the same keys would be.
func TestPreload(t *testing.T) {
	h := config.DefaultHost()
	h.Defaults.Ctx, h.Defaults.Slots, h.Defaults.Args = 1, 64, []string{"--jinja"}
	h.Defaults.Env = map[string]string{"A": "b"}
	h.Defaults.Limits.MemoryMaxBytes = 1 << 30
	got, err := h.Preload("llama", asked(func(p *pool.Preload) { p.Version = "b6123" }))
	if err != nil {
		t.Fatal(err)
	}
	want, problems := config.ParsePool("preload", []byte(`id = "llama"
engine = "llamacpp"
model = "file:/models/x.gguf"
devices = [0]
ctx = 4096
slots = 2
port = 9000
args = ["-ngl", "99"]
[provisioning]
binary = "/usr/bin/llama-server"
`), h)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want.Provisioning.Version = "b6123"
	if !reflect.DeepEqual(got, *want) {
		t.Errorf("%+v\nwant %+v", got, *want)
	}
	if !got.Preloaded() || want.Limits.MemoryMaxBytes != 1<<30 {
		t.Errorf("source %q, defaults %+v", got.Source, got.Limits)
	}
	if h.Defaults.Env["A"] = "c"; got.Env["A"] != "b" {
		t.Error("the pool shares its environment with the defaults")
	}
}

func TestPreloadForms(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*pool.Preload)
		holds  func(pool.Pool) bool
	}{
		"port_of_the_flags":  {func(p *pool.Preload) { p.Port = 0 }, func(p pool.Pool) bool { return p.Port == 9000 }},
		"port_is_chosen":     {func(p *pool.Preload) { p.Port, p.Flags = 0, nil }, func(p pool.Pool) bool { return p.Port == 0 }},
		"model_of_the_flags": {func(p *pool.Preload) { p.Model = "" }, func(p pool.Pool) bool { return p.Model == "file:/models/x.gguf" }},
		"model_in_two_forms": {func(p *pool.Preload) { p.Model = "/models//x.gguf" }, func(p pool.Pool) bool { return p.Model == "file:/models/x.gguf" }},
		"localhost":          {func(p *pool.Preload) { p.Host = "localhost" }, func(p pool.Pool) bool { return p.Port == 9000 }},
		"no_devices":         {func(p *pool.Preload) { p.Devices = nil }, func(p pool.Pool) bool { return len(p.Devices) == 1 && len(p.Devices[0]) == 0 }},
		"uuids": {func(p *pool.Preload) { p.Devices = []string{"GPU-0123", "GPU-abcd"} },
			func(p pool.Pool) bool { return reflect.DeepEqual(p.Devices, [][]string{{"GPU-0123", "GPU-abcd"}}) }},
		"an_unknown_program": {func(p *pool.Preload) { p.Binary, p.Flags = "/opt/serve", []string{"--port", "9000", "x"} },
			func(p pool.Pool) bool { return p.Engine == engine.Program && len(p.Args) == 3 && p.Port == 9000 }},
		"another_engine": {func(p *pool.Preload) { p.Binary, p.Engine, p.Flags = "/opt/serve", engine.VLLM, nil },
			func(p pool.Pool) bool { return p.Engine == engine.VLLM }},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := config.DefaultHost().Preload("a", asked(c.change))
			if err != nil || !c.holds(got) {
				t.Errorf("%v, %+v", err, got)
			}
		})
	}
}

// TestPreloadThatIsInvalid: each message names the field of the request, and what to send instead.
func TestPreloadThatIsInvalid(t *testing.T) {
	flags := func(line string) func(*pool.Preload) {
		return func(p *pool.Preload) { p.Flags = strings.Fields(line) }
	}
	for name, c := range map[string]struct {
		change func(*pool.Preload)
		says   string
		hint   string
	}{
		"relative_binary":       {func(p *pool.Preload) { p.Binary = "llama-server" }, `binary_path is "llama-server"`, "absolute path"},
		"binary_is_a_directory": {func(p *pool.Preload) { p.Binary = "/usr/bin/" }, `binary_path is "/usr/bin/"`, "absolute path"},
		"unknown_engine":        {func(p *pool.Preload) { p.Engine = "ollama" }, `engine is "ollama"`, "llamacpp"},
		"other_host":            {func(p *pool.Preload) { p.Host = "0.0.0.0" }, `host is "0.0.0.0"`, "127.0.0.1"},
		"other_host_in_flags":   {flags("--host 10.0.0.1"), `flags give the host "10.0.0.1"`, "127.0.0.1"},
		"ipv6":                  {func(p *pool.Preload) { p.Host = "::1" }, `host is "::1"`, "127.0.0.1"},
		"two_ports":             {flags("--port 9001"), "port is 9000, and flags give 9001", "same port"},
		"port_of_the_system":    {func(p *pool.Preload) { p.Port, p.Flags = 80, nil }, "port is 80", "0"},
		"two_models":            {flags("-m /models/y.gguf"), `model_path is "/models/x.gguf", and flags give the model "/models/y.gguf"`, "same path"},
		"relative_model":        {func(p *pool.Preload) { p.Model, p.Flags = "x.gguf", nil }, `model_path is "x.gguf"`, "absolute path"},
		"no_model":              {func(p *pool.Preload) { p.Model, p.Flags = "", nil }, "model_path: engine", "Send model_path"},
		"unknown_device":        {func(p *pool.Preload) { p.Devices = []string{"cuda:0"} }, `device_mask has "cuda:0"`, "index"},
		"device_twice":          {func(p *pool.Preload) { p.Devices = []string{"0", "00"} }, `device_mask has "00" twice`, "once"},
		"partition_beside":      {func(p *pool.Preload) { p.Devices = []string{"MIG-0123", "0"} }, "MIG partition beside", "alone"},
		"flag_without_value":    {flags("-ngl 9 --port"), "flags[2] is --port without a value", "Correct"},
		"flag_of_tls":           {flags("--port 9000 --ssl-key-file /k"), "flags[2] is --ssl-key-file", "leave it out"},
		"flag_of_devices":       {flags("-ngl 9 -dev CUDA0"), "flags[2] is -dev", "devices"},
		"shares_do_not_fit":     {flags("-ts 1,1"), "tensor_split has 2 shares", ""},
		"nul_in_a_flag":         {func(p *pool.Preload) { p.Flags = []string{"-a", "b\x00"} }, "flags[1] holds a NUL", "flags"},
		"version_of_two_lines":  {func(p *pool.Preload) { p.Version = "a\nb" }, "engine_version", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.DefaultHost().Preload("a", asked(c.change))
			var f *registry.Failure
			if !errors.As(err, &f) || f.Code != registry.CodeInvalidParams || !strings.Contains(f.Message, c.says) ||
				!strings.Contains(f.Hint, c.hint) {
				t.Errorf("%v; want %q and hint %q, got hint %q", err, c.says, c.hint, hintOf(f))
			}
		})
	}
	if _, err := config.DefaultHost().Preload("A b", asked()); err == nil {
		t.Error("an id that is none")
	}
}

func hintOf(f *registry.Failure) string {
	if f == nil {
		return ""
	}
	return f.Hint
}

// TestPreloadPolicy: a preload needs two keys, and is held to all others.
func TestPreloadPolicy(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*config.Host)
		ask    func(*pool.Preload)
		says   string
		hint   string
	}{
		"allowed":          {nil, nil, "", ""},
		"not_allowed":      {func(h *config.Host) { h.Policy.AllowPreload = false }, nil, "takes no preloaded pools", "allow_preload = true"},
		"no_binary_named":  {func(h *config.Host) { h.Policy.AllowedBinaries = nil }, nil, "names no binaries", `allowed_binaries = ["/usr/bin/llama-server"]`},
		"another_binary":   {func(h *config.Host) { h.Policy.AllowedBinaries = []string{"/opt/"} }, nil, `"/usr/bin/llama-server" is not allowed`, "allowed_binaries"},
		"no_gpu":           {nil, func(p *pool.Preload) { p.Devices = nil }, "requires a GPU", "device_mask"},
		"another_source":   {func(h *config.Host) { h.Policy.AllowedModelSources = []string{"file:/srv/"} }, nil, "not from a source", "allowed_model_sources"},
		"tools":            {nil, func(p *pool.Preload) { p.Flags = []string{"--tools", "all"} }, "--tools", "Remove it from flags"},
		"devices_are_free": {func(h *config.Host) { h.RequireGPU = false }, func(p *pool.Preload) { p.Devices = nil }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := config.DefaultHost()
			h.Policy.AllowPreload, h.Policy.AllowedBinaries = true, []string{"/usr/bin/llama-server"}
			ask := asked()
			if c.change != nil {
				c.change(&h)
			}
			if c.ask != nil {
				c.ask(&ask)
			}
			p, err := h.Preload("a", ask)
			if err != nil {
				t.Fatal(err)
			}
			f := h.Refuse(p, config.Binaries{})
			switch {
			case c.says == "" && f == nil:
			case f == nil || f.Code != registry.CodePolicyDenied || !strings.Contains(f.Message, c.says) ||
				!strings.Contains(f.Hint, c.hint):
				t.Errorf("%v (%s), want %q (%q)", f, hintOf(f), c.says, c.hint)
			}
		})
	}
	h := config.DefaultHost()
	h.RequireGPU = false
	if f := h.Refuse(pool.Pool{ID: "a", Devices: [][]string{{}},
		Source: "/etc/pool-managerd/pools.d/a.toml"}, config.Binaries{}); f != nil {
		t.Errorf("a pool of a file is refused: %v", f)
	}
}
