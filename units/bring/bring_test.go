package bring_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// disk makes files below a directory of the test.
type disk struct {
	t   *testing.T
	dir string
}

func (d disk) file(name, text string, mode os.FileMode) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode),
		os.Chmod(path, mode)); err != nil {
		d.t.Fatal(err)
	}
	return path
}

func (d disk) link(target, name string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// TestLook: what an engine reads beside its model is shown to it, or the pool waits and its status
// names the file, what names it, and what to do.
func TestLook(t *testing.T) {
	cases := []struct {
		name  string
		setup func(d disk) pool.Pool
		shown []string // names below the directory; nil: it fails
		code  registry.Code
		says  string // with {dir} for the directory
		hint  string
	}{
		{"a_template", func(d disk) pool.Pool { return with("--chat-template-file", d.file("a.jinja", "", 0o644)) },
			[]string{"a.jinja"}, "", "", ""},
		{"a_file_of_files", func(d disk) pool.Pool {
			return pool.Pool{Engine: engine.Program, Files: []string{d.file("a", "", 0o644)}}
		},
			[]string{"a"}, "", "", ""},
		{"a_link", func(d disk) pool.Pool {
			d.file("real/a", "GGUF and the rest", 0o644)
			return with("--mmproj", d.link("real/a", "a.gguf"))
		}, []string{"a.gguf"}, "", "", ""},
		{"a_directory_with_a_link_out_of_it", func(d disk) pool.Pool {
			d.file("hub/blobs/x", "x", 0o644)
			d.file("hub/snapshots/1/own", "x", 0o644)
			d.link("../../blobs/x", "hub/snapshots/1/adapter.safetensors")
			return pool.Pool{Engine: engine.VLLM, Args: []string{"--lora-modules", "a=" + d.dir + "/hub/snapshots/1"}}
		}, []string{"hub/snapshots/1", "hub/blobs/x"}, "", "", ""},
		{"a_draft_in_parts", func(d disk) pool.Pool {
			d.file("d-00002-of-00002.gguf", "GGUF and the rest", 0o644)
			return with("-md", d.file("d-00001-of-00002.gguf", "GGUF and the rest", 0o644))
		}, []string{"d-00001-of-00002.gguf", "d-00002-of-00002.gguf"}, "", "", ""},
		{"a_draft_without_a_part", func(d disk) pool.Pool {
			return with("-md", d.file("d-00001-of-00002.gguf", "GGUF and the rest", 0o644))
		}, nil, registry.CodeModelNotFound, "args[1] (-md): model {dir}/d-00001-of-00002.gguf: 1 of its 2 parts are " +
			"missing", "missing parts"},
		{"a_closed_part_of_a_draft", func(d disk) pool.Pool {
			d.file("d-00002-of-00002.gguf", "GGUF and the rest", 0o640)
			return with("-md", d.file("d-00001-of-00002.gguf", "GGUF and the rest", 0o644))
		}, nil, registry.CodeModelNotFound, "has {dir}/d-00002-of-00002.gguf, which has mode 0640", "chmod o+r"},
		{"what_the_engine_makes_itself", func(d disk) pool.Pool {
			p := with("--lora", filepath.Join(d.dir, "w/later.gguf"))
			p.Writable = []string{filepath.Join(d.dir, "w")}
			return p
		}, []string{}, "", "", ""},

		{"missing", func(d disk) pool.Pool { return with("--chat-template-file", d.dir+"/a.jinja") }, nil,
			registry.CodeProvisionFailed, "file {dir}/a.jinja of args[1] (--chat-template-file) does not exist",
			"starts by itself"},
		{"missing_with_its_folder", func(d disk) pool.Pool { return with("--grammar-file", d.dir+"/b/c/a.gbnf") }, nil,
			registry.CodeProvisionFailed, "does not exist; the path exists only up to {dir}", "starts by itself"},
		{"missing_weights", func(d disk) pool.Pool { return with("-md", d.dir+"/draft.gguf") }, nil,
			registry.CodeModelNotFound, "file {dir}/draft.gguf of args[1] (-md) does not exist", "starts by itself"},
		{"a_link_to_nothing", func(d disk) pool.Pool { return with("--mmproj", d.link("nowhere", "a.gguf")) }, nil,
			registry.CodeModelNotFound, "is a symbolic link to nowhere, which does not exist", "starts by itself"},
		{"not_readable", func(d disk) pool.Pool { return with("--json-schema-file", d.file("a.json", "{}", 0o600)) }, nil,
			registry.CodeProvisionFailed, "has mode 0600: the engine runs as a dynamic user, which cannot read it",
			"chmod o+r '{dir}/a.json'"},
		{"empty_weights", func(d disk) pool.Pool { return with("--lora", d.file("a.gguf", "", 0o644)) }, nil,
			registry.CodeModelNotFound, "is empty", "Copy the file again"},
		{"no_file", func(d disk) pool.Pool {
			if err := os.Mkdir(d.dir+"/m", 0o755); err != nil {
				d.t.Fatal(err)
			}
			return with("--mmproj", d.link("/dev/null", "m/a"))
		}, nil, registry.CodeModelNotFound, "is neither a file nor a directory", "Name the file itself"},
		{"a_closed_directory", func(d disk) pool.Pool {
			d.file("m/a", "x", 0o644)
			if err := os.Chmod(d.dir+"/m", 0o750); err != nil {
				d.t.Fatal(err)
			}
			return pool.Pool{Engine: engine.Program, Files: []string{d.dir + "/m"}}
		}, nil, registry.CodeProvisionFailed, "file {dir}/m of files[0] has mode 0750", "chmod -R o+rX '{dir}/m'"},
		{"a_closed_file_in_a_directory", func(d disk) pool.Pool {
			d.file("m/a", "x", 0o640)
			return pool.Pool{Engine: engine.Program, Files: []string{d.dir + "/m"}}
		}, nil, registry.CodeProvisionFailed, "of files[0] has {dir}/m/a, which has mode 0640",
			"chmod o+r '{dir}/m/a'"},
		{"a_key", func(d disk) pool.Pool { return pool.Pool{APIKeyFile: d.file("key", "sk-1\n", 0o600)} }, []string{},
			"", "", ""},
		{"no_key", func(d disk) pool.Pool { return pool.Pool{APIKeyFile: d.dir + "/key"} }, nil,
			registry.CodeProvisionFailed, "api_key_file {dir}/key does not exist", "openssl rand -hex 32 >'{dir}/key'"},
		{"a_key_for_all", func(d disk) pool.Pool { return pool.Pool{APIKeyFile: d.file("key", "sk-1\n", 0o644)} }, nil,
			registry.CodeProvisionFailed, "api_key_file {dir}/key has mode 0644: every user", "chmod o-rwx '{dir}/key'"},
		{"an_empty_key", func(d disk) pool.Pool { return pool.Pool{APIKeyFile: d.file("key", "\n", 0o600)} }, nil,
			registry.CodeProvisionFailed, "api_key_file {dir}/key holds no key", "openssl rand -hex 32"},
		{"variables", func(d disk) pool.Pool {
			file := d.file("env", "LLAMA_ARG_MMPROJ="+d.file("a.gguf", "GGUF and the rest", 0o644)+"\n", 0o600)
			return pool.Pool{Engine: engine.LlamaCpp, EnvFiles: []string{file}}
		}, []string{"a.gguf"}, "", "", ""},
		{"no_variables", func(d disk) pool.Pool { return pool.Pool{EnvFiles: []string{d.dir + "/env"}} }, nil,
			registry.CodeProvisionFailed, "env_file {dir}/env does not exist", "starts by itself"},
		{"variables_with_a_mistake", func(d disk) pool.Pool {
			return pool.Pool{EnvFiles: []string{d.file("env", "A=1\nexport B=hf_secret\n", 0o600)}}
		}, nil, registry.CodeProvisionFailed, "env_file {dir}/env is refused: line 2 begins with export",
			"NAME=value alone"},
		{"variables_of_another_encoding", func(d disk) pool.Pool {
			return pool.Pool{EnvFiles: []string{d.file("env", "A=\xe9\n", 0o600)}}
		}, nil, registry.CodeProvisionFailed, "env_file {dir}/env is not UTF-8", "Save it as UTF-8."},
		{"variables_that_are_a_directory", func(d disk) pool.Pool { return pool.Pool{EnvFiles: []string{d.dir}} }, nil,
			registry.CodeProvisionFailed, "env_file {dir} is not a regular file", "NAME=value"},
		{"variables_that_name_nothing", func(d disk) pool.Pool {
			file := d.file("env", "LLAMA_ARG_MMPROJ="+d.dir+"/a.gguf\n", 0o600)
			return pool.Pool{Engine: engine.LlamaCpp, EnvFiles: []string{file}}
		}, nil, registry.CodeModelNotFound, "file {dir}/a.gguf of env_file[0] (LLAMA_ARG_MMPROJ) does not exist",
			"starts by itself"},
		{"a_key_of_windows", func(d disk) pool.Pool {
			return pool.Pool{Engine: engine.LlamaCpp, APIKeyFile: d.file("key", "sk-1\r\n", 0o600)}
		}, nil, registry.CodeProvisionFailed, "api_key_file {dir}/key has blanks or the line ends of Windows",
			"sed -i"},
		{"a_key_of_windows_that_the_engine_does_not_read", func(d disk) pool.Pool {
			return pool.Pool{Engine: engine.VLLM, APIKeyFile: d.file("key", "sk-1 \r\n", 0o600)}
		}, []string{}, "", "", ""},
		{"a_loop_of_links", func(d disk) pool.Pool {
			d.link("..", "m/up")
			return pool.Pool{Engine: engine.Program, Files: []string{d.dir + "/m"}}
		}, nil, registry.CodeProvisionFailed, "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := disk{t, t.TempDir()}
			p := c.setup(d)
			in := strings.NewReplacer("{dir}", d.dir)
			found, err := bring.Look(p)
			if err == nil {
				err = found.Damaged(p)
			}
			faults := bring.Check(p)
			if c.shown != nil {
				var want []string
				for _, name := range c.shown {
					want = append(want, filepath.Join(d.dir, name))
				}
				if err != nil || len(faults) > 0 || !slices.Equal(found.Shown, want) {
					t.Errorf("%v, %v, %q, want %q", err, faults, found.Shown, want)
				}
				return
			}
			var f *registry.Failure
			if !errors.As(err, &f) || f.Code != c.code || !strings.Contains(f.Message, in.Replace(c.says)) ||
				!strings.Contains(f.Hint, in.Replace(c.hint)) {
				t.Fatalf("%v (%+v)", err, f)
			}
			if len(faults) != 1 || faults[0].Message != f.Message || faults[0].Key == "" || faults[0].Closed {
				t.Errorf("check finds %+v", faults)
			}
		})
	}
}

