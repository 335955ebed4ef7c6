package render_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/disk"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// TestRenderIsPure: the same input gives the same bytes, and is not changed.
func TestRenderIsPure(t *testing.T) {
	for _, c := range goldenCases {
		first, err := render.Render(c.input)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			again, err := render.Render(c.input)
			if err != nil || !reflect.DeepEqual(first, again) || first.File() != again.File() {
				t.Fatalf("%s: a second rendering differs: %v", c.name, err)
			}
		}
		one, two := first.Properties(), first.Properties()
		if !reflect.DeepEqual(one, two) {
			t.Errorf("%s: Properties changes the unit", c.name)
		}
	}
}

// TestEveryLineSaysWhy: no row without a reason, none that only one of the two forms has without
// saying so.
func TestEveryLineSaysWhy(t *testing.T) {
	for _, c := range goldenCases {
		unit, err := render.Render(c.input)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range unit.Lines {
			if line.Why == "" || line.Property.Name == "" || line.Property.Value == nil {
				t.Errorf("%s: incomplete row %+v", c.name, line)
			}
			if line.Section != "Unit" && line.Section != "Service" {
				t.Errorf("%s: section %q", c.name, line.Section)
			}
			if strings.Contains(line.Text, "\n") {
				t.Errorf("%s: %s holds a line break", c.name, line.Key)
			}
		}
	}
}

// TestPropertiesAreSentOnce: a list property's rows are joined; only the system call filter, which
// is applied in order, comes twice.
func TestPropertiesAreSentOnce(t *testing.T) {
	for _, c := range goldenCases {
		unit, err := render.Render(c.input)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		for _, p := range unit.Properties() {
			seen[p.Name]++
		}
		for name, n := range seen {
			if n > 1 && name != "SystemCallFilter" {
				t.Errorf("%s: %s is sent %d times", c.name, name, n)
			}
		}
	}
}

// TestHides: a path of the host that the engine does not see, and those that it does.
func TestHides(t *testing.T) {
	unit, err := render.Render(input(modelAt("/data/models/a.gguf"), with(func(p *pool.Pool) {
		p.Writable = []string{"/srv/slots"}
	})))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/srv/slots": "", "/srv/slots/x": "", "/srv/x": "/srv", "/srv/slots2": "/srv", "/home/ann/x": "/home", "/tmp/x": "/tmp",
		"/data/models/a.gguf": "", "/data/models/b.gguf": "/data", "/etc/x": "", "/dev/shm/x": "", "/run/x": "/run",
	} {
		if got := unit.Hides(path); got != want {
			t.Errorf("Hides(%s) = %q, want %q", path, got, want)
		}
	}
	if got := (render.Unit{}).Hides("/srv/x"); got != "/srv" {
		t.Errorf("of a unit that is not known: %q", got)
	}
}

