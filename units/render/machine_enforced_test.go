//go:build machine

package render_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/cgroups"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// The tests of this file need cgroup controllers and BPF. In a machine without them, PID 1 ignores
// the lines that they are about.

// listen answers connections on an address until the test ends.
func listen(t *testing.T, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go accept(l)
	return l.Addr().String()
}

// TestEnforcedEgress: the engine reaches 127.0.0.1 and ::1 and no other address, also after a
// daemon-reload: not the ones where local resolvers listen.
func TestEnforcedEgress(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	shell(t, "ip address replace 10.99.0.1/32 dev lo; ip -6 address replace fd99::1/128 dev lo")
	near := []string{listen(t, "127.0.0.1:0"), listen(t, "[::1]:0")}
	far := []string{listen(t, "10.99.0.1:0"), listen(t, "[fd99::1]:0"), listen(t, "127.0.0.53:53"), listen(t, "127.0.0.54:53"),
		listen(t, "127.9.9.9:0"), listen(t, "127.0.1.1:0")}
	for _, address := range append(near, far...) {
		c, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			t.Fatalf("without a fence %s is not reached either: %v", address, err)
		}
		c.Close()
	}
	r := w.start(t, input())
	for _, when := range []string{"first start", "restart after daemon-reload"} {
		for _, address := range near {
			if _, err := r.try("dial", "tcp!"+address); err != nil {
				t.Errorf("%s: %s is not reached: %v", when, address, err)
			}
		}
		for _, address := range far {
			if _, err := r.try("dial", "tcp!"+address); err == nil {
				t.Errorf("%s: %s is reached", when, address)
			}
		}
		if when == "first start" {
			shell(t, "systemctl daemon-reload; systemctl restart '"+r.unit.Name+"'")
		}
	}
}

// TestEnforcedLimits: the kernel has each limit of the pool file, and loses it again when it is
// taken out.
func TestEnforcedLimits(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	all := pool.Limits{MemoryMaxBytes: 256 << 20, MemoryHighBytes: 128 << 20, CPUQuotaPercent: 50, CPUs: "1",
		CPUWeight: 200, IOWeight: 50, TasksMax: 512}
	limited := map[string]string{"memory.max": "268435456", "memory.high": "134217728", "cpu.max": "50000 100000", "cpuset.cpus": "1",
		"cpu.weight": "200", "pids.max": "512", "memory.oom.group": "1"}
	// If no limit needs a controller, PID 1 may disable it, and its files disappear.
	free := map[string]string{"memory.max": "max", "memory.high": "max", "cpu.max": "max 100000", "cpuset.cpus": "",
		"cpu.weight": "100", "pids.max": "16384"}
	r := w.start(t, input(with(func(p *pool.Pool) { p.Limits = all })))
	status, err := w.client.Unit(t.Context(), r.unit.Name)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cgroups.Root, status.ControlGroup)
	compare := func(when string, want map[string]string) {
		t.Helper()
		for file, value := range want {
			// PID 1 writes the files some time after it answered.
			eventually(t, fmt.Sprintf("%s: %s is %q", when, file, value), func() bool {
				got, err := os.ReadFile(filepath.Join(dir, file))
				return err == nil && strings.TrimSpace(string(got)) == value || when == "taken out" &&
					errors.Is(err, fs.ErrNotExist)
			})
		}
	}
	compare("at the start", limited)
	without := r.in
	without.Pool.Limits = pool.Limits{}
	unit, err := render.Render(without)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.client.SetProperties(t.Context(), r.unit.Name, unit.LimitProperties()); err != nil {
		t.Fatal(err)
	}
	compare("taken out", free)
	if err := w.client.SetProperties(t.Context(), r.unit.Name, r.unit.LimitProperties()); err != nil {
		t.Fatal(err)
	}
	compare("put back", limited)
	shell(t, "systemctl daemon-reload")
	compare("after daemon-reload", limited)
}

// TestEnforcedMemory: an engine that outgrows memory_max is killed whole, and started again; its
// use is read back from its cgroup.
func TestEnforcedMemory(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	r := w.start(t, input(with(func(p *pool.Pool) {
		p.Limits.MemoryMaxBytes, p.Restart.Initial, p.Restart.Max = 96<<20, 200*time.Millisecond, time.Second
	})))
	before, err := w.client.Unit(t.Context(), r.unit.Name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.try("allocate", fmt.Sprint(32<<20)); err != nil {
		t.Fatal(err)
	}
	use, err := cgroups.ReadUsage(cgroups.Root, before.ControlGroup)
	if err != nil {
		t.Fatal(err)
	}
	if use.Memory == nil || use.Memory.PeakBytes == nil || *use.Memory.PeakBytes < 32<<20 ||
		use.Memory.CurrentBytes > 96<<20 || *use.Memory.OOMKills != 0 {
		t.Errorf("memory: %+v, absent %v", use.Memory, use.Absent)
	}
	if use.ID == 0 || use.Pressure == nil {
		t.Errorf("usage %+v, absent %v", use, use.Absent)
	}
	shell(t, fmt.Sprintf("curl -s -m 30 '%s/try?what=allocate&on=%d' || true", render.Endpoint(r.in.Port), 400<<20))
	eventually(t, "the engine was killed for its memory and runs again", func() bool {
		s, err := w.client.Unit(t.Context(), r.unit.Name)
		return err == nil && s.ActiveState == "active" && s.NRestarts == 1 && s.MainPID != before.MainPID
	})
	if log := shell(t, "journalctl --no-pager -o cat -u '"+r.unit.Name+"'"); !strings.Contains(log, "oom-kill") {
		t.Errorf("PID 1 does not say oom-kill:\n%s", log)
	}
}
