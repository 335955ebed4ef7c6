package unpack

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// FuzzLayer: whatever entries a layer has, nothing outside changes, and what is unpacked is plain.
// A line of the input is an entry: its kind, its name, and behind a tab its content, or what it
// leads to. A changed byte of an archive would only be a wrong checksum of a header.
func FuzzLayer(f *testing.F) {
	for _, lines := range []string{
		"0a/b\t1\n1c\ta/b\n2d\t/a", "2out\t..\n0out/outside\tx\n0out/.wh.outside", "0../outside\tx", "3dev/x", "3x",
		"0a/.wh..wh..opq\n5a", "5a\n2a/up\t../..\n0a/up/outside\tx", "2a\tb\n2b\ta\n0a/x\ty",
		"1a\t../outside\n0a\tx", "0a\tx\n5a\n0a/b\ty\n0a\tz", "2a\t/\n0a/.wh.outside",
		"0.wh..\n0.wh...\n0.wh.", "7a\tx\n6pipe\ngglobal", "5a\n2b\ta\n.wh.b\n0b/c\td",
	} {
		f.Add(lines)
	}
	f.Fuzz(mutate.Many(func(t *testing.T, lines string) {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		for line := range strings.SplitSeq(lines, "\n") {
			if line == "" {
				continue
			}
			name, rest, _ := strings.Cut(line[1:], "\t")
			h := tar.Header{Typeflag: line[0], Name: name, Linkname: rest, Mode: 0o6777}
			if h.Typeflag == tar.TypeReg {
				h.Linkname, h.Size = "", int64(len(rest))
			}
			if w.WriteHeader(&h) != nil { // archives have no such entry
				continue
			}
			if _, err := w.Write([]byte(rest)[:h.Size]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		staysInside(t, out.Bytes())
	}))
}

// FuzzArchive: the same, whatever bytes a layer has.
func FuzzArchive(f *testing.F) {
	for _, entries := range [][]tar.Header{
		{file("a/b", "1"), hard("c", "a/b"), symlink("d", "/a")},
		{symlink("out", ".."), file("out/outside", "x"), file("out/.wh.outside", "")},
		{special(tar.TypeChar, "dev/x")},
	} {
		f.Add(archive(f, entries...))
	}
	f.Add([]byte{0x1f, 0x8b})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd})
	f.Fuzz(mutate.Many(staysInside))
}

// staysInside applies a layer twice, and looks at what it left.
func staysInside(t *testing.T, layer []byte) {
	p := placeIn(t, inMemory(t), Limits{Bytes: 1 << 20, Entries: 100})
	whole := true
	for range 2 {
		_, err := p.root.Layer(t.Context(), bytes.NewReader(layer)) // an error is as good
		whole = whole && err == nil
	}
	entries, err := os.ReadDir(filepath.Dir(p.dir))
	if err != nil || len(entries) != 2 {
		t.Fatalf("beside the root: %v, %v", entries, err)
	}
	err = filepath.WalkDir(p.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		mode := info.Mode()
		partial := !whole && mode == 0o600 // the file in which the layer broke; the image is removed
		if mode.Type()&^(fs.ModeDir|fs.ModeSymlink) != 0 || mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 ||
			mode.Type() == 0 && mode.Perm() != 0o644 && mode.Perm() != 0o755 && !partial {
			t.Errorf("%s: %v", name, mode)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.tree(t)
}

// inMemory returns a directory in memory, where the host has one: it is made for each input, and on
// a disk that takes five times as long as all else.
func inMemory(t *testing.T) string {
	const shared = "/dev/shm"
	dir, err := os.MkdirTemp(shared, "unpack-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
