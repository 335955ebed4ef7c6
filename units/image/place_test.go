package image

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPlace: a place is made where a path leads to with the image as the root, nowhere else, and
// what the image has there stays.
func TestPlace(t *testing.T) {
	above := t.TempDir()
	root := filepath.Join(above, "rootfs")
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "usr"), 0o755),
		os.MkdirAll(filepath.Join(above, "etc"), 0o755),
		os.WriteFile(filepath.Join(root, "usr/file"), []byte("kept"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"srv": above, "bin": "usr", "out": "../etc", "dangling": "/nowhere/x"} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := OpenTree(root)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for _, c := range []struct {
		path, at string
		folder   bool
		err      error
	}{
		{"/etc/hostname", "etc/hostname", false, nil},
		{"/etc/hostname", "etc/hostname", false, nil},
		{"/var/lib/engine", "var/lib/engine", true, nil},
		{"/bin/models/m.gguf", "usr/models/m.gguf", false, nil},
		{"/out/x", "etc/x", false, nil},
		{"/usr/file", "usr/file", false, nil},
		{"/usr/file/x", "", false, unix.ENOTDIR},
		{"/srv/models", "", true, unix.EEXIST}, // the link leads to what the image does not have
		{"/dangling", "", false, unix.EEXIST},
		{"/", ".", true, nil},
	} {
		err := tree.Place(c.path, c.folder)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.path, err, c.err)
		}
		if c.at == "" {
			continue
		}
		if info, err := os.Lstat(filepath.Join(root, c.at)); err != nil || info.IsDir() != c.folder {
			t.Errorf("%s: %v, %v", c.path, info, err)
		}
	}
	if data, err := os.ReadFile(filepath.Join(root, "usr/file")); string(data) != "kept" {
		t.Errorf("%q, %v", data, err)
	}
	if names, _ := filepath.Glob(filepath.Join(above, "*", "*")); len(names) != 7 { // etc is empty
		t.Errorf("%q", names)
	}
}
