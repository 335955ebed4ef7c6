package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/hub"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// benchSize is that of the file that is downloaded, in bytes.
const benchSize = 256 << 20

// BenchmarkDownload compares pool-fetch with curl, in turn, from the same server on the loopback.
// pool-fetch also verifies and syncs what it writes, and curl does neither: a third figure is of
// curl followed by sha256sum. BENCH_DIR is where files are written, and a file system in memory
// leaves the disk out of it.
func BenchmarkDownload(b *testing.B) {
	dir, err := os.MkdirTemp(os.Getenv("BENCH_DIR"), "pool-fetch-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	source := filepath.Join(dir, "source")
	piece := hub.Data(1, 1<<20)
	if err := os.WriteFile(source, bytes.Repeat(piece, benchSize/len(piece)), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(source)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	h, err := hub.New(&hub.Repo{Name: "org/model", Files: []hub.File{{Path: "model.gguf", Size: benchSize, LFS: true,
		Open: func() io.ReadSeeker { return io.NewSectionReader(f, 0, benchSize) }}}})
	if err != nil {
		b.Fatal(err)
	}
	// The content comes from the file itself, by sendfile(2), as a real server sends it.
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, source)
	}))
	defer cdn.Close()
	server := httptest.NewServer(h.Handler())
	defer server.Close()
	h.Endpoint = server.URL
	h.CDN = cdn.URL
	program := filepath.Join(dir, "pool-fetch")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	u, err := url.Parse(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	name, _, err := net.SplitHostPort(u.Host)
	if err != nil {
		b.Fatal(err)
	}
	var ours, curls, summed []time.Duration
	for i := range max(b.N, 5) {
		out := filepath.Join(dir, "curl.out")
		begin := time.Now()
		command(b, nil, "curl", "-sS", "-o", out, cdn.URL+"/x")
		curls = append(curls, time.Since(begin))
		command(b, nil, "sha256sum", out)
		summed = append(summed, time.Since(begin))
		cache := filepath.Join(dir, fmt.Sprint("cache", i))
		if err := os.Mkdir(cache, 0o755); err != nil {
			b.Fatal(err)
		}
		request, err := json.Marshal(wire.Request{Version: 1, Ref: "hf:org/model", CacheDir: cache, Directory: "d",
			Endpoint: server.URL, Hosts: map[string][]string{name: {name}}, Connections: 4})
		if err != nil {
			b.Fatal(err)
		}
		begin = time.Now()
		command(b, request, program)
		ours = append(ours, time.Since(begin))
		if os.RemoveAll(cache) != nil || os.Remove(out) != nil {
			b.Fatal("what was downloaded cannot be removed")
		}
	}
	rate := func(d []time.Duration) float64 { return benchSize / 1e6 / median(d).Seconds() }
	b.ReportMetric(rate(ours), "MB/s")
	b.ReportMetric(rate(curls), "curl-MB/s")
	b.ReportMetric(rate(ours)/rate(curls), "ratio-to-curl")
	b.ReportMetric(rate(ours)/rate(summed), "ratio-to-curl+sha256sum")
}

func command(b *testing.B, in []byte, name string, args ...string) {
	b.Helper()
	c := exec.Command(name, args...)
	c.Stdin = bytes.NewReader(in)
	if out, err := c.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func median(d []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(d))[len(d)/2]
}
