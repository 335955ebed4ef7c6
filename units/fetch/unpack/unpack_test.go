package unpack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

func file(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), Linkname: content,
		ModTime: time.Unix(1_700_000_000, 0)}
}

func folder(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o700}
}

func symlink(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}

func hard(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
}

func special(kind byte, name string) tar.Header { return tar.Header{Typeflag: kind, Name: name} }

// archive makes a layer. A file's content is its Linkname.
func archive(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range entries {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content, h.Linkname = h.Linkname, ""
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// place is a root with a file beside it that no layer may change.
type place struct {
	root    *Root
	dir     string
	outside string
}

func newPlace(t testing.TB, l Limits) place {
	t.Helper()
	return placeIn(t, t.TempDir(), l)
}

func placeIn(t testing.TB, above string, l Limits) place {
	t.Helper()
	p := place{dir: filepath.Join(above, "root"), outside: filepath.Join(above, "outside")}
	if err := errors.Join(os.Mkdir(p.dir, 0o755), os.WriteFile(p.outside, []byte("untouched"), 0o600)); err != nil {
		t.Fatal(err)
	}
	root, err := Open(p.dir, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(root.Close)
	p.root = root
	return p
}

// tree returns what is in the root: a file's mode and content, or what a link says.
func (p place) tree(t testing.TB) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(p.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == p.dir {
			return err
		}
		short, _ := strings.CutPrefix(name, p.dir+"/")
		switch info, err := e.Info(); {
		case err != nil:
			return err
		case e.IsDir():
			all[short+"/"] = info.Mode().String()
		case e.Type() == fs.ModeSymlink:
			to, err := os.Readlink(name)
			all[short] = "-> " + to
			return err
		default:
			text, err := os.ReadFile(name)
			all[short] = info.Mode().String() + " " + string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(p.outside); err != nil || string(text) != "untouched" {
		t.Errorf("the file beside the root is %q (%v)", text, err)
	}
	return all
}

// TestLayers: what several layers leave, the lowest first.
func TestLayers(t *testing.T) {
	const d = "drwxr-xr-x"
	suid := file("su", "x")
	suid.Mode = 0o6755
	closed := file("closed", "x")
	closed.Mode = 0o400
	for name, c := range map[string]struct {
		layers [][]tar.Header
		want   map[string]string
	}{
		"files_and_folders": {
			[][]tar.Header{{folder("etc"), file("./etc/a", "1"), file("/usr/bin/b", "2")}},
			map[string]string{"etc/": d, "etc/a": "-rw-r--r-- 1", "usr/": d, "usr/bin/": d, "usr/bin/b": "-rw-r--r-- 2"},
		},
		"modes": {
			[][]tar.Header{{suid, closed}},
			map[string]string{"su": "-rwxr-xr-x x", "closed": "-rw-r--r-- x"},
		},
		"upper_layer_replaces": {
			[][]tar.Header{
				{file("a", "1"), folder("b"), file("b/x", "1"), file("c", "1"), folder("d"), file("d/x", "1")},
				{file("a", "2"), file("b", "2"), folder("c"), folder("d")},
			},
			map[string]string{"a": "-rw-r--r-- 2", "b": "-rw-r--r-- 2", "c/": d, "d/": d, "d/x": "-rw-r--r-- 1"},
		},
		"whiteout": {
			[][]tar.Header{
				{file("a", "1"), file("b/c/d", "1"), file("e", "1")},
				{file(".wh.a", ""), file("b/.wh.c", ""), file("none/.wh.f", ""), file(".wh..wh.plnk", "")},
			},
			map[string]string{"b/": d, "e": "-rw-r--r-- 1"},
		},
		"opaque_folder": {
			[][]tar.Header{
				{file("a/1", "1"), file("a/b/2", "1"), file("a/c/3", "1")},
				{file("a/c/4", "2"), file("a/.wh..wh..opq", ""), file("a/5", "2")},
			},
			map[string]string{"a/": d, "a/5": "-rw-r--r-- 2", "a/c/": d, "a/c/4": "-rw-r--r-- 2"},
		},
		"hard_link": {
			[][]tar.Header{{file("a", "1"), hard("b/c", "a"), hard("a", "./a")}},
			map[string]string{"a": "-rw-r--r-- 1", "b/": d, "b/c": "-rw-r--r-- 1"},
		},
		"hard_link_over_itself": {
			[][]tar.Header{{file("a", "1"), hard("b", "/a")}, {hard("b", "a")}},
			map[string]string{"a": "-rw-r--r-- 1", "b": "-rw-r--r-- 1"},
		},
		"links_are_kept_as_they_are": {
			[][]tar.Header{{symlink("lib", "usr/lib"), symlink("sh", "/bin/bash"), symlink("out", "../../outside")}},
			map[string]string{"lib": "-> usr/lib", "sh": "-> /bin/bash", "out": "-> ../../outside"},
		},
		"written_through_a_link_inside": {
			[][]tar.Header{{folder("usr/lib"), symlink("lib", "usr/lib"), symlink("var/run", "/run")},
				{file("lib/x", "1"), file("var/run/y", "2")}},
			map[string]string{"lib": "-> usr/lib", "usr/": d, "usr/lib/": d, "usr/lib/x": "-rw-r--r-- 1",
				"var/": d, "var/run": "-> /run", "run/": d, "run/y": "-rw-r--r-- 2"},
		},
		"written_through_a_link_that_leads_out": {
			[][]tar.Header{{symlink("out", ".."), symlink("up", "../../.."), symlink("abs", "/")},
				{file("out/outside", "1"), file("up/a", "2"), file("abs/b", "3")}},
			map[string]string{"out": "-> ..", "up": "-> ../../..", "abs": "-> /", "outside": "-rw-r--r-- 1",
				"a": "-rw-r--r-- 2", "b": "-rw-r--r-- 3"},
		},
		"a_file_in_the_place_of_a_link": {
			[][]tar.Header{{symlink("a", "../outside")}, {file("a", "1")}},
			map[string]string{"a": "-rw-r--r-- 1"},
		},
		"whiteout_through_a_link": {
			[][]tar.Header{{symlink("out", "..")}, {file("out/.wh.outside", "")}},
			map[string]string{"out": "-> .."},
		},
		"devices_of_old_images": {
			[][]tar.Header{{special(tar.TypeChar, "dev/null"), special(tar.TypeFifo, "run/initctl")}},
			map[string]string{"dev/": d, "run/": d},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, Limits{})
			for _, entries := range c.layers {
				if _, err := p.root.Layer(t.Context(), bytes.NewReader(archive(t, entries...))); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(c.want, p.tree(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestTimes: Python compares them.
func TestTimes(t *testing.T) {
	p := newPlace(t, Limits{})
	if _, err := p.root.Layer(t.Context(), bytes.NewReader(archive(t, file("a.py", "x")))); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(p.dir, "a.py")); err != nil || info.ModTime().Unix() != 1_700_000_000 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestHostileLayers: each is refused, and leaves nothing outside.
func TestHostileLayers(t *testing.T) {
	huge := file("a", "1234567890")
	for name, c := range map[string]struct {
		entries []tar.Header
		limits  Limits
		why     string
	}{
		"parent":                {[]tar.Header{file("../outside", "x")}, Limits{}, `"../outside" leads out of the image`},
		"parent_in_the_middle":  {[]tar.Header{file("a/../../outside", "x")}, Limits{}, "leads out of the image"},
		"link_to_the_outside":   {[]tar.Header{hard("a", "../outside")}, Limits{}, `link to "../outside", which leads out`},
		"link_through_a_link":   {[]tar.Header{symlink("l", ".."), hard("a", "l/outside")}, Limits{}, "which no layer has"},
		"link_to_an_abs_path":   {[]tar.Header{hard("a", "/etc/passwd")}, Limits{}, "which no layer has"},
		"link_to_a_folder":      {[]tar.Header{folder("d"), hard("a", "d")}, Limits{}, "which is no file"},
		"device":                {[]tar.Header{special(tar.TypeBlock, "sda")}, Limits{}, `"sda" is a device`},
		"device_as_dev":         {[]tar.Header{special(tar.TypeChar, "dev")}, Limits{}, "is a device"},
		"whiteout_of_parent":    {[]tar.Header{file("a/.wh...", "")}, Limits{}, "removes no file"},
		"whiteout_of_itself":    {[]tar.Header{file("a/x", ""), file("a/.wh..", "")}, Limits{}, "removes no file"},
		"below_a_whiteout":      {[]tar.Header{file(".wh.a/b", "")}, Limits{}, "is below a whiteout"},
		"folder_is_a_file":      {[]tar.Header{file("a", ""), file("a/b", "")}, Limits{}, "is no folder"},
		"links_in_a_ring":       {[]tar.Header{symlink("a", "b"), symlink("b", "a"), file("a/c", "")}, Limits{}, "leads to itself"},
		"links_without_an_end":  {[]tar.Header{symlink("a", "a/a"), file("a/c", "")}, Limits{}, "leads to itself"},
		"empty_link":            {[]tar.Header{symlink("a", strings.Repeat("x", 5000))}, Limits{}, "leads nowhere"},
		"unknown_kind":          {[]tar.Header{special('Z', "a")}, Limits{}, "unknown kind"},
		"long_path":             {[]tar.Header{file(strings.Repeat("a/", 3000)+"b", "")}, Limits{}, "too long"},
		"long_name":             {[]tar.Header{file(strings.Repeat("a", 256), "")}, Limits{}, "too long"},
		"deep":                  {[]tar.Header{file(strings.Repeat("a/", 200)+"b", "")}, Limits{}, "too deep"},
		"more_bytes_than_may":   {[]tar.Header{huge}, Limits{Bytes: 9}, "the image may have 9 bytes"},
		"more_entries_than_may": {[]tar.Header{file("a", ""), file("b", "")}, Limits{Entries: 1}, "more than 1 entries"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, c.limits)
			_, err := p.root.Layer(t.Context(), bytes.NewReader(archive(t, c.entries...)))
			var refused *Refused
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%v, want %q", err, c.why)
			}
			p.tree(t)
		})
	}
}

// TestBomb: a layer of a few kilobytes that unpacks to gigabytes is refused long before.
func TestBomb(t *testing.T) {
	const size = 64 << 20
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bomb", Mode: 0o644, Size: size}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t, Limits{Slack: 8 << 20})
	_, err = p.root.Layer(t.Context(), bytes.NewReader(packed.Bytes()))
	var refused *Refused
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "unpacks to more than") {
		t.Errorf("%v", err)
	}
	if p.root.Bytes > 16<<20 {
		t.Errorf("%d bytes were written", p.root.Bytes)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestCompressions: the digest is that of the archive, however it is compressed.
func TestCompressions(t *testing.T) {
	plain := archive(t, file("a", "1"))
	var gz, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	z, err := zstd.NewWriter(&zs)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []io.WriteCloser{g, z} {
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var digests []string
	for _, layer := range [][]byte{plain, gz.Bytes(), zs.Bytes()} {
		p := newPlace(t, Limits{})
		d, err := p.root.Layer(t.Context(), bytes.NewReader(layer))
		if err != nil || p.tree(t)["a"] == "" {
			t.Fatal(err)
		}
		digests = append(digests, d)
	}
	if digests[0] != digests[1] || digests[0] != digests[2] || len(digests[0]) != len("sha256:")+64 {
		t.Errorf("%q", digests)
	}
	for name, layer := range map[string][]byte{
		"cut":           gz.Bytes()[:gz.Len()/2],
		"cut_plain":     plain[:512],
		"gzip_in_name":  {0x1f, 0x8b, 0, 0},
		"zstd_in_name":  {0x28, 0xb5, 0x2f, 0xfd, 0xff},
		"no_archive":    bytes.Repeat([]byte("x"), 2048),
		"tail_too_long": append(bytes.Clone(plain), make([]byte, mostTrailing)...),
	} {
		var refused *Refused
		if _, err := newPlace(t, Limits{}).root.Layer(t.Context(), bytes.NewReader(layer)); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestErrorsAreKept: what is not the layer's fault is not said to be.
func TestErrorsAreKept(t *testing.T) {
	layer := archive(t, file("a", strings.Repeat("x", 1<<20)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newPlace(t, Limits{}).root.Layer(ctx, bytes.NewReader(layer)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	broken := io.MultiReader(bytes.NewReader(layer[:1000]), failing{})
	if _, err := newPlace(t, Limits{}).root.Layer(t.Context(), broken); !errors.Is(err, unix.EIO) {
		t.Errorf("a disk that fails: %v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, unix.EIO }
