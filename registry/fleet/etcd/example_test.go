package etcd

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/test/etcd"
)

// leasing is the API of a host, of which leases are taken.
type leasing struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	asked  []string
}

func newLeasing(t *testing.T, status int) *leasing {
	l := &leasing{status: status}
	l.Server = httptest.NewServer(l)
	t.Cleanup(l.Close)
	return l
}

// ServeHTTP answers a request for a lease.
func (l *leasing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ask struct {
		Holder string `json:"holder"`
		TTL    int    `json:"ttl_ms"`
	}
	_ = json.NewDecoder(r.Body).Decode(&ask) // what is missing is seen below
	if r.Header.Get("Authorization") != "Bearer t0ken" || ask.Holder != "me" || ask.TTL != 30000 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	l.asked = append(l.asked, r.Method+" "+r.URL.Path)
	w.WriteHeader(l.status)
	_, _ = w.Write([]byte(`{"id":"l1"}`)) // a caller that is gone is its own concern
}

// TestExample: the page's program takes a lease at the least loaded ready pool, and at the next one
// where a host refuses.
func TestExample(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"python3", "etcdctl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("no " + program + " on this host: the program of fleet.md is not tried here")
		}
	}
	cluster := etcd.Start(t, etcd.Options{})
	cluster.Client() // it answers
	full, free := newLeasing(t, http.StatusTooManyRequests), newLeasing(t, http.StatusCreated)
	hosts := map[string]struct {
		address string
		state   fleet.State
	}{
		"a": {full.URL, state("x=7", "other=8")},
		"b": {free.URL, state("x=2", "y=3", "z=8!")},
		"c": {"http://127.0.0.1:1", state("x=5")},
		"d": {"", state("x=8")},
	}
	for name, h := range hosts {
		o := testOptions(cluster.Endpoints(), name, nil)
		o.Prefix, o.Host.MachineID, o.Host.Address = "/pool-managerd", strings.Repeat(name, 32), h.address
		model := "file:/srv/m.gguf"
		for i := range h.state.Pools {
			if h.state.Pools[i].ID != "other" {
				h.state.Pools[i].ModelID = &model
			}
		}
		p := runs(t, o)
		p.box.Put(h.state)
		p.logs(t, "is published in etcd")
	}
	page, err := os.ReadFile("../../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(page), "```python\n")
	program, _, _ = strings.Cut(program, "```")
	file := filepath.Join(t.TempDir(), "lease")
	if err := os.WriteFile(file, []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	out := ctl(t, cluster, t.TempDir(), "python3 "+file+" file:/srv/m.gguf me", "POOL_TOKEN=t0ken")
	if !strings.Contains(out, `"lease": {"id": "l1"}`) || !strings.Contains(out, free.URL) {
		t.Errorf("printed %s", out)
	}
	if got := strings.Join(full.asked, ", "); got != "POST /v1/pools/x/leases" {
		t.Errorf("the least loaded host was asked %q", got)
	}
	if got := strings.Join(free.asked, ", "); got != "POST /v1/pools/y/leases" {
		t.Errorf("the next host was asked %q", got)
	}
}