// TestRenderRefuses: what PID 1 would reject or lose is rejected, with the key to change.
func TestRenderRefuses(t *testing.T) {
	env := func(key, value string) change {
		return with(func(p *pool.Pool) { p.Env = map[string]string{key: value} })
	}
	cases := []struct {
		name   string
		change change
		want   string // a part of the failure's message
	}{
		{"argument_with_nul", args("a\x00b"), "args[0] holds a NUL"},
		{"argument_not_utf8", args("ok", "\xff"), "args[1] is not UTF-8"},
		{"managed_flag", args("--port", "80"), "args[0] is --port"},
		{"variable_name", env("A-B", ""), `env key "A-B"`},
		{"variable_name_empty", env("", ""), `env key ""`},
		{"variable_name_digit", env("1A", ""), `env key "1A"`},
		{"variable_with_nul", env("A", "\x00"), "variable A of env holds a NUL"},
		{"visible_devices", env("CUDA_VISIBLE_DEVICES", "1"), "env holds CUDA_VISIBLE_DEVICES"},
		{"device_order", env("CUDA_DEVICE_ORDER", "FASTEST_FIRST"), "env holds CUDA_DEVICE_ORDER"},
		{"home", env("HOME", "/root"), "env holds HOME"},
		{"cache", env("XDG_CACHE_HOME", "/root"), "env holds XDG_CACHE_HOME"},
		{"health_path", with(func(p *pool.Pool) { p.Health.Path = "health" }), "health.path"},
		{"health_path_with_space", with(func(p *pool.Pool) { p.Health.Path = "/a b" }), "health.path"},
		{"cpus", with(func(p *pool.Pool) { p.Limits.CPUs = "3-1" }), "[limits]: AllowedCPUs"},
		{"model_with_space", modelAt("/srv/my models/a.gguf"), "holds a space"},
		{"model_with_quote", modelAt(`/srv/a"b.gguf`), "holds a space, a colon, a quote"},
		{"model_with_colon", modelAt("/srv/a:b.gguf"), "holds a space, a colon"},
		{"model_with_backslash", modelAt(`/srv/a\b.gguf`), "a backslash"},
		{"model_not_utf8", modelAt("/srv/a\xffb.gguf"), "path"},
		{"shard_with_space", modelAt("/srv/a.gguf", "/srv/a.gguf", "/srv/b c.gguf"), `path "/srv/b c.gguf"`},
		{"binary_directory_with_space", func(in *render.Input) {
			in.Prepared.Binary, in.Prepared.ReadOnly = "/home/a b/llama-server", []string{"/home/a b"}
		}, `path "/home/a b"`},
		{"no_model", with(func(p *pool.Pool) { p.Model = "" }), "needs a model"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			unit, err := render.Render(input(c.change))
			var f *registry.Failure
			if !errors.As(err, &f) || f.Code != registry.CodeConfigInvalid || !strings.Contains(f.Message, c.want) {
				t.Fatalf("Render = %v, want CONFIG_INVALID with %q", err, c.want)
			}
			if f.Hint == "" || unit.Name != "" || unit.Lines != nil {
				t.Errorf("hint %q, unit %v", f.Hint, unit)
			}
		})
	}
}

// TestRenderRefusesItsCaller: values that no pool file leads to are the caller's mistake.
func TestRenderRefusesItsCaller(t *testing.T) {
	for name, c := range map[string]change{
		"no_binary":                 func(in *render.Input) { in.Prepared.Binary = "" },
		"relative_binary":           func(in *render.Input) { in.Prepared.Binary = "llama-server" },
		"unclean_model":             modelAt("/srv/../etc/shadow"),
		"relative_file":             modelAt("/srv/a.gguf", "a.gguf"),
		"port_zero":                 func(in *render.Input) { in.Port = 0 },
		"port_too_high":             func(in *render.Input) { in.Port = 65536 },
		"negative_replica":          replicaNumber(-1),
		"external_engine":           with(func(p *pool.Pool) { p.Provisioning.Mode = pool.ModeExternal }),
		"pool_id":                   with(func(p *pool.Pool) { p.ID = "../x" }),
		"gpus_that_nobody_resolved": with(func(p *pool.Pool) { p.Devices = [][]string{{"0"}} }),
		"gpus_nobody_asked_for":     mask(render.Device{Visible: "GPU-1", Nodes: []string{"/dev/nvidia0"}}),
		"gpu_without_a_node": func(in *render.Input) {
			gpus([]string{"0"})(in)
			in.Mask[0].Nodes = nil
		},
	} {
		_, err := render.Render(input(c))
		var f *registry.Failure
		if err == nil || errors.As(err, &f) {
			t.Errorf("%s: %v, want a plain error", name, err)
		}
	}
	in := input()
	in.Adapter = nil
	if _, err := render.Render(in); err == nil {
		t.Error("no adapter: no error")
	}
}

