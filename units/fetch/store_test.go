package fetch

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/hub"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

func bucket() *hub.Store {
	s := &hub.Store{Bucket: "models", Region: "eu-west-1", Access: "AKIA", Secret: "s3cr3t"}
	s.Objects = map[string][]byte{
		"llama/8b.gguf":               hub.Data(1, 200_000),
		"llama/dir/":                  nil,
		"llama/dir/config.json":       []byte("{}"),
		"llama/dir/a b+c&d=(ä).txt":   hub.Data(2, 1000),
		"llama/dir/sub/x.safetensors": hub.Data(3, 150_000),
		"llama/dirty":                 []byte("not below it"),
	}
	return s
}

// TestStore: objects come from a store that checks signatures, by key and by folder, and from one
// that everyone may read. It is the same object again without a second download.
func TestStore(t *testing.T) {
	for name, c := range map[string]struct {
		ref    string
		change func(*hub.Store)
		files  map[string]string // by key
	}{
		"signed":      {"s3://models/llama/8b.gguf", func(*hub.Store) {}, map[string]string{"8b.gguf": "llama/8b.gguf"}},
		"with_digest": {"s3://models/llama/8b.gguf", func(s *hub.Store) { s.Digests = true }, map[string]string{"8b.gguf": "llama/8b.gguf"}},
		"unsigned":    {"s3://models/llama/8b.gguf", func(s *hub.Store) { s.Access, s.Secret = "", "" }, map[string]string{"8b.gguf": "llama/8b.gguf"}},
		"odd_key":     {"s3://models/llama/dir/a b+c&d=(ä).txt", func(*hub.Store) {}, map[string]string{"a b+c&d=(ä).txt": "llama/dir/a b+c&d=(ä).txt"}},
		"folder": {"s3://models/llama/dir/", func(s *hub.Store) { s.PageSize = 2 },
			map[string]string{"config.json": "llama/dir/config.json", "a b+c&d=(ä).txt": "llama/dir/a b+c&d=(ä).txt", "sub/x.safetensors": "llama/dir/sub/x.safetensors"}},
	} {
		t.Run(name, func(t *testing.T) {
			store := bucket()
			c.change(store)
			s, r := atStore(t, store, c.ref)
			o := Options{Secrets: Secrets{Store: StoreKeys{Access: store.Access, Secret: store.Secret}}}
			got := s.fetch(t.Context(), r, o, quick()).result(t)
			snapshot := filepath.Join(s.cache, r.Directory, "snapshots", got.Commit)
			for file, key := range c.files {
				same(t, snapshot, hub.Bytes(file, store.Objects[key], true))
			}
			if got.Files != len(c.files) {
				t.Errorf("result %+v", got)
			}
			digest := "sha256:" + hub.Bytes("", store.Objects["llama/8b.gguf"], true).SHA256()
			if name == "with_digest" && got.Digest != digest {
				t.Errorf("digest %q", got.Digest)
			}
			s.clean(t, r.Directory)
			before := len(store.Requests())
			if again := s.fetch(t.Context(), r, o, quick()).result(t); again.Path != got.Path {
				t.Errorf("again: %+v", again)
			}
			for _, asked := range store.Requests()[before:] {
				if strings.HasPrefix(asked, "GET") && asked != "GET /models " {
					t.Errorf("fetched again: %s", asked)
				}
			}
		})
	}
}

func atStore(t *testing.T, store *hub.Store, ref string) (*site, wire.Request) {
	t.Helper()
	parsed, err := modelref.Parse(ref)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{cache: t.TempDir()}
	return s, wire.Request{Version: 1, Ref: ref, CacheDir: s.cache, Directory: parsed.Directory(), Connections: 4,
		Endpoint: serve(t, "store.test", store), Hosts: map[string][]string{"store.test": {"127.0.0.1"}}}
}

// TestStoreRefuses: what the store does not give is reported with what to do.
func TestStoreRefuses(t *testing.T) {
	keys := StoreKeys{Access: "AKIA", Secret: "s3cr3t"}
	for name, c := range map[string]struct {
		ref    string
		keys   StoreKeys
		reason wire.Reason
		part   string
	}{
		"no_object":  {"s3://models/llama/9b.gguf", keys, wire.NotFound, "s3://models/llama/9b.gguf"},
		"no_bucket":  {"s3://other/x", keys, wire.NotFound, "s3://other/x"},
		"no_folder":  {"s3://models/mistral/", keys, wire.NotFound, "has no objects"},
		"no_keys":    {"s3://models/llama/8b.gguf", StoreKeys{}, wire.Unauthorized, "s3_credentials_file"},
		"wrong_keys": {"s3://models/llama/8b.gguf", StoreKeys{Access: "AKIA", Secret: "x"}, wire.Unauthorized, "the host's clock"},
		"half":       {"s3://models/llama/8b.gguf", StoreKeys{Access: "AKIA"}, wire.BadRequest, "one half"},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := atStore(t, bucket(), c.ref)
			o := Options{Secrets: Secrets{Store: c.keys}}
			s.fetch(t.Context(), r, o, quick()).failed(t, c.reason, c.part)
		})
	}
	store := bucket()
	store.Objects["llama/dir/../../escape"] = []byte("x")
	s, r := atStore(t, store, "s3://models/llama/dir/")
	o := Options{Secrets: Secrets{Store: keys}}
	s.fetch(t.Context(), r, o, quick()).failed(t, wire.BadAnswer, "cannot be files")
}
