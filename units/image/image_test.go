package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestTree: paths lead to where they lead for a program in the image.
func TestTree(t *testing.T) {
	above := t.TempDir()
	root := filepath.Join(above, "rootfs")
	for name, text := range map[string]string{"rootfs/usr/bin/a": "in usr", "rootfs/opt/x/b": "in opt",
		"outside": "secret"} {
		at := filepath.Join(above, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"bin": "usr/bin", "abs": "/opt/x", "up": "../../..", "out": "../outside",
		"opt/x/back": "../../usr", "ring": "ring", "far": above + "/outside", "none": "/nowhere/x"} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := OpenTree(root)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for name, want := range map[string]any{
		"/usr/bin/a": "in usr", "usr//bin/./a": "in usr", "/bin/a": "in usr", "/abs/b": "in opt", "/up/usr/bin/a": "in usr",
		"/up/bin/../bin/a": "in usr", "/opt/x/back/bin/a": "in usr", "/../../usr/bin/a": "in usr",
		"/out": fs.ErrNotExist, "/up/outside": fs.ErrNotExist, "/far": fs.ErrNotExist, "/none": fs.ErrNotExist,
		"/ring": unix.ELOOP, "/usr/bin/a/b": unix.ENOTDIR, "/no": fs.ErrNotExist,
	} {
		text, err := tree.Head(name, 100)
		switch want := want.(type) {
		case error:
			if !errors.Is(err, want) {
				t.Errorf("%s: %q, %v, want %v", name, text, err, want)
			}
		case string:
			if string(text) != want || err != nil {
				t.Errorf("%s: %q, %v, want %q", name, text, err, want)
			}
		}
	}
	if info, err := tree.Stat("/"); err != nil || !info.IsDir() {
		t.Errorf("/: %v, %v", info, err)
	}
}

// TestInfo: what is written is read again, and what cannot be used is not.
func TestInfo(t *testing.T) {
	good := Info{Format: 1, Digest: "sha256:" + strings.Repeat("0a", 32), Entrypoint: []string{"/a"},
		Env: []string{"A=b=c", "EMPTY=", "none", "=x"}, Bytes: 1}
	data, err := good.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(data []byte) {
		if err := os.WriteFile(filepath.Join(dir, FileName), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(data)
	got, err := Read(dir)
	if diff := cmp.Diff(good, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if diff := cmp.Diff(map[string]string{"A": "b=c", "EMPTY": ""}, got.Variables()); diff != "" {
		t.Error(diff)
	}
	if Short(got.Digest) != "sha256:0a0a0a0a0a0a" {
		t.Error(Short(got.Digest))
	}
	for what, change := range map[string]func(*Info){
		"digest":  func(i *Info) { i.Digest = "sha256:x" },
		"size":    func(i *Info) { i.Bytes = -1 },
		"NUL":     func(i *Info) { i.Entrypoint = []string{"a\x00b"} },
		"no UTF8": func(i *Info) { i.WorkingDir = "\xff" },
		"long":    func(i *Info) { i.Env = []string{strings.Repeat("x", mostText+1)} },
		"many":    func(i *Info) { i.Env = make([]string, mostVariables+1) },
	} {
		i := good
		change(&i)
		if _, err := i.Marshal(); err == nil {
			t.Errorf("%s: is written", what)
		}
	}
	for what, text := range map[string]string{"none": "{}", "no_json": "x", "later": `{"format":2}`,
		"long": strings.Repeat(" ", maxFile+1)} {
		write([]byte(text))
		if _, err := Read(dir); err == nil {
			t.Errorf("%s: is read", what)
		}
	}
}