// TestShownTrees says which tree becomes empty around a model, so that nothing beside it is seen.
func TestShownTrees(t *testing.T) {
	cases := []struct {
		name   string
		change change
		empty  string // TemporaryFileSystem, joined by spaces
		bound  string // BindReadOnlyPaths
		home   string
	}{
		{"srv", modelAt("/srv/models/a"), "/srv", "/srv/models/a", "yes"},
		{"home", modelAt("/home/ann/a"), "", "/home/ann/a", "tmpfs"},
		{"root", modelAt("/root/a"), "/root", "/root/a", "tmpfs"},
		{"tmp", modelAt("/tmp/a"), "", "/tmp/a", "yes"},
		{"data", modelAt("/data/models/a"), "/data", "/data/models/a", "yes"},
		{"opt", modelAt("/opt/models/a"), "/opt/models", "/opt/models/a", "yes"},
		{"state", modelAt("/var/lib/models/a"), "/var/lib/models", "/var/lib/models/a", "yes"},
		{"own_cache", modelAt("/var/cache/pool-managerd/models/a"), "/var/cache/pool-managerd", "/var/cache/pool-managerd/models/a", "yes"},
		{"programs_stay", modelAt("/usr/share/models/a"), "", "", "yes"},
		{"configuration_stays", modelAt("/etc/models/a"), "", "", "yes"},
		{"top", modelAt("/a.gguf"), "", "", "yes"},
		{"directly_below_a_shared_parent", modelAt("/var/lib/a.gguf"), "", "", "yes"},
		{"a_name_that_only_begins_alike", modelAt("/srvx/a"), "/srvx", "/srvx/a", "yes"},
		{"the_engine_lives_there", func(in *render.Input) {
			modelAt("/data/models/a")(in)
			in.Prepared.Binary = "/data/bin/llama-server"
		}, "", "", "yes"},
		{"what_a_link_leads_to_lives_there", func(in *render.Input) {
			modelAt("/opt/llama.cpp/models/a")(in)
			in.Prepared.Binary = "/usr/local/bin/llama-server"
			in.Prepared.Programs = []string{"/usr/local/bin/llama-server", "/opt/llama.cpp/build/bin/llama-server"}
			in.Prepared.ReadOnly = []string{"/opt/llama.cpp/build/bin"}
		}, "", "", "yes"},
		{"only_libraries_live_there", func(in *render.Input) {
			modelAt("/data/models/a")(in)
			in.Prepared.ReadOnly = []string{"/data/lib", "/opt/cuda/lib64"}
		}, "/data", "/data/lib /data/models/a", "yes"},
		{"all_of_it_holds_libraries", func(in *render.Input) {
			modelAt("/data/models/a")(in)
			in.Prepared.ReadOnly = []string{"/data"}
		}, "", "", "yes"},
		{"a_directory_covers_its_files", modelAt("/srv/m", "/srv/m", "/srv/m/1", "/srv/m/2"), "/srv", "/srv/m", "yes"},
		{"binary_below_a_hidden_tree", func(in *render.Input) { in.Prepared.Binary = "/srv/llama/bin/llama-server" },
			"/srv", "/srv/llama/bin /srv/models/llama3.gguf", "yes"},
		{"binary_covered_by_its_prefix", func(in *render.Input) {
			in.Prepared.Binary, in.Prepared.ReadOnly = "/home/ann/venv/bin/vllm", []string{"/home/ann/venv"}
		}, "/srv", "/home/ann/venv /srv/models/llama3.gguf", "tmpfs"},
		{"removable_disk", modelAt("/run/media/ann/disk/a"), "", "/run/media/ann/disk/a", "yes"},
		{"no_model", kind(engine.Program, "/usr/bin/stub", ""), "", "", "yes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := input(c.change)
			var empty, bound []string
			if v, ok := property(t, in, "TemporaryFileSystem").([]systemd.PathOptions); ok {
				for _, p := range v {
					if p.Path != confine.Run && p.Path != "/dev/shm" {
						empty = append(empty, p.Path)
					}
				}
			}
			if v, ok := property(t, in, "BindReadOnlyPaths").([]systemd.BindMount); ok {
				for _, p := range v {
					if !p.IgnoreMissing { // those of /run, see TestRuntimeDirectory
						bound = append(bound, p.Source)
					}
				}
			}
			if got := strings.Join(empty, " "); got != c.empty {
				t.Errorf("empty trees %q, want %q", got, c.empty)
			}
			if got := strings.Join(bound, " "); got != c.bound {
				t.Errorf("bound paths %q, want %q", got, c.bound)
			}
			if got := property(t, in, "ProtectHome"); got != c.home {
				t.Errorf("ProtectHome=%v, want %s", got, c.home)
			}
			for _, tree := range empty {
				if slices.Contains(property(t, in, "InaccessiblePaths").([]string), "-"+tree) {
					t.Errorf("%s is shut and shown", tree)
				}
			}
		})
	}
}

