package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
	"github.com/pool-managerd/pool-managerd/test/etcd"
)

// What a quiet host has, and how long it is looked at.
const (
	quietPools = 20
	settles    = 10 * time.Second
	quietFor   = time.Minute
)

// BenchmarkQuiet is what pool-fleet costs a host whose pools do not change: the program itself,
// beside a manager that answers as the real one does, and a real etcd.
func BenchmarkQuiet(b *testing.B) {
	dir := b.TempDir()
	program := filepath.Join(dir, "pool-fleet")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	cluster := etcd.Start(b, etcd.Options{})
	c := cluster.Client()
	settings := filepath.Join(dir, "fleet.json")
	text := fmt.Sprintf(`{"advertise_url":"https://gpu1:9200","etcd":{"endpoints":["%s"],"prefix":"/fleet","ttl_ms":10000}}`,
		cluster.Endpoints()[0])
	if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		cmd := exec.Command(program, "--settings", settings, "--socket", quietManager(b, dir), "--root", hostRoot(b),
			"--fleet-socket", filepath.Join(dir, "fleet.sock"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		for keys := int64(0); keys < quietPools+1; time.Sleep(100 * time.Millisecond) {
			resp, err := c.Get(b.Context(), "/fleet/", clientv3.WithPrefix(), clientv3.WithCountOnly())
			if err != nil {
				b.Fatal(err)
			}
			keys = resp.Count
		}
		time.Sleep(settles)
		before := etcd.CPUOf(b, cmd.Process.Pid)
		time.Sleep(quietFor)
		b.ReportMetric(100*float64(etcd.CPUOf(b, cmd.Process.Pid)-before)/float64(quietFor), "%-of-a-core")
		b.ReportMetric(resident(b, cmd.Process.Pid, "VmRSS:"), "MiB-resident")
		b.ReportMetric(resident(b, cmd.Process.Pid, "RssAnon:"), "MiB-own")
		b.ReportMetric(0, "ns/op")
		_ = cmd.Process.Kill() // it may have ended, which is reported
		_ = cmd.Wait()
	}
}

// quietManager answers with the same pools each time, by their ETag where that is asked for.
func quietManager(b *testing.B, dir string) string {
	b.Helper()
	socket := filepath.Join(dir, "api.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	known := registrytest.Llama()
	list := wire.PoolList{}
	for i := range quietPools {
		p := wire.PoolOf(&known)
		p.ID = fmt.Sprintf("pool-%02d", i)
		list.Pools = append(list.Pools, p)
	}
	pools, err := json.Marshal(list)
	if err != nil {
		b.Fatal(err)
	}
	answers := map[string]string{"/v1/pools": string(pools), "/v1/devices": `{"devices":[]}`, "/v1/models": `{"models":[]}`}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch answer, is := answers[r.URL.Path]; {
		case r.URL.Path == "/v1/events":
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush() // a reader that is gone is seen next
			<-r.Context().Done()
		case !is:
			w.WriteHeader(http.StatusNotFound)
		case r.Header.Get("If-None-Match") == `"1"`:
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("ETag", `"1"`)
			fmt.Fprint(w, answer)
		}
	})}
	go func() { _ = server.Serve(l) }()
	b.Cleanup(func() { server.Close() })
	return socket
}

// resident is a line of a process's status, in MiB.
func resident(b *testing.B, pid int, line string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), line)
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}
