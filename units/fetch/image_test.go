package fetch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/test/hub"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/image"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

const indexType = "application/vnd.oci.image.index.v1+json"

// layerOf packs files by their path.
func layerOf(t *testing.T, entries ...*tar.Header) (plain, packed []byte) {
	t.Helper()
	var out, gz bytes.Buffer
	w := tar.NewWriter(&out)
	for _, entry := range entries {
		h := new(*entry)
		content := h.Linkname
		if h.Typeflag == tar.TypeReg {
			h.Linkname, h.Size = "", int64(len(content))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(&gz)
	if _, err := z.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), gz.Bytes()
}

func digestOf(data []byte) string { return "sha256:" + hub.Bytes("", data, true).SHA256() }

func regular(name, content string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Linkname: content}
}

// picture is an image in a registry.
type picture struct {
	layers [][]*tar.Header
	arch   string   // "": this host's
	diffs  []string // "": those of the layers
	index  bool     // behind a list
}

// push puts an image into the registry as v1, and returns the digest of what the tag names.
func (p picture) push(s *shelf) string {
	s.t.Helper()
	if p.arch == "" {
		p.arch = runtime.GOARCH
	}
	var layers []layer
	diffs := p.diffs
	for _, entries := range p.layers {
		plain, packed := layerOf(s.t, entries...)
		layers = append(layers, s.blob(ociLayer+"+gzip", "", packed))
		if p.diffs == nil {
			diffs = append(diffs, digestOf(plain))
		}
	}
	config, err := json.Marshal(map[string]any{"architecture": p.arch, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/app/server"}, "Env": []string{"PATH=/app:/usr/bin", "A=b"},
			"WorkingDir": "/app"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}})
	if err != nil {
		s.t.Fatal(err)
	}
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	manifest, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": mediaType,
		"config": s.blob(ociConfig, "", config), "layers": layers})
	if err != nil {
		s.t.Fatal(err)
	}
	digest := digestOf(manifest)
	if !p.index {
		s.put("v1", mediaType, manifest)
		return digest
	}
	s.put(digest, mediaType, manifest)
	platform := func(arch string) map[string]string { return map[string]string{"os": "linux", "architecture": arch} }
	list, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": []map[string]any{
		{"mediaType": mediaType, "digest": digestOf([]byte("other")), "size": 5, "platform": platform("s390x")},
		{"mediaType": mediaType, "digest": digest, "size": len(manifest), "platform": platform(p.arch)},
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.put(digestOf([]byte("other")), mediaType, []byte("other"))
	s.put("v1", indexType, list)
	return digestOf(list)
}

func (s *shelf) put(name, mediaType string, data []byte) {
	s.t.Helper()
	if _, err := s.Manifest("ai/m", name, mediaType, data); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) imageSite(t *testing.T, suffix string) (*site, wire.Request) {
	at, r := s.site(":v1")
	ref := strings.Replace(strings.TrimSuffix(r.Ref, ":v1"), "oci:", "image:", 1) + suffix
	parsed, err := modelref.Parse(ref)
	if err != nil {
		t.Fatal(err)
	}
	r.Ref, r.Directory = ref, parsed.Directory()
	return at, r
}

