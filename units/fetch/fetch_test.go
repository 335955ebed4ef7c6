package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/hub"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// quick are settings under which faults take milliseconds. The pieces are small, so that small
// files have many.
func quick() settings {
	s := defaults()
	s.stall, s.backoff, s.tick, s.lockWait, s.piece = time.Second, time.Millisecond, 10*time.Millisecond,
		time.Minute, 16<<10
	return s
}

// site is a hub with its two hosts, known by names that only a request's pins lead to.
type site struct {
	*hub.Hub
	hosts map[string][]string
	cache string
}

func serve(t *testing.T, name string, handler http.Handler) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + net.JoinHostPort(name, u.Port())
}

func start(t *testing.T, repos ...*hub.Repo) *site {
	t.Helper()
	h, err := hub.New(repos...)
	if err != nil {
		t.Fatal(err)
	}
	h.Endpoint = serve(t, "hub.test", h.Handler())
	h.CDN = serve(t, "cdn.test", h.CDNHandler())
	return &site{h, map[string][]string{"hub.test": {"127.0.0.1"}, "cdn.test": {"127.0.0.1"}}, t.TempDir()}
}

// repo is a repository with a large file, shards, quantisations and small files.
func repo() *hub.Repo {
	return &hub.Repo{Name: "org/model", Files: []hub.File{
		hub.Bytes("README.md", []byte("# A model\n"), false),
		hub.Bytes("config.json", hub.Data(1, 2000), false),
		hub.Bytes("empty", nil, false),
		hub.Bytes("dir/big.safetensors", hub.Data(2, 1<<20+17), true),
		hub.Bytes("model-Q4_K_M-00001-of-00002.gguf", hub.Data(3, 100_000), true),
		hub.Bytes("model-Q4_K_M-00002-of-00002.gguf", hub.Data(4, 50_000), true),
		hub.Bytes("model-Q8_0.gguf", hub.Data(5, 300_000), true),
		hub.Bytes("mmproj-model-Q8_0.gguf", hub.Data(6, 3000), true),
	}}
}

func (s *site) request(ref string) wire.Request {
	r, err := modelref.Parse(ref)
	if err != nil {
		panic(err) // a mistake of the test
	}
	return wire.Request{Version: 1, Ref: ref, CacheDir: s.cache, Directory: r.Directory(), Endpoint: s.Endpoint,
		Hosts: s.hosts, Connections: 4}
}

// outcome is what a fetch printed.
type outcome struct {
	events []wire.Event
	log    string
	err    error
}

func (o outcome) result(t *testing.T) wire.Event {
	t.Helper()
	if o.err != nil {
		t.Fatalf("the fetch failed: %v\n%s", o.err, o.log)
	}
	last := o.events[len(o.events)-1]
	if last.Kind != wire.Result {
		t.Fatalf("the last event is %+v", last)
	}
	return last
}

// failed returns the failure, which must be for the reason and name what to do.
func (o outcome) failed(t *testing.T, reason wire.Reason, parts ...string) *Failure {
	t.Helper()
	var f *Failure
	if !errors.As(o.err, &f) || f.Reason != reason || f.Hint == "" {
		t.Fatalf("the fetch ended with %#v, want %s\n%s", o.err, reason, o.log)
	}
	for _, part := range parts {
		if !strings.Contains(f.Error()+"\n"+f.Hint, part) {
			t.Errorf("%q (%s) does not contain %q", f.Error(), f.Hint, part)
		}
	}
	if strings.Contains(f.Error(), "Signature") {
		t.Errorf("the message contains a signed address: %v", f)
	}
	return f
}

func (s *site) fetch(ctx context.Context, r wire.Request, o Options, set settings) outcome {
	var out outcome
	var mu sync.Mutex
	var text bytes.Buffer
	o.Print = func(e wire.Event) {
		mu.Lock()
		defer mu.Unlock()
		out.events = append(out.events, e)
	}
	o.Log = log.New(&text, "", 0)
	out.err = run(ctx, r, o, set)
	out.log = text.String()
	return out
}

func (s *site) get(t *testing.T, ref string) outcome {
	t.Helper()
	return s.fetch(t.Context(), s.request(ref), Options{}, quick())
}

// same fails unless a file of the snapshot has the content of the repository.
func same(t *testing.T, snapshot string, files ...hub.File) {
	t.Helper()
	for _, f := range files {
		got, err := os.ReadFile(filepath.Join(snapshot, f.Path))
		if err != nil {
			t.Error(err)
			continue
		}
		want, err := io.ReadAll(f.Open())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s has another content (%d bytes, want %d)", f.Path, len(got), len(want))
		}
	}
}

// clean fails if anything of a download is left in blobs beside what is whole.
func (s *site) clean(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(s.cache, dir, "blobs", "*.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q (%v)", left, err)
	}
}

const modelDir = "models--org--model"
