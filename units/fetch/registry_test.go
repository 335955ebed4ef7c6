package fetch

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/hub"
	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// shelf is the imitation of a registry, of which a test puts models into ai/m.
type shelf struct {
	*hub.Registry
	t *testing.T
}

func newShelf(t *testing.T) *shelf {
	s := &shelf{hub.NewRegistry(), t}
	s.Base = serve(t, "registry.localhost", s)
	return s
}

// elsewhere serves blobs on another host.
func (s *shelf) elsewhere() { s.CDN = serve(s.t, "cdn.test", s.CDNHandler()) }

// blob puts a blob into the registry, and returns it as a layer of a manifest.
func (s *shelf) blob(mediaType, name string, data []byte) layer {
	s.t.Helper()
	digest, err := s.Blob("ai/m", data)
	if err != nil {
		s.t.Fatal(err)
	}
	l := layer{MediaType: mediaType, Digest: digest, Size: int64(len(data))}
	if name != "" {
		l.Annotations = map[string]string{fileName: name}
	}
	return l
}

// tag puts a manifest into the registry.
func (s *shelf) tag(config string, layers ...layer) (digest string) {
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	data, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": mediaType,
		"config": s.blob(config, "", []byte("{}")), "layers": layers})
	if err != nil {
		s.t.Fatal(err)
	}
	if digest, err = s.Manifest("ai/m", "v1", mediaType, data); err != nil {
		s.t.Fatal(err)
	}
	return digest
}

func (s *shelf) site(ref string) (*site, wire.Request) {
	ref = "oci:" + strings.TrimPrefix(s.Base, "http://") + "/ai/m" + ref
	parsed, err := modelref.Parse(ref)
	if err != nil {
		s.t.Fatal(err)
	}
	at := &site{cache: s.t.TempDir()}
	local := []string{"127.0.0.1"}
	return at, wire.Request{Version: 1, Ref: ref, CacheDir: at.cache, Directory: parsed.Directory(), Connections: 4,
		Hosts: map[string][]string{"registry.localhost": local, "cdn.test": local}}
}

const (
	docker = "application/vnd.docker.ai."
	pack   = "application/vnd.cncf.model.weight."
)

// TestRegistry: models of both types come out of a registry as files.
func TestRegistry(t *testing.T) {
	weights, more, small := hub.Data(1, 200_000), hub.Data(2, 90_000), []byte("text")
	for name, c := range map[string]struct {
		config string
		layers func(*shelf) []layer
		open   string
		files  map[string][]byte
	}{
		"modelpack": {packConfig, func(s *shelf) []layer {
			return []layer{s.blob(pack+"v1.raw", "model.safetensors", weights),
				s.blob(pack+"config.v1.raw", "sub/config.json", small)}
		}, "", map[string][]byte{"model.safetensors": weights, "sub/config.json": small}},
		"docker_gguf": {docker + "model.config.v0.1+json", func(s *shelf) []layer {
			return []layer{s.blob(docker+"gguf.v3", "", weights), s.blob(docker+"license", "", small),
				s.blob(docker+"gguf.v3.mmproj", "", more)}
		}, "model.gguf", map[string][]byte{"model.gguf": weights, "LICENSE": small, "mmproj.gguf": more}},
		"docker_parts": {docker + "model.config.v0.1+json", func(s *shelf) []layer {
			return []layer{s.blob(docker+"gguf.v3", "", weights), s.blob(docker+"gguf.v3", "", more)}
		}, "model-00001-of-00002.gguf", map[string][]byte{"model-00001-of-00002.gguf": weights,
			"model-00002-of-00002.gguf": more}},
		"docker_named": {docker + "model.config.v0.2+json", func(s *shelf) []layer {
			return []layer{s.blob(docker+"model.file", "config.json", small),
				s.blob(docker+"safetensors", "model.safetensors", weights)}
		}, "", map[string][]byte{"config.json": small, "model.safetensors": weights}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			digest := s.tag(c.config, c.layers(s)...)
			at, r := s.site(":v1")
			got := at.fetch(t.Context(), r, Options{}, quick()).result(t)
			snapshot := filepath.Join(at.cache, r.Directory, "snapshots", digest[len("sha256:"):][:40])
			if got.Path != filepath.Join(snapshot, c.open) || got.Files != len(c.files) {
				t.Errorf("result %+v", got)
			}
			for file, data := range c.files {
				same(t, snapshot, hub.Bytes(file, data, true))
			}
			at.clean(t, r.Directory)
			r.Ref = strings.TrimSuffix(r.Ref, ":v1") + "@" + digest
			r.Hosts = nil // what is there needs no network
			if again := at.fetch(t.Context(), r, Options{}, quick()).result(t); again.Path != got.Path {
				t.Errorf("by its digest: %+v", again)
			}
		})
	}
}

// TestRegistryTokens: a token is fetched with the credentials, renewed when it expires in mid-file,
// and reaches no other host.
func TestRegistryTokens(t *testing.T) {
	for _, cdn := range []bool{false, true} {
		s := newShelf(t)
		data := hub.Data(1, 500_000)
		s.tag(packConfig, s.blob(pack+"v1.raw", "x.gguf", data))
		s.Auth, s.Tokens = "user:pass", 4
		if cdn {
			s.elsewhere()
		}
		at, r := s.site(":v1")
		at.fetch(t.Context(), r, Options{}, quick()).failed(t, wire.Unauthorized, "does not exist, or may not be read")
		host := strings.TrimPrefix(s.Base, "http://")
		auth := `{"auths":{"` + host + `":{"auth":"dXNlcjpwYXNz"}}}`
		got := at.fetch(t.Context(), r, Options{Secrets: Secrets{Registry: auth}}, quick()).result(t)
		same(t, filepath.Dir(got.Path), hub.Bytes("x.gguf", data, true))
		if len(s.Leaks()) > 0 {
			t.Errorf("a token reached the other host: %q", s.Leaks())
		}
		if cdn && s.Given() > 3 || !cdn && s.Given() < 2 {
			t.Errorf("other host %v: %d tokens", cdn, s.Given())
		}
	}
}

