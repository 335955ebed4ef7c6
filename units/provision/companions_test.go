package provision

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/programs"
)

// TestCompanions: what an engine in a hidden tree is shown. Test directories lie below /tmp, which
// is one.
func TestCompanions(t *testing.T) {
	cases := []struct {
		name  string
		setup func(d disk) (binary string)
		want  []string // relative to the test's folder
	}{
		{"in_a_visible_tree", func(disk) string { return "/usr/bin/env" }, nil},
		{"its_folder", func(d disk) string { return d.file("build/e", elfHead, 0o755) }, []string{"build"}},
		{"lib_beside_bin", func(d disk) string {
			d.file("lib/libggml.so", elfHead, 0o644)
			return d.file("bin/e", elfHead, 0o755)
		}, []string{"bin", "lib"}},
		{"target_of_a_link", func(d disk) string {
			d.file("build/e", elfHead, 0o755)
			d.file("links/x", "", 0o644)
			d.link("../build/e", "links/e")
			return d.path("links/e")
		}, []string{"build", "links"}},
		{"python_environment_and_what_it_was_made_from", func(d disk) string {
			d.file("venv/pyvenv.cfg", "", 0o644)
			d.file("python/bin/python3.12", elfHead, 0o755)
			d.file("python/lib/os.py", "", 0o644)
			binary := d.file("venv/bin/vllm", "#!"+d.path("venv/bin/python")+"\n", 0o755)
			d.link("../../python/bin/python3.12", "venv/bin/python")
			return binary
		}, []string{"python/bin", "python/lib", "venv"}},
		{"what_a_wrapper_executes", func(d disk) string {
			d.file("build/bin/e", elfHead, 0o755)
			d.file("libs/libggml.so", elfHead, 0o644)
			script := "#!/bin/sh\nexport LD_LIBRARY_PATH=" + d.path("libs") + "\nexec " + d.path("build/bin/e") + "\n"
			return d.file("wrap/run", script, 0o755)
		}, []string{"build/bin", "libs", "wrap"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := newDisk(t)
			var want []string
			for _, name := range c.want {
				want = append(want, d.path(name))
			}
			binary := c.setup(d)
			if got := companions(host(), programs.Resolve(host(), binary, nil)); !slices.Equal(got, want) {
				t.Errorf("companions = %v, want %v", got, want)
			}
		})
	}
	t.Run("of_a_home_only_the_program", func(t *testing.T) {
		for _, path := range []string{"/home/no-one/llama-server", "/root/no-such-engine", "/srv/no-such-engine"} {
			got := companions(fstest.MapFS{path[1:]: {Data: []byte(elfHead), Mode: 0o755}},
				programs.Needs{Programs: []string{path}})
			if !slices.Equal(got, []string{path}) {
				t.Errorf("companions(%s) = %v", path, got)
			}
		}
	})
}

// TestBinaryBehindALinkInATreesOwnFolder: of such a folder the engine sees files, so that the link
// would lose its target's libraries.
func TestBinaryBehindALinkInATreesOwnFolder(t *testing.T) {
	d := newDisk(t)
	real := d.file("build/e", elfHead, 0o755)
	link := filepath.Join(os.TempDir(), filepath.Base(d.dir)+"-"+filepath.Base(filepath.Dir(d.dir)))
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(link) })
	want := real
	if !personal(os.TempDir()) {
		want = link
	}
	if got := notLinked(link); got != want {
		t.Errorf("notLinked(%s) = %s, want %s", link, got, want)
	}
	if got := notLinked(real); got != real {
		t.Errorf("notLinked(%s) = %s", real, got)
	}
}