func with(args ...string) pool.Pool { return pool.Pool{Engine: engine.LlamaCpp, Args: args} }

// TestCheckFindsAll: a check names each file, a start the first.
func TestCheckFindsAll(t *testing.T) {
	p := with("--mmproj", "/nowhere/a", "--lora", "/nowhere/b")
	p.Files = []string{"/nowhere/c"}
	var keys []string
	for _, f := range bring.Check(p) {
		keys = append(keys, f.Key)
	}
	if want := []string{"files[0]", "args[1]", "args[3]"}; !slices.Equal(keys, want) {
		t.Errorf("%q, want %q", keys, want)
	}
}

// TestCheckOfWhatIsWritten: a path to write to is below the state directory, in memory, or in what
// writable names.
func TestCheckOfWhatIsWritten(t *testing.T) {
	for _, c := range []struct {
		name string
		pool pool.Pool
		want []string
	}{
		{"elsewhere", with("--log-file", "/var/log/a.log", "--slot-save-path=/srv/slots/"), []string{"args[1]", "args[2]"}},
		{"variable", pool.Pool{Engine: engine.LlamaCpp, Env: map[string]string{"LLAMA_ARG_LOG_FILE": "/srv/a.log"}},
			[]string{"env.LLAMA_ARG_LOG_FILE"}},
		{"a_name_that_only_begins_alike", pool.Pool{Engine: engine.LlamaCpp, Writable: []string{"/srv/slots"},
			Args: []string{"--slot-save-path", "/srv/slots2"}}, []string{"args[1]"}},
		{"relative", with("--log-file", "a.log", "--slot-save-path", "slots/"), nil},
		{"own", with("--log-file", "/tmp/a.log", "--slot-save-path", "/var/lib/pool-engine/a.r0/slots"), nil},
		{"standard_error", with("--log-file", "/dev/stderr"), nil},
		{"writable", pool.Pool{Engine: engine.LlamaCpp, Writable: []string{"/srv/slots"},
			Args: []string{"--slot-save-path", "/srv/slots/"}}, nil},
		{"another_engine", pool.Pool{Engine: engine.Program, Args: []string{"--log-file", "/var/log/a.log"}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var keys []string
			for _, f := range bring.Check(c.pool) {
				keys = append(keys, f.Key)
			}
			if !slices.Equal(keys, c.want) {
				t.Errorf("%q, want %q", keys, c.want)
			}
		})
	}
}