// TestRegistryRefuses: what is no model, or not there, is named.
func TestRegistryRefuses(t *testing.T) {
	raw := pack + "v1.raw"
	for name, c := range map[string]struct {
		config string
		layers func(*shelf) []layer
		ref    string
		auth   string
		reason wire.Reason
		part   string
	}{
		"no_tag":     {ref: ":v2", reason: wire.NotFound, part: ":v2 does not exist"},
		"an_image":   {config: "application/vnd.oci.image.config.v1+json", reason: wire.BadRequest, part: "is no model"},
		"packed":     {layers: func(s *shelf) []layer { return []layer{s.blob(pack+"v1.tar", "x", []byte("x"))} }, reason: wire.BadRequest, part: "is packed"},
		"climbs":     {layers: func(s *shelf) []layer { return []layer{s.blob(raw, "../x", []byte("x"))} }, reason: wire.BadAnswer, part: "cannot be files"},
		"twice":      {layers: func(s *shelf) []layer { return []layer{s.blob(raw, "x", []byte("x")), s.blob(raw, "x", []byte("y"))} }, reason: wire.BadAnswer, part: "cannot be files"},
		"empty":      {layers: func(*shelf) []layer { return nil }, reason: wire.NotFound, part: "has no files"},
		"bad_auth":   {auth: "{", reason: wire.BadRequest, part: "auth.json"},
		"bad_digest": {ref: "@sha256:" + strings.Repeat("0", 64), reason: wire.NotFound, part: "does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			if c.config == "" {
				c.config = packConfig
			}
			if c.layers == nil {
				c.layers = func(s *shelf) []layer { return []layer{s.blob(raw, "x.gguf", []byte("x"))} }
			}
			s.tag(c.config, c.layers(s)...)
			if c.ref == "" {
				c.ref = ":v1"
			}
			at, r := s.site(c.ref)
			at.fetch(t.Context(), r, Options{Secrets: Secrets{Registry: c.auth}}, quick()).failed(t, c.reason, c.part)
		})
	}
	s := newShelf(t)
	s.tag(packConfig, s.blob(raw, "x.gguf", []byte("x")))
	at, r := s.site(":v1")
	delete(r.Hosts, "registry.localhost")
	at.fetch(t.Context(), r, Options{}, quick()).failed(t, wire.HostDenied, "registry.localhost")
}

// TestTokensFromAnotherHost: the host that a registry names for its tokens has to be allowed, too,
// as the one that it redirects to for blobs has.
func TestTokensFromAnotherHost(t *testing.T) {
	s := newShelf(t)
	s.tag(packConfig, s.blob(pack+"v1.raw", "x.gguf", []byte("GGUF")))
	s.elsewhere()
	s.Auth = "user:secret"
	s.Realm = serve(t, "auth.test", s)
	o := Options{Secrets: Secrets{Registry: `{"auths":{"` + strings.TrimPrefix(s.Base, "http://") + `":{"auth":"dXNlcjpzZWNyZXQ="}}}`}}
	at, r := s.site(":v1")
	for _, host := range []string{"auth.test", "cdn.test"} {
		delete(r.Hosts, host)
		if f := at.fetch(t.Context(), r, o, quick()).failed(t, wire.HostDenied, host); f.Host != host {
			t.Errorf("it names %q, not %s", f.Host, host)
		}
		r.Hosts[host] = []string{"127.0.0.1"}
	}
	at.fetch(t.Context(), r, o, quick()).result(t)
	if len(s.Leaks()) > 0 {
		t.Errorf("the token reached the other host: %q", s.Leaks())
	}
}

// FuzzArtifact: whatever a registry sends, each file of it stays below its snapshot and has a
// digest.
func FuzzArtifact(f *testing.F) {
	f.Add([]byte(`{"config":{"mediaType":"` + packConfig + `"},"layers":[{"mediaType":"x","digest":"sha256:` +
		strings.Repeat("0", 64) + `","size":3,"annotations":{"` + fileName + `":"a/b"}}]}`))
	f.Add([]byte(`{"config":{"mediaType":"` + dockerConfig + `v0.1+json"},"layers":[{"mediaType":"application/vnd.docker.ai.gguf.v3"}]}`))
	f.Fuzz(mutate.Many(func(t *testing.T, data []byte) {
		files, err := artifact("oci:r/m", data)
		if (err == nil) != (len(files) > 0) {
			t.Errorf("%d files and %v", len(files), err)
		}
		var paths []string
		for _, file := range files {
			paths = append(paths, file.path)
			if !file.plausible() || !filepath.IsLocal(file.path) {
				t.Errorf("%+v", file)
			}
		}
		if err != nil {
			return
		}
		_, open, err := choose(modelref.Ref{Scheme: modelref.OCI}, files)
		if err != nil || open != "" && !slices.Contains(paths, open) {
			t.Errorf("opens %q of %q (%v)", open, paths, err)
		}
	}))
}