// TestBinaryBehindLinkedFolders: a link is followed as the kernel does it, whatever the folders
// above it are called.
func TestBinaryBehindLinkedFolders(t *testing.T) {
	if !personal(os.TempDir()) {
		t.Skip("the directory of temporary files is not one of which engines see single files")
	}
	d := newDisk(t)
	real := d.file("data/build/e", elfHead, 0o755)
	d.link(filepath.Join(d.dir, "data/build"), "cur")
	d.link(os.TempDir(), "home") // a folder that leads to one of which engines see single files
	for i, c := range []struct{ name, target, want string }{
		{"a_link_to_the_file", real, real},
		{"relative", "REAL/data/build/e", real},
		{"through_a_linked_folder", "REAL/cur/e", d.path("cur/e")},
		{"above_a_linked_folder", "REAL/cur/../build/e", real},
		{"dangling", "REAL/data/none", d.path("data/none")},
		{"through_a_folder_that_is_missing", "REAL/none/../data/build/e", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := fmt.Sprintf("%s-%s-%d", filepath.Base(filepath.Dir(d.dir)), filepath.Base(d.dir), i)
			link := filepath.Join(os.TempDir(), name)
			within, err := filepath.Rel(os.TempDir(), d.dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(strings.Replace(c.target, "REAL", within, 1), link); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Remove(link) })
			for _, binary := range []string{link, filepath.Join(d.path("home"), name)} {
				want := c.want
				if want == "" {
					want = binary
				}
				if got := notLinked(binary); got != want {
					t.Errorf("notLinked(%s) = %s, want %s", binary, got, want)
				}
			}
		})
	}
}

// TestLacking: what cannot be found is a failure that names it, what needs it, and where it was
// searched.
func TestLacking(t *testing.T) {
	d := newDisk(t)
	d.file("app/bin/e", elfHead, 0o755)
	d.file("app/lib64/libggml.so.0", elfHead, 0o644)
	by, closed := d.path("app/bin/e"), d.file("app/closed.so", elfHead, 0o640)
	cases := []struct {
		name       string
		m          programs.Missing
		says, hint string
	}{
		{"library", programs.Missing{Name: "libx.so.1", By: by, Searched: []string{"/opt/a", "/opt/b"}},
			"library libx.so.1, which " + by + " needs, was not found; searched: /opt/a, /opt/b, and the folders of the system",
			"LD_LIBRARY_PATH"},
		{"library_that_is_near", programs.Missing{Name: "libggml.so.0", By: by}, "searched: the folders of the system",
			"There is one in " + d.path("app/lib64")},
		{"library_of_the_driver", programs.Missing{Name: "libcuda.so.1", By: by}, "libcuda.so.1", "NVIDIA driver"},
		{"library_that_is_closed", programs.Missing{Name: "closed.so", By: by, Closed: closed}, closed + ", which " + by +
			" needs, has mode 0640: the engine's user cannot read it", "chmod o+rx"},
		{"loader", programs.Missing{Kind: programs.Loader, Name: "/lib/ld-musl-x86_64.so.1", By: by},
			"needs the dynamic loader /lib/ld-musl-x86_64.so.1", "build for this system"},
		{"interpreter_in_path", programs.Missing{Kind: programs.Interpreter, Name: "python3", By: by, Searched: []string{"/usr/bin"}},
			`needs the interpreter "python3", which is not in /usr/bin`, "PATH"},
		{"target_of_a_wrapper", programs.Missing{Kind: programs.Program, Name: "/opt/x/e", By: by},
			"script " + by + " executes /opt/x/e, which does not exist", "script"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pr := &Preparer{Log: slog.New(slog.DiscardHandler)}
			var f *registry.Failure
			err := pr.lacking(pool.Pool{ID: "a", Replicas: 1}, programs.Needs{Missing: []programs.Missing{c.m}})
			if !errors.As(err, &f) || f.Code != registry.CodeProvisionFailed || !strings.Contains(f.Message, c.says) ||
				!strings.Contains(f.Hint, c.hint) {
				t.Errorf("lacking = %v (%+v), want %q with the hint %q", err, f, c.says, c.hint)
			}
		})
	}
}