// TestImage: an image is unpacked, for this host's architecture, and nothing else is left.
func TestImage(t *testing.T) {
	layers := [][]*tar.Header{
		{regular("app/server", "v1"), regular("etc/old", "x")},
		{regular("app/server", "v2"), regular("etc/.wh.old", "")},
		{}, {}, // of instructions that change no file
	}
	for name, index := range map[string]bool{"one_architecture": false, "list": true} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			digest := picture{layers: layers, index: index}.push(s)
			at, r := s.imageSite(t, ":v1")
			got := at.fetch(t.Context(), r, Options{}, quick()).result(t)
			dir := filepath.Join(at.cache, r.Directory, "snapshots", digest[len("sha256:"):][:40])
			if got.Path != dir || !got.In(r) {
				t.Errorf("the result is in %s, not in %s", got.Path, dir)
			}
			info, err := image.Read(dir)
			want := image.Info{Format: 1, Ref: r.Ref, Digest: digest, Architecture: runtime.GOARCH,
				Entrypoint: []string{"/app/server"}, Env: []string{"PATH=/app:/usr/bin", "A=b"}, WorkingDir: "/app",
				Bytes: 5, Entries: 4}
			if diff := cmp.Diff(want, info); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
			if text, err := os.ReadFile(filepath.Join(dir, "rootfs/app/server")); string(text) != "v2" {
				t.Errorf("/app/server is %q (%v)", text, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "rootfs/etc/old")); err == nil {
				t.Error("a file that an upper layer removed is there")
			}
			left, _ := filepath.Glob(filepath.Join(at.cache, r.Directory, "*", "*"))
			if len(left) != 2 { // the snapshot, and the tag
				t.Errorf("left: %q", left)
			}
			if text, err := os.ReadFile(filepath.Join(at.cache, r.Directory, "refs/v1")); string(text) != got.Commit {
				t.Errorf("the tag means %q (%v), not %s", text, err, got.Commit)
			}
			again := at.fetch(t.Context(), r, Options{}, quick()).result(t)
			if again.Path != got.Path || again.Bytes != 0 {
				t.Errorf("once more: %+v", again)
			}
		})
	}
}

// TestImageRefused: an image that is not unpacked leaves nothing that counts as one.
func TestImageRefused(t *testing.T) {
	good := [][]*tar.Header{{regular("app/server", "v1")}}
	for name, c := range map[string]struct {
		picture
		ref    string
		reason wire.Reason
		what   string
	}{
		"hostile_layer": {picture{layers: append(good, []*tar.Header{regular("../../outside", "x")})}, ":v1",
			wire.BadImage, `has a layer (2 of 2) that is not unpacked: "../../outside" leads out of the image`},
		"other_architecture": {picture{layers: good, arch: "s390x"}, ":v1", wire.BadImage, "is for linux/s390x"},
		"not_in_the_list":    {picture{layers: good, arch: "riscv64", index: true}, ":v1", wire.NotFound, "not there for linux/"},
		"other_content": {picture{layers: good, diffs: []string{digestOf(nil)}}, ":v1", wire.DigestMismatch,
			"layer 1 of"},
		"fewer_layers": {picture{layers: good, diffs: []string{}}, ":v1", wire.BadImage, "1 layers, and a configuration for 0"},
		"no_such_tag":  {picture{layers: good}, ":v2", wire.NotFound, "does not exist"},
		"wrong_digest": {picture{layers: good}, "@" + digestOf([]byte("x")), wire.NotFound, "does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			c.push(s)
			at, r := s.imageSite(t, c.ref)
			at.fetch(t.Context(), r, Options{}, quick()).failed(t, c.reason, c.what)
			left, _ := filepath.Glob(filepath.Join(at.cache, r.Directory, "snapshots", "*", "rootfs"))
			if len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			if _, err := os.Stat(filepath.Join(at.cache, "outside")); err == nil {
				t.Error("a layer wrote outside")
			}
		})
	}
	t.Run("a_model", func(t *testing.T) {
		s := newShelf(t)
		s.tag(packConfig, s.blob(pack+"v1.raw", "x.gguf", []byte("x")))
		at, r := s.imageSite(t, ":v1")
		at.fetch(t.Context(), r, Options{}, quick()).failed(t, wire.BadRequest, "is no container image")
	})
}

// TestImageKilled: what a run that was killed while it unpacked has left is no image, and is
// replaced.
func TestImageKilled(t *testing.T) {
	s := newShelf(t)
	digest := picture{layers: [][]*tar.Header{{regular("app/server", "v1")}}}.push(s)
	at, r := s.imageSite(t, ":v1")
	half := filepath.Join(at.cache, r.Directory, "snapshots", modelref.CommitOf(digest)+imageNew, "rootfs/app")
	if err := os.MkdirAll(half, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half, "half"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	got := at.fetch(t.Context(), r, Options{}, quick()).result(t)
	if entries, err := os.ReadDir(filepath.Join(got.Path, "rootfs/app")); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}