// TestDevices: one GPU of two is one GPU, a CPU replica has none, a known GPU is named by its UUID.
func TestDevices(t *testing.T) {
	visible := func(in render.Input) string {
		for _, v := range property(t, in, "Environment").([]string) {
			if value, ok := strings.CutPrefix(v, "CUDA_VISIBLE_DEVICES="); ok {
				return value
			}
		}
		return "(absent)"
	}
	nodes := func(in render.Input) string {
		var names []string
		v, _ := property(t, in, "DeviceAllow").([]systemd.DevicePermission)
		for _, d := range v {
			names = append(names, strings.TrimPrefix(d.Path, "/dev/"))
		}
		return strings.Join(names, " ")
	}
	mig := mask(render.Device{Visible: "MIG-1111",
		Nodes: []string{"/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap21", "/dev/nvidia-caps/nvidia-cap22"}})
	const shared = "nvidiactl nvidia-uvm nvidia-uvm-tools"
	cases := []struct {
		name           string
		in             render.Input
		visible, nodes string
		private        bool
	}{
		{"cpu", input(), "", "", true},
		{"empty_mask", input(gpus([]string{})), "", "", true},
		{"one_of_two", input(gpus([]string{"1"})), gpuOf("1"), shared + " nvidia1", false},
		{"order_is_kept", input(gpus([]string{"2", "0"})), gpuOf("2") + "," + gpuOf("0"), shared + " nvidia2 nvidia0", false},
		{"second_replica", input(gpus([]string{"0"}, []string{"1"}), replicaNumber(1)), gpuOf("1"), shared + " nvidia1", false},
		{"mig", input(gpus([]string{"MIG-1"}), mig), "MIG-1111", shared + " nvidia0 nvidia-caps/nvidia-cap21 nvidia-caps/nvidia-cap22", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := visible(c.in); got != c.visible {
				t.Errorf("CUDA_VISIBLE_DEVICES=%s, want %s", got, c.visible)
			}
			if got := nodes(c.in); got != c.nodes {
				t.Errorf("DeviceAllow %q, want %q", got, c.nodes)
			}
			if got := property(t, c.in, "PrivateDevices"); got != c.private {
				t.Errorf("PrivateDevices=%v", got)
			}
			if got := property(t, c.in, "DevicePolicy"); got != "closed" {
				t.Errorf("DevicePolicy=%v", got)
			}
		})
	}
}

// TestOperatorsEnvironmentWins over the adapter's own, and stands once.
func TestOperatorsEnvironmentWins(t *testing.T) {
	in := input(kind(engine.VLLM, "/usr/bin/vllm", "/srv/models/a"), with(func(p *pool.Pool) {
		p.Env = map[string]string{"HF_HUB_OFFLINE": "0"}
	}))
	got := property(t, in, "Environment").([]string)
	if !slices.Contains(got, "HF_HUB_OFFLINE=0") || slices.Contains(got, "HF_HUB_OFFLINE=1") {
		t.Errorf("environment %q", got)
	}
}

