package config

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

func TestRefuse(t *testing.T) {
	gpu := pool.Pool{Engine: "llamacpp", Model: "file:/srv/models/a.gguf", Devices: [][]string{{"0"}},
		Provisioning: pool.Provisioning{Binary: "/usr/bin/llama-server"}}
	cpu, half, named, modelless := gpu, gpu, gpu, gpu
	cpu.Devices = [][]string{{}}
	half.Devices = [][]string{{"0"}, {}}
	named.Provisioning.Binary = "llama-server"
	modelless.Model = ""
	relaxed, locked := gpu, gpu
	relaxed.Sandbox.Allow = []string{relax.Netlink, relax.JIT}
	locked.Process.MemlockBytes = 1 << 30
	external, writer := relaxed, gpu
	writer.Writable = []string{"/srv/slots"}
	external.Provisioning.Mode = pool.ModeExternal
	contained := gpu
	contained.Provisioning = pool.Provisioning{Mode: pool.ModeContainer, Image: "ghcr.io/org/llama:1@sha256:00"}
	images := func(list ...string) Host { return Host{Policy: Policy{AllowedImages: list}} }
	relaxations := func(list ...string) Host { return Host{Policy: Policy{AllowedRelaxations: list}} }
	docked, dockers := contained, images("ghcr.io")
	docked.Provisioning.Runtime, dockers.Policy.AllowDocker = pool.RuntimeDocker, true
	armed, tools := gpu, DefaultHost()
	armed.Args, tools.Policy.AllowAgentTools = []string{"--tools", "all", "--agent"}, true
	free, bare := DefaultHost(), DefaultHost()
	free.RequireGPU = false
	bare.Policy.AllowedBinaries = []string{}
	sources := func(list ...string) Host { return Host{Policy: Policy{AllowedModelSources: list}} }
	with := func(kind string, args ...string) pool.Pool {
		p := gpu
		p.Engine, p.Args = kind, args
		return p
	}
	variable := func(name, value string, args ...string) pool.Pool {
		p := with("llamacpp", args...)
		p.Env = map[string]string{name: value}
		return p
	}
	shown := func(file string, args ...string) pool.Pool {
		p := with("llamacpp", args...)
		p.Files = []string{file}
		return p
	}
	files := func(list ...string) pool.Pool { p := gpu; p.Files = list; return p }
	binaries := func(list ...string) Host { return Host{Policy: Policy{AllowedBinaries: list}} }

	for _, c := range []struct {
		name    string
		host    Host
		pool    pool.Pool
		message string // empty: not refused
	}{
		{"defaults/gpu_pool_runs", DefaultHost(), gpu, ""},
		{"images/none_by_default", DefaultHost(), contained, "the image ghcr.io/org/llama:1@sha256:00 is not allowed on this host"},
		{"images/repository", images("ghcr.io/org/llama"), contained, ""},
		{"images/organisation", images("ghcr.io/org/"), contained, ""},
		{"images/organisation_without_a_slash", images("ghcr.io/org"), contained, ""},
		{"images/host", images("quay.io", "ghcr.io"), contained, ""},
		{"images/tag", images("ghcr.io/org/llama:1"), contained, ""},
		{"images/beginning_of_a_name", images("ghcr.io/org/lla"), contained, "the image ghcr.io/org/llama:1@sha256:00 is not allowed on this host"},
		{"images/beginning_of_a_tag", images("ghcr.io/org/llama:"), contained, "the image ghcr.io/org/llama:1@sha256:00 is not allowed on this host"},
		{"images/port_of_the_same_host", images("ghcr"), contained, "the image ghcr.io/org/llama:1@sha256:00 is not allowed on this host"},
		{"images/binaries_are_of_the_host", Host{Policy: Policy{AllowedBinaries: []string{}, AllowedImages: []string{"ghcr.io"}}}, contained, ""},
		{"docker/refused_by_default", images("ghcr.io"), docked, `[provisioning] runtime is "docker", which this host does not allow: the unit could have docker do anything as root`},
		{"docker/where_the_host_allows_it", dockers, docked, ""},
		{"docker/a_pool_that_runs_no_image", DefaultHost(), func() pool.Pool { p := gpu; p.Provisioning.Runtime = pool.RuntimeDocker; return p }(), ""},
		{"require_gpu/no_devices_is_refused", DefaultHost(), cpu, "the pool has no devices, and this host requires a GPU for each pool"},
		{"require_gpu/one_replica_without_devices_is_refused", DefaultHost(), half, "the pool has no devices, and this host requires a GPU for each pool"},
		{"require_gpu/false_lets_it_run", free, cpu, ""},
		{"sources/scheme_covers_all_of_it", sources("file:"), gpu, ""},
		{"sources/folder_covers_what_is_in_it", sources("hf:", "file:/srv/models/"), gpu, ""},
		{"sources/folder_without_slash_too", sources("file:/srv/models"), gpu, ""},
		{"sources/the_model_itself", sources("file:/srv/models/a.gguf"), gpu, ""},
		{"sources/the_beginning_of_a_name_is_no_folder", sources("file:/srv/mod"), gpu, `the model "file:/srv/models/a.gguf" is not from a source that this host allows`},
		{"sources/an_empty_list_allows_none", sources([]string{}...), gpu, `the model "file:/srv/models/a.gguf" is not from a source that this host allows`},
		{"sources/no_model_is_from_nowhere", sources("hf:"), modelless, ""},
		{"weights/in_an_allowed_folder", sources("file:/srv/models/"), with("llamacpp", "--mmproj", "/srv/models/p.gguf", "--lora", "/srv/models/a.gguf"), ""},
		{"weights/any_where_the_host_names_no_source", free, with("llamacpp", "--mmproj", "/home/x/p.gguf"), ""},
		{"weights/projector", sources("file:/srv/models/"), with("llamacpp", "--mmproj", "/home/x/p.gguf"), `"/home/x/p.gguf" of args[1] (--mmproj) is not from a source that this host allows for models`},
		{"weights/dots_do_not_lead_out", sources("file:/srv/models/"), with("llamacpp", "-md", "/srv/models/../x.gguf"), `"/srv/x.gguf" of args[1] (-md) is not from a source that this host allows for models`},
		{"weights/a_relative_path_is_from_nowhere", sources("file:/srv/models/"), with("llamacpp", "--spec-draft-model", "x.gguf"), `"x.gguf" of args[1] (--spec-draft-model) is not from a source that this host allows for models`},
		{"weights/each_of_several_adapters", sources("file:/srv/models/"), with("llamacpp", "--lora", "/srv/models/a.gguf,/x/b.gguf", "--control-vector", "/x/c.gguf"), `"/x/b.gguf" of args[1] (--lora) is not from a source that this host allows for models (and 1 more)`},
		{"weights/by_a_variable", sources("file:/srv/models/"), variable("LLAMA_ARG_MMPROJ", "/x/p.gguf"), `"/x/p.gguf" of env.LLAMA_ARG_MMPROJ is not from a source that this host allows for models`},
		{"weights/a_template_is_none", sources("file:/srv/models/"), with("llamacpp", "--chat-template-file", "/etc/x.jinja", "--grammar-file", "/x/g"), ""},
		{"weights/of_the_key_files", sources("file:/srv/models/"), files("/etc/x.jinja", "/x/w.safetensors"), `"/x/w.safetensors" of files[1] is not from a source that this host allows for models`},
		{"weights/shown_and_named", sources("file:/srv/models/"), shown("/x/w", "--mmproj", "/x/w"), `"/x/w" of args[1] (--mmproj) is not from a source that this host allows for models`},
		{"weights/vllm_draft_model", sources("file:/srv/models/"), with("vllm", "--speculative-config", `{"model": "/x/draft"}`), `"/x/draft" of args[1] (--speculative-config) is not from a source that this host allows for models`},
		{"weights/vllm_adapter", sources("file:/srv/models/"), with("vllm", "--lora-modules", "a=/srv/models/a", "b=/x/b"), `"/x/b" of args[2] (--lora-modules) is not from a source that this host allows for models`},
		{"weights/vllm_tokenizer", sources("file:/srv/models/"), with("vllm", "--tokenizer=/x/t"), `"/x/t" of args[0] (--tokenizer) is not from a source that this host allows for models`},
		{"weights/sglang", sources("file:/srv/models/"), with("sglang", "--speculative-draft-model-path", "/x/d"), `"/x/d" of args[1] (--speculative-draft-model-path) is not from a source that this host allows for models`},
		{"remote/draft_model_of_a_hub", free, with("llamacpp", "-hfd", "org/m:Q4_0"), `"org/m:Q4_0" of args[1] (-hfd) is on another host, and engines reach none`},
		{"remote/address", free, with("llamacpp", "--mmproj-url", "https://h/p.gguf"), `"https://h/p.gguf" of args[1] (--mmproj-url) is on another host, and engines reach none`},
		{"remote/a_preset_that_downloads", free, with("llamacpp", "--embd-gemma-default"), "args[0], --embd-gemma-default, is on another host, and engines reach none"},
		{"remote/by_a_variable", free, variable("LLAMA_ARG_MMPROJ_URL", "https://h/p"), `"https://h/p" of env.LLAMA_ARG_MMPROJ_URL is on another host, and engines reach none`},
		{"remote/tokenizer_of_a_hub", free, with("vllm", "--tokenizer", "org/name"), `"org/name" of args[1] (--tokenizer) is on another host, and engines reach none`},
		{"remote/adapters_of_a_hub", free, with("vllm", "--lora-modules", "a=org/a", `{"name": "b", "path": "org/b"}`), `"org/a" of args[1] (--lora-modules) is on another host, and engines reach none (and 1 more)`},
		{"remote/a_method_is_no_model", free, with("vllm", "--speculative-config", `{"method": "ngram", "model": "ngram"}`), ""},
		{"remote/sglang", free, with("sglang", "--tokenizer-path", "org/name"), `"org/name" of args[1] (--tokenizer-path) is on another host, and engines reach none`},
		{"remote/from_a_cache", free, variable("HF_HUB_OFFLINE", "1", "--hf-repo-draft", "org/m"), ""},
		{"remote/from_a_cache_of_an_allowed_source", sources("file:/srv/", "hf:org/"), with("llamacpp", "--offline", "-hfd", "org/m:Q4"), ""},
		{"remote/from_a_cache_of_another_source", sources("file:/srv/", "hf:acme/"), with("llamacpp", "--offline", "-hfd", "org/m"), `"org/m" of args[2] (-hfd) is not from a source that this host allows for models`},
		{"remote/a_cache_that_is_not_asked_for", free, variable("HF_HUB_OFFLINE", "0", "-hfd", "org/m"), `"org/m" of args[1] (-hfd) is on another host, and engines reach none`},
		{"binaries/exact_path", binaries("/usr/bin/llama-server"), gpu, ""},
		{"binaries/folder", binaries("/opt/", "/usr/bin/"), gpu, ""},
		{"binaries/root_folder", binaries("/"), gpu, ""},
		{"binaries/folder_without_slash_is_a_file", binaries("/usr/bin"), gpu, `the binary "/usr/bin/llama-server" is not allowed on this host`},
		{"binaries/another_path", binaries("/usr/bin/llama"), gpu, `the binary "/usr/bin/llama-server" is not allowed on this host`},
		{"binaries/a_name_that_no_folder_has", binaries("/usr/bin/"), named, ""},
		{"binaries/a_name_where_none_is_allowed", bare, named, `the binary "llama-server" is not allowed on this host`},
		{"binaries/an_empty_list_allows_none", bare, gpu, `the binary "/usr/bin/llama-server" is not allowed on this host`},
		{"tools/refused_by_default", DefaultHost(), armed, "the pool sets --tools, --agent, by which every caller of its engine runs programs and reaches other services"},
		{"tools/where_the_host_allows_them", tools, armed, ""},
		{"relaxations/any_where_the_host_names_none", free, relaxed, ""},
		{"relaxations/one_that_is_named", relaxations(relax.Netlink, relax.JIT), relaxed, ""},
		{"relaxations/one_that_is_not", relaxations(relax.Netlink), relaxed, `the pool relaxes "jit" of the sandbox, which this host does not allow`},
		{"relaxations/an_empty_list_allows_none", relaxations([]string{}...), relaxed, `the pool relaxes "netlink" of the sandbox, which this host does not allow`},
		{"relaxations/what_the_engine_needs_by_itself_is_not_asked_for", relaxations([]string{}...), gpu, ""},
		{"relaxations/an_external_engine_has_no_sandbox", relaxations([]string{}...), external, ""},
		{"relaxations/memlock_is_mlock", relaxations(relax.Mlock), locked, ""},
		{"relaxations/memlock_without_mlock", relaxations(relax.JIT), locked, "the pool locks memory, which this host does not allow"},
		{"writable/any_where_the_host_names_none", free, writer, ""},
		{"writable/in_a_folder_that_is_named", Host{Policy: Policy{AllowedWritable: []string{"/srv/"}}}, writer, ""},
		{"writable/elsewhere", Host{Policy: Policy{AllowedWritable: []string{"/srv/slot"}}}, writer, `the pool's engine may not write to "/srv/slots" on this host`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.host.Refuse(c.pool, Binaries{})
			switch {
			case f == nil && c.message == "":
			case f == nil || c.message == "":
				t.Errorf("got %v, want %q", f, c.message)
			case f.Message != c.message || f.Code != registry.CodePolicyDenied || f.Hint == "":
				t.Errorf("got %+v, want %q", f, c.message)
			}
		})
	}
	t.Run("images/a_download_without_a_pool", func(t *testing.T) {
		p := Policy{AllowedImages: []string{"ghcr.io/org/"}, AllowedModelSources: []string{"hf:"}}
		for model, refused := range map[string]bool{
			"image:ghcr.io/org/llama:1": false, "image:ghcr.io/other/llama:1": true,
			"hf:org/name": false, "oci:ghcr.io/org/m": true,
		} {
			if f := p.RefuseSource(model); (f != nil) != refused {
				t.Errorf("%s: %+v", model, f)
			}
		}
		f := Policy{}.RefuseSource("image:ghcr.io/org/llama:1")
		if f == nil || !strings.Contains(f.Hint, "allowed_images") {
			t.Errorf("without the key: %+v", f)
		}
	})
	t.Run("binaries/dots_do_not_lead_out", func(t *testing.T) {
		p := Policy{AllowedBinaries: []string{"/opt/engines/"}}
		if listed(p.AllowedBinaries, "/opt/engines/../../bin/sh") ||
			!listed(p.AllowedBinaries, "/opt/engines//x/./y") ||
			listed(p.AllowedBinaries, "/opt/engines/") {
			t.Error("the path is not checked by where it leads")
		}
	})
}
