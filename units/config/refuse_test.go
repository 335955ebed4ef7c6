package config

import (
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
	relaxations := func(list ...string) Host { return Host{Policy: Policy{AllowedRelaxations: list}} }
	armed, tools := gpu, DefaultHost()
	armed.Args, tools.Policy.AllowAgentTools = []string{"--tools", "all", "--agent"}, true
	free, bare := DefaultHost(), DefaultHost()
	free.RequireGPU = false
	bare.Policy.AllowedBinaries = []string{}
	sources := func(list ...string) Host { return Host{Policy: Policy{AllowedModelSources: list}} }
	binaries := func(list ...string) Host { return Host{Policy: Policy{AllowedBinaries: list}} }

	for _, c := range []struct {
		name    string
		host    Host
		pool    pool.Pool
		message string // empty: not refused
	}{
		{"defaults/gpu_pool_runs", DefaultHost(), gpu, ""},
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
		{"binaries/exact_path", binaries("/usr/bin/llama-server"), gpu, ""},
		{"binaries/folder", binaries("/opt/", "/usr/bin/"), gpu, ""},
		{"binaries/root_folder", binaries("/"), gpu, ""},
		{"binaries/folder_without_slash_is_a_file", binaries("/usr/bin"), gpu, `the binary "/usr/bin/llama-server" is not allowed on this host`},
		{"binaries/another_path", binaries("/usr/bin/llama"), gpu, `the binary "/usr/bin/llama-server" is not allowed on this host`},
		{"binaries/a_bare_name_is_no_path", binaries("/usr/bin/"), named, "this host allows certain binaries only, and the pool names none by its path"},
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
			f := c.host.Refuse(c.pool)
			switch {
			case f == nil && c.message == "":
			case f == nil || c.message == "":
				t.Errorf("got %v, want %q", f, c.message)
			case f.Message != c.message || f.Code != registry.CodePolicyDenied || f.Hint == "":
				t.Errorf("got %+v, want %q", f, c.message)
			}
		})
	}
	t.Run("binaries/dots_do_not_lead_out", func(t *testing.T) {
		p := Policy{AllowedBinaries: []string{"/opt/engines/"}}
		if p.AllowsBinary("/opt/engines/../../bin/sh") || !p.AllowsBinary("/opt/engines//x/./y") ||
			p.AllowsBinary("/opt/engines/") {
			t.Error("the path is not checked by where it leads")
		}
	})
}