// TestSources: what is looked at of two pools differs where their files do.
func TestSources(t *testing.T) {
	a, b := with("--mmproj", "/a"), with("--mmproj", "/b")
	c := with("--seed", "1", "--mmproj", "/a")
	d := a
	d.APIKeyFile = "/k"
	e := a
	e.EnvFiles = []string{"/env"}
	f := e
	f.FileEnv = map[string]pool.FileVariable{"LLAMA_ARG_MMPROJ": {Value: "/c"}}
	if bring.Sources(a) == bring.Sources(e) || bring.Sources(e) != bring.Sources(f) {
		t.Errorf("with variables %q, as read %q", bring.Sources(e), bring.Sources(f))
	}
	if bring.Sources(a) == bring.Sources(b) || bring.Sources(a) == bring.Sources(d) ||
		bring.Sources(a) != bring.Sources(c) {
		t.Errorf("%q %q %q", bring.Sources(a), bring.Sources(b), bring.Sources(c))
	}
}

// TestListed: a file with an access control list is explained as what that is worth.
func TestListed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.gguf")
	if err := os.WriteFile(path, []byte("GGUF and the rest"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := bring.ModelFile(path); err == nil || strings.Contains(err.Error(), "access control list") {
		t.Errorf("without a list: %v", err)
	}
	// Version 2: the owner rw, the user 65534 r, the group and the mask r, others nothing (acl(5)).
	list := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 254, 255, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
		16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	if err := unix.Setxattr(path, "system.posix_acl_access", list, 0); err != nil {
		t.Skip("no access control lists here:", err)
	}
	_, err := bring.ModelFile(path)
	if err == nil || !strings.Contains(err.Error(), "access control list does not help") {
		t.Errorf("with a list: %v", err)
	}
}
