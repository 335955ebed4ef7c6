//go:build machine

package render_test

import (
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

// deeds has, for each relaxation, what an engine can do with it and not without it. Those without
// one need what a container does not have, or no line of the unit.
var deeds = map[string][]string{
	relax.Netlink:  {"socket", strconv.Itoa(syscall.AF_NETLINK)},
	relax.JIT:      {"execute_written", ""},
	relax.ShmExec:  {"execute_file", "/dev/shm/code"},
	relax.Proc:     {"read", "/proc/meminfo"},
	relax.Affinity: {"affinity", ""},
	relax.NUMA:     {"memory_policy", ""},
	relax.Priority: {"nice", ""},
	relax.Mlock:    {"lock", strconv.Itoa(16 << 20)},
}

// allow relaxes parts of the sandbox, as [sandbox] allow does.
func allow(names ...string) change {
	return with(func(p *pool.Pool) { p.Sandbox.Allow = names })
}

// TestMachineRelaxations: each relaxation lets through what it names and nothing else of the list,
// also after a daemon-reload, and costs the documented exposure.
func TestMachineRelaxations(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	base := w.start(t, input())
	strict := exposure(t, base.unit.Name)
	for name, deed := range deeds {
		if _, err := base.try(deed[0], deed[1]); err == nil {
			t.Errorf("without %s: %s %s is allowed", name, deed[0], deed[1])
		}
	}
	base.stop()
	for _, r := range relax.Table() {
		t.Run(r.Name, func(t *testing.T) {
			e := w.start(t, input(allow(r.Name)))
			for _, when := range []string{"first start", "restart after daemon-reload"} {
				for name, deed := range deeds {
					_, err := e.try(deed[0], deed[1])
					if name == relax.Mlock && !mayLock() {
						continue // PID 1 of this container cannot lift its own limit
					}
					if (err == nil) != (name == r.Name) {
						t.Errorf("%s: with %s: %s %s: %v", when, r.Name, deed[0], deed[1], err)
					}
				}
				if when == "first start" {
					shell(t, "systemctl daemon-reload; systemctl restart '"+e.unit.Name+"'")
				}
			}
			documented, err := strconv.ParseFloat(r.Cost, 64)
			if err != nil {
				t.Fatal(err)
			}
			// Both levels are rounded to tenths.
			if cost := exposure(t, e.unit.Name) - strict; cost > documented+0.11 || cost < documented-0.11 {
				t.Errorf("costs %.1f of exposure, documented is %s", cost, r.Cost)
			}
		})
	}
}

// exposure is what systemd-analyze security reports of a running unit.
func exposure(t *testing.T, unit string) float64 {
	t.Helper()
	out := shell(t, "systemd-analyze security --no-pager '"+unit+"'")
	m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no verdict in\n%s", out)
	}
	level, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return level
}

// mayLock reports whether PID 1 can lift the limit of locked memory.
func mayLock() bool {
	var own syscall.Rlimit
	const rlimitMemlock = 8
	return syscall.Getrlimit(rlimitMemlock, &own) == nil && own.Max > 32<<20
}

// TestMachineProcessLimits: the process has each limit of [limits] that only a new process takes,
// also after a daemon-reload.
func TestMachineProcessLimits(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	r := w.start(t, input(with(func(p *pool.Pool) {
		p.Process = pool.Process{MemlockBytes: 1 << 20, OpenFiles: 1024, Nice: 7, NUMAPolicy: pool.NUMABind,
			NUMANodes: "0"}
		p.Restart.Initial = 100 * time.Millisecond
	})))
	for _, when := range []string{"first start", "restart after daemon-reload"} {
		limits := r.report().Limits
		for _, want := range []string{`Max locked memory +1048576 +1048576`, `Max open files +1024 +1024`} {
			if !regexp.MustCompile(want).MatchString(limits) {
				t.Errorf("%s: no %q in\n%s", when, want, limits)
			}
		}
		if got, err := r.try("niceness", ""); err != nil || got != "7" {
			t.Errorf("%s: nice %q, %v", when, got, err)
		}
		nodes := strings.TrimSpace(shell(t, "systemctl show --value --property=AllowedMemoryNodes '"+r.unit.Name+"'"))
		if nodes != "0" {
			t.Errorf("%s: AllowedMemoryNodes=%s, want 0", when, nodes)
		}
		if when == "first start" {
			// PID 1 forgets it with the daemon-reload.
			if got, err := r.try("policy", ""); err != nil || got != "bind" {
				t.Errorf("NUMA policy %q, %v", got, err)
			}
			shell(t, "systemctl daemon-reload; systemctl restart '"+r.unit.Name+"'")
		}
	}
}

// TestMachineWritable: an engine writes to what its pool lists, and sees nothing else around it.
func TestMachineWritable(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	put(t, "/srv/other/x", "secret", 0o644)
	places := []string{"/srv/slots", "/data/engine/cache", "/var/lib/slots", "/home/ann/slots"}
	for _, dir := range places {
		shell(t, "install -d -m 1777 "+dir)
	}
	r := w.start(t, input(with(func(p *pool.Pool) { p.Writable = places })))
	for _, when := range []string{"first start", "restart after daemon-reload"} {
		for _, dir := range places {
			if _, err := r.try("write", dir+"/x"); err != nil {
				t.Errorf("%s: %s cannot be written: %v", when, dir, err)
			}
		}
		for _, other := range []string{"/srv/x", "/srv/other/y", "/data/x", "/data/engine/x", "/home/ann/x",
			"/srv/models/x"} {
			if _, err := r.try("write", other); err == nil {
				t.Errorf("%s: %s can be written", when, other)
			}
		}
		if got, err := r.try("list", "/srv"); err != nil || got != "models slots" {
			t.Errorf("%s: /srv holds %q, %v", when, got, err)
		}
		if when == "first start" {
			shell(t, "systemctl daemon-reload; systemctl restart '"+r.unit.Name+"'")
		}
	}
}