// TestProgramsEnvironment: what a program needs to find its parts is set, unless the pool sets it.
func TestProgramsEnvironment(t *testing.T) {
	const name = "PYTHONUSERBASE"
	for want, env := range map[string]map[string]string{"/home/ann/.local": nil, "/srv/x": {name: "/srv/x"}} {
		in := input(kind(engine.VLLM, "/usr/bin/vllm", "/srv/models/a"), with(func(p *pool.Pool) { p.Env = env }),
			func(in *render.Input) { in.Prepared.Env = map[string]string{name: "/home/ann/.local"} })
		got := property(t, in, "Environment").([]string)
		set := slices.DeleteFunc(slices.Clone(got), func(v string) bool { return !strings.HasPrefix(v, name+"=") })
		if !slices.Equal(set, []string{name + "=" + want}) {
			t.Errorf("%q, want %s", set, want)
		}
	}
}

// TestLogFieldsAreOneWord: PID 1 cuts a field at a space when it reads the unit again.
func TestLogFieldsAreOneWord(t *testing.T) {
	in := input(func(in *render.Input) { in.Prepared.Version = "0.7.0 (build 1)\n\"x\"\xff" })
	for _, field := range property(t, in, "LogExtraFields").([][]byte) {
		if key, value, _ := strings.Cut(string(field), "="); key == render.FieldVersion &&
			value != "0.7.0_(build_1)__x__" {
			t.Errorf("%s is %q", key, value)
		}
	}
}

// TestNoVersionIsNoField: what an engine does not print is no word in the journal either.
func TestNoVersionIsNoField(t *testing.T) {
	in := input(func(in *render.Input) { in.Prepared.Version = "" })
	for _, field := range property(t, in, "LogExtraFields").([][]byte) {
		if strings.HasPrefix(string(field), render.FieldVersion) {
			t.Errorf("field %s", field)
		}
	}
}

// TestQuota: PID 1 is given the bound of the disk where it takes one, and none where there is none.
func TestQuota(t *testing.T) {
	lines := func(changes ...change) string {
		unit, err := render.Render(input(append([]change{systemd262}, changes...)...))
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, l := range unit.Lines {
			if strings.HasSuffix(l.Key, "Quota") {
				found = append(found, l.Key+"="+l.Text)
			}
		}
		return strings.Join(found, " ")
	}
	for name, c := range map[string]struct {
		got, want string
	}{
		"default":          {lines(), ""},
		"asked":            {lines(with(func(p *pool.Pool) { p.StateMaxBytes = 1 << 30 })), "StateDirectoryQuota=1073741824 CacheDirectoryQuota=1073741824"},
		"none":             {lines(with(func(p *pool.Pool) { p.StateMaxBytes = disk.Off })), ""},
		"an_older_systemd": {lines(systemd257), ""},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", name, c.got, c.want)
		}
	}
}

// TestHostOf: features are detected by PID 1's properties.
func TestHostOf(t *testing.T) {
	has := func(names ...string) func(string) bool {
		return func(n string) bool { return slices.Contains(names, n) }
	}
	cases := map[string]struct {
		has  func(string) bool
		want render.Host
	}{
		"252":            {has("ExecStartEx"), render.Host{}},
		"rhel9_backport": {has("ExecStartEx", "RestartMode"), render.Host{}},
		"254":            {has("ExecStartEx", "RestartSteps", "RestartMaxDelayUSec"), render.Host{RestartSteps: true, RestartMaxDelay: true}},
		"262": {has("ExecStartEx", "RestartSteps", "RestartMaxDelayUSec", "ExtraFileDescriptors", "RestartRandomizedDelayUSec"),
			render.Host{ExecFlags: true, RestartSteps: true, RestartMaxDelay: true, RandomizedDelay: true}},
		"257": {has("ExecStartEx", "PrivateTmpEx"), render.Host{TemporaryInMemory: true}},
		"258": {has("StateDirectoryQuota"), render.Host{DirectoryQuota: true}},
		"255": {has("ExecStartEx", "SurviveFinalKillSignal"), render.Host{SurviveFinalKill: true}},
	}
	for name, c := range cases {
		if got := render.HostOf(c.has); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
