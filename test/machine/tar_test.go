package machine

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestTarRoundTrip(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for name, mode := range map[string]fs.FileMode{"plain": 0o600, "sub/exe": 0o755} {
		path := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("plain", filepath.Join(from, "link")); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	err := writeTar(&archive, []File{
		{Guest: "/srv/tree", Host: from},
		{Guest: "/etc/data", Data: []byte("data"), Mode: 0o640},
		{Guest: "/etc/default"},
		{Guest: "/bin/exe", Host: filepath.Join(from, "sub/exe"), Mode: fs.ModeSetuid | 0o700},
	})
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, dir := range []string{"etc", "bin"} {
		if err := root.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unpackTar(bytes.NewReader(archive.Bytes()), root); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		"srv/tree/plain": 0o600, "srv/tree/sub/exe": 0o755, "srv/tree/link": fs.ModeSymlink | 0o777,
		"etc/data": 0o640, "etc/default": 0o644, "bin/exe": 0o700,
	} {
		if info, err := root.Lstat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: want %v, have %v %v", name, want, info, err)
		}
	}
	for r := tar.NewReader(&archive); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%s belongs to %d:%d %q", h.Name, h.Uid, h.Gid, h.Uname)
		}
		if h.Name == "bin/exe" && h.Mode != 0o4700 {
			t.Errorf("the setuid bit is lost: %o", h.Mode)
		}
	}
}

func TestUnpackStaysBelowItsRoot(t *testing.T) {
	outside := t.TempDir()
	for name, entries := range map[string][]tar.Header{
		"by_dots": {{Name: "../escaped", Typeflag: tar.TypeReg}},
		"by_link": {
			{Name: "way", Typeflag: tar.TypeSymlink, Linkname: outside},
			{Name: "way/escaped", Typeflag: tar.TypeReg},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var archive bytes.Buffer
			w := tar.NewWriter(&archive)
			for _, h := range entries {
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "in")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if err := unpackTar(&archive, root); err == nil {
				t.Error("no error")
			}
			for _, path := range []string{filepath.Join(outside, "escaped"), filepath.Join(dir, "../escaped")} {
				if _, err := os.Lstat(path); err == nil {
					t.Errorf("%s was written", path)
				}
			}
		})
	}
}
