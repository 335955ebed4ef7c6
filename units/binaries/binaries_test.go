package binaries

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// tree makes files, links ("name -> target") and folders ("name/") below a new folder, which it
// returns without links.
func tree(t *testing.T, entries ...string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name, target, link := strings.Cut(e, " -> ")
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case link:
			err = errors.Join(err, os.Symlink(strings.Replace(target, "DIR", dir, 1), path))
		case strings.HasSuffix(name, "/"):
			err = errors.Join(err, os.MkdirAll(path, 0o755))
		default:
			err = errors.Join(err, os.WriteFile(path, nil, 0o755))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestFollow: links lead where the kernel follows them, in folders and above them too.
func TestFollow(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []string
		path    string
		real    string
	}{
		{"a_file", []string{"a"}, "a", "a"},
		{"a_link", []string{"bin/a -> ../opt/a", "opt/a"}, "bin/a", "opt/a"},
		{"an_absolute_link", []string{"bin/a -> DIR/opt/a", "opt/a"}, "bin/a", "opt/a"},
		{"a_chain", []string{"a -> b", "b -> c", "c"}, "a", "c"},
		{"a_folder_that_is_a_link", []string{"bin -> usr/bin", "usr/bin/a"}, "bin/a", "usr/bin/a"},
		{"above_the_folder_that_was_reached", []string{"link -> x/y", "x/y/", "x/a"}, "link/../a", "x/a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tree(t, c.entries...)
			way, err := Follow(dir + "/" + c.path)
			if err != nil || way.Real != filepath.Join(dir, c.real) || way.Loose != "" {
				t.Errorf("%+v (%v), want %s", way, err, c.real)
			}
			if by, err := filepath.EvalSymlinks(dir + "/" + c.path); err != nil || by != way.Real {
				t.Errorf("the kernel finds %s (%v)", by, err)
			}
		})
	}
	dir := tree(t, "a -> b", "b -> a")
	if _, err := Follow(filepath.Join(dir, "a")); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a circle: %v", err)
	}
	if _, err := Follow(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestLoose: a link that others could have lead elsewhere is reported, by what lets them.
func TestLoose(t *testing.T) {
	for _, c := range []struct {
		name, open string
		mode       os.FileMode
		loose      string
	}{
		{"all_is_closed", "bin", 0o755, ""},
		{"its_folder_is_open", "bin", 0o777, "bin"},
		{"its_folder_is_open_to_the_group", "bin", 0o775, "bin"},
		{"a_folder_above_is_open", ".", 0o777, "."},
		{"only_owners_replace_what_is_in_it", "bin", 0o777 | os.ModeSticky, ""},
		{"the_folder_of_the_file_itself", "opt", 0o777, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tree(t, "bin/a -> ../opt/a", "opt/a")
			if err := os.Chmod(filepath.Join(dir, c.open), c.mode); err != nil {
				t.Fatal(err)
			}
			want := ""
			if c.loose != "" {
				want = filepath.Join(dir, c.loose)
			}
			if way, err := Follow(filepath.Join(dir, "bin/a")); err != nil || way.Loose != want {
				t.Errorf("%+v (%v), want %s", way, err, want)
			}
		})
	}
	t.Run("it_belongs_to_another_user", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root gives files away")
		}
		dir := tree(t, "bin/a -> ../opt/a", "opt/a")
		link := filepath.Join(dir, "bin/a")
		if err := os.Lchown(link, 1000, 1000); err != nil {
			t.Fatal(err)
		}
		if way, err := Follow(link); err != nil || way.Loose != link {
			t.Errorf("%+v (%v)", way, err)
		}
	})
}

// TestFind: a name is looked up where systemd looks, and a path is what it is.
func TestFind(t *testing.T) {
	if got := Find("/opt/../usr/bin/none"); got != "/usr/bin/none" {
		t.Errorf("a path becomes %q", got)
	}
	if got := Find("no-such-program-anywhere"); got != "" {
		t.Errorf("a missing name becomes %q", got)
	}
	if got := Find("env"); !strings.HasSuffix(got, "/bin/env") {
		t.Errorf("env is %q", got)
	}
}

// TestProgram: what a unit of the package executes is a program that root alone can change.
func TestProgram(t *testing.T) {
	for _, c := range []struct {
		name, path, open string
		mode             os.FileMode
		wrong, fix       string
	}{
		{"closed", "bin/a", "opt/a", 0o755, "", ""},
		{"a_script_of_the_group", "bin/a", "opt/a", 0o775, "can change it by DIR/opt/a", "chmod go-w 'DIR/opt/a'"},
		{"open_to_all", "opt/a", "opt/a", 0o757, "can change it by DIR/opt/a", "chmod go-w 'DIR/opt/a'"},
		{"its_folder_is_open", "opt/a", "opt", 0o777, "can change it by DIR/opt", "chmod go-w 'DIR/opt'"},
		{"the_folder_of_a_link_is_open", "bin/a", "bin", 0o777, "can change it by DIR/bin", "chmod go-w 'DIR/bin'"},
		{"not_executable", "bin/a", "opt/a", 0o644, "not executable", "chmod +x 'DIR/opt/a'"},
		{"a_folder", "opt", "opt", 0o755, "not a regular file", ""},
		{"nothing", "opt/b", "opt", 0o755, "no such file", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tree(t, "bin/a -> ../opt/a", "opt/a")
			if err := os.Chmod(filepath.Join(dir, c.open), c.mode); err != nil {
				t.Fatal(err)
			}
			wrong, fix := Program(filepath.Join(dir, c.path))
			want := strings.ReplaceAll(c.wrong, "DIR", dir)
			if (want == "") != (wrong == "") || !strings.Contains(wrong, want) ||
				fix != strings.ReplaceAll(c.fix, "DIR", dir) {
				t.Errorf("%q, %q; want %q, %q", wrong, fix, want, c.fix)
			}
		})
	}
}

// TestRecognised: the kernel has to know what a file is, and find the interpreter of a script.
func TestRecognised(t *testing.T) {
	for _, c := range []struct{ name, text, want, hint string }{
		{"program", "\x7fELF\x02\x01\x01", "", ""},
		{"script", "#!/bin/sh\nexec x\n", "", ""},
		{"by_env", "#! /usr/bin/env -S python3 -u\n", "", ""},
		{"long_line", "#!/usr/bin/env" + strings.Repeat(" ", 300), "", ""},
		{"text", "exec llama-server\n", "is neither a program nor a script", "file "},
		{"empty", "", "is neither a program nor a script", "file "},
		{"line_ends_of_windows", "#!/bin/sh\r\nexec x\r\n", "has the line ends of Windows", `sed -i 's/\r$//'`},
		{"after_an_option", "#!/usr/bin/env bash\r\n", "has the line ends of Windows", "sed -i"},
		{"in_the_second_line", "#!/bin/sh\nexec x\r\n", "", ""},
		{"without_a_path", "#!python3\n", `names its interpreter "python3" without a path`, "#!/usr/bin/env"},
		{"without_an_interpreter", "#!\nexec x\n", `names its interpreter "" without a path`, "#!/usr/bin/env"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "engine")
			if err := os.WriteFile(path, []byte(c.text), 0o755); err != nil {
				t.Fatal(err)
			}
			f := Recognised(path)
			if (f == nil) != (c.want == "") {
				t.Fatalf("%+v, want %q", f, c.want)
			}
			if f != nil && (!strings.Contains(f.Message, c.want) || !strings.Contains(f.Hint, c.hint)) {
				t.Errorf("%+v, want %q", f, c.want)
			}
		})
	}
}
