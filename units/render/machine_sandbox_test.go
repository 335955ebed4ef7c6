//go:build machine

package render_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/cgroups"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// TestMachineSandbox: the engine is instructed to misbehave, and cannot.
func TestMachineSandbox(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	secrets := []string{"/srv/models/other.gguf", "/srv/data/x", "/home/ann/x", "/root/x", "/mnt/disk/x", "/media/usb/x",
		"/etc/pool-managerd/config.toml", "/var/lib/pool-managerd/state", "/run/pool-managerd/x",
		"/var/cache/pool-managerd/models/x", "/tmp/other/x"}
	for _, name := range secrets {
		put(t, name, "secret", 0o644)
	}
	r := w.start(t, input())

	t.Run("sees_the_model_alone", func(t *testing.T) {
		if got, err := r.try("list", "/srv"); err != nil || got != "models" {
			t.Errorf("/srv holds %q, %v", got, err)
		}
		if got, err := r.try("list", "/srv/models"); err != nil || got != "llama3.gguf" {
			t.Errorf("/srv/models holds %q, %v", got, err)
		}
		for _, empty := range []string{"/home", "/root"} {
			if got, err := r.try("list", empty); err == nil && got != "" {
				t.Errorf("%s holds %q", empty, got)
			}
		}
		for _, hidden := range append(secrets, "/etc/shadow") {
			if got, err := r.try("read", hidden); err == nil {
				t.Errorf("%s can be read: %q", hidden, got)
			}
		}
	})
	t.Run("writes_to_its_own_directories_alone", func(t *testing.T) {
		for _, name := range []string{"/etc/x", "/usr/x", "/usr/local/bin/x", "/var/x", "/var/lib/x", "/var/lib/pool-engine/x", "/srv/x",
			"/srv/models/x", "/srv/models/llama3.gguf", "/home/x", "/root/x", "/run/x", "/x", "/sys/x", "/proc/sys/kernel/hostname",
			"/sys/fs/cgroup/x", "/opt/x", "/boot/x", "/var/log/x", "/var/cache/x", "/dev/x"} {
			if _, err := r.try("write", name); err == nil {
				t.Errorf("%s can be written", name)
			}
		}
		for _, name := range []string{"/var/lib/pool-engine/llama3.r0/x", "/var/cache/pool-engine/llama3.r0/x",
			"/tmp/x", "/var/tmp/x"} {
			if _, err := r.try("write", name); err != nil {
				t.Errorf("%s cannot be written: %v", name, err)
			}
		}
	})
	t.Run("makes_no_forbidden_call", func(t *testing.T) {
		for _, c := range [][2]string{
			{"socket", strconv.Itoa(syscall.AF_PACKET)}, {"socket", strconv.Itoa(syscall.AF_NETLINK)}, {"socket", "38"}, // AF_ALG
			{"unshare", ""}, {"mount", "/tmp"}, {"sethostname", ""}, {"execute_written", ""}, {"nice", ""},
			{"chmod_suid", "/tmp/x"}, {"dial", "unix!/run/dbus/system_bus_socket"},
		} {
			if _, err := r.try(c[0], c[1]); err == nil {
				t.Errorf("%s %s is allowed", c[0], c[1])
			}
		}
		if _, err := r.try("dial", fmt.Sprintf("tcp!127.0.0.1:%d", r.in.Port)); err != nil {
			t.Errorf("the loopback: %v", err)
		}
	})
	t.Run("holds_no_right", func(t *testing.T) {
		status := r.report().Status
		for key, want := range map[string]string{"CapBnd": "0000000000000000", "CapEff": "0000000000000000", "CapPrm": "0000000000000000",
			"CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"} {
			if status[key] != want {
				t.Errorf("%s is %s, want %s", key, status[key], want)
			}
		}
		if got, err := r.try("list", "/proc/1"); err == nil {
			t.Errorf("/proc/1 holds %q", got)
		}
		if got, err := r.try("read", "/proc/meminfo"); err == nil {
			t.Errorf("/proc/meminfo: %q", got)
		}
	})
	t.Run("limits_of_the_process", func(t *testing.T) {
		limits := r.report().Limits
		if !regexp.MustCompile(`Max core file size +0 +0`).MatchString(limits) {
			t.Errorf("a core dump is made:\n%s", limits)
		}
		// PID 1 of a container cannot lift its own hard limit.
		files := regexp.MustCompile(`Max open files +(\d+) +(\d+)`)
		own, most := files.FindStringSubmatch(limits), files.FindStringSubmatch(shell(t, "cat /proc/1/limits"))
		soft, _ := strconv.Atoi(own[1])
		hard, _ := strconv.Atoi(most[2])
		if soft != min(65536, hard) {
			t.Errorf("%d open files, want 65536, or PID 1's %d", soft, hard)
		}
	})
}

// TestMachineHiddenTreesMayBeMissing: a small installation has no /media, and no directory of ours.
func TestMachineHiddenTreesMayBeMissing(t *testing.T) {
	w := enter(t)
	shell(t, "rm -rf /media /mnt /var/cache/pool-managerd /var/lib/pool-managerd /etc/pool-managerd /run/pool-managerd")
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	w.start(t, input())
}

// TestMachineExposure: what systemd-analyze security says of running units, with the lines that
// each kind of engine relaxes.
func TestMachineExposure(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	cases := []struct {
		name string
		in   render.Input
		most float64
	}{
		{"llamacpp_on_a_cpu", input(), 1.0},
		{"model_in_a_home", input(modelAt("/home/ann/models/a.gguf")), 1.1},
		{"vllm_on_a_cpu", input(kind(engine.VLLM, "/usr/bin/llama-server", "/srv/models/llama3.gguf")), 1.3},
		{"vllm_with_a_gpu", input(kind(engine.VLLM, "/usr/bin/llama-server", "/srv/models/llama3.gguf"), gpus([]string{"0"})), 1.5},
		{"llamacpp_with_a_gpu", input(gpus([]string{"0"})), 1.5},
	}
	put(t, "/home/ann/models/a.gguf", "GGUF", 0o644)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := w.start(t, c.in)
			out := shell(t, "systemd-analyze security --no-pager '"+r.unit.Name+"'")
			m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
			if m == nil {
				t.Fatalf("no verdict in\n%s", out)
			}
			level, err := strconv.ParseFloat(m[1], 64)
			if err != nil || level > c.most {
				t.Errorf("exposure %s, want at most %v:\n%s", m[1], c.most, out)
			}
			t.Logf("exposure %s", m[1])
		})
	}
}

// TestMachineFile: the printed unit file is accepted without a word, and installed by hand it is
// the same unit: each property that was sent over the bus has the same value, and the engine sees
// the same.
func TestMachineFile(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	put(t, oddPath, "GGUF", 0o644)
	cases := map[string]render.Input{
		"cpu": input(),
		"odd_texts": input(args(nasty...), modelAt(oddPath), with(func(p *pool.Pool) {
			p.Env = map[string]string{"PROMPT": chatTemplate}
		})),
		"limits": input(with(func(p *pool.Pool) {
			p.Limits = pool.Limits{MemoryMaxBytes: 1 << 30, MemoryHighBytes: 1 << 29, CPUQuotaPercent: 50, CPUs: "0",
				CPUWeight: 200, IOWeight: 50, TasksMax: 512}
		})),
	}
	for name, in := range cases {
		t.Run(name, func(t *testing.T) {
			r := w.start(t, in)
			const hand = "by-hand.service"
			file := r.unit.File()
			put(t, "/etc/systemd/system/"+hand, file, 0o644)
			if out := shell(t, "systemd-analyze verify --man=no /etc/systemd/system/"+hand); out != "" {
				t.Errorf("systemd-analyze verify says:\n%s\nof\n%s", out, file)
			}
			shell(t, "systemctl daemon-reload")
			want, report := shown(t, r, r.unit.Name), r.report()
			r.stop()
			shell(t, "systemctl start "+hand)
			t.Cleanup(func() {
				shell(t, "systemctl stop "+hand+"; rm /etc/systemd/system/"+hand+"; systemctl daemon-reload")
			})
			got := shown(t, r, hand)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("as a transient unit (-) and by hand (+):\n%s", diff)
			}
			again := fetchReport(t, r.in.Port)
			if strings.Join(again.Args, "\x00") != strings.Join(report.Args, "\x00") || again.Dir != report.Dir {
				t.Errorf("by hand the engine gets\n%q in %s, as a transient unit\n%q in %s", again.Args, again.Dir,
					report.Args, report.Dir)
			}
		})
	}
}

// shown returns every property that the unit was rendered with, as PID 1 says it. Rows that only
// the bus has are left out, and commands where the bus says them in another way than a unit file.
func shown(t *testing.T, r running, name string) string {
	t.Helper()
	command, names := "systemctl show '"+name+"'", []string{}
	for _, line := range r.unit.Lines {
		property := line.Property.Name
		if line.Key == "" || strings.HasPrefix(property, "ExecStart") && !r.in.Host.ExecFlags {
			continue
		}
		command += " --property=" + property
		names = append(names, property)
	}
	// Of a command, when and how it last ran is no property of the unit.
	text := regexp.MustCompile(` ; (start_time|ignore_errors)=[^}]*`).ReplaceAllString("\n"+shell(t, command), "")
	for _, property := range names {
		if !strings.Contains(text, "\n"+property+"=") {
			t.Errorf("PID 1 does not know the property %s", property)
		}
	}
	return regexp.MustCompile(`(?m)^(After|Before|Conflicts)=.*$`).ReplaceAllStringFunc(text, sorted)
}

// sorted puts the units of a dependency, which PID 1 says in any order, in order.
func sorted(line string) string {
	property, units, _ := strings.Cut(line, "=")
	names := strings.Fields(units)
	slices.Sort(names)
	return property + "=" + strings.Join(names, " ")
}

// TestMachineGate: the gate runs as root, with capabilities and without the sandbox, on every
// systemd. Only TemporaryFileSystem= and BindReadOnlyPaths= hold for it too.
func TestMachineGate(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	put(t, "/etc/pool-managerd/config.toml", "", 0o600)
	os.Remove(gateReport)
	serveUnix(t, "/run/pool-managerd/gpu.sock")
	r := w.start(t, input())
	for _, when := range []string{"first start", "restart after daemon-reload"} {
		text, err := os.ReadFile(gateReport)
		if err != nil {
			t.Fatalf("%s: the gate could not write: %v", when, err)
		}
		if want := "uid 0 caps true sees true pid true socket true"; string(text) != want {
			t.Errorf("%s: gate: %s, want %s", when, text, want)
		}
		os.Remove(gateReport)
		if when == "first start" {
			shell(t, "systemctl daemon-reload; systemctl restart '"+r.unit.Name+"'")
		}
	}
}

// TestMachineLiveLimits: PID 1 takes every limit on a running unit, and every reset.
func TestMachineLiveLimits(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	r := w.start(t, input())
	before, err := w.client.Unit(t.Context(), r.unit.Name)
	if err != nil {
		t.Fatal(err)
	}
	all := r.in
	all.Pool.Limits = pool.Limits{MemoryMaxBytes: 1 << 30, MemoryHighBytes: 1 << 29, CPUQuotaPercent: 150, CPUs: "0-1",
		CPUWeight: 200, IOWeight: 50, TasksMax: 512}
	limited, err := render.Render(all)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name string
		unit render.Unit
		want map[string]string
	}{
		{"set", limited, map[string]string{"MemoryMax": "1073741824", "MemoryHigh": "536870912", "CPUQuotaPerSecUSec": "1.500000s", "AllowedCPUs": "0-1",
			"CPUWeight": "200", "IOWeight": "50", "TasksMax": "512"}},
		{"reset", r.unit, map[string]string{"MemoryMax": "infinity", "MemoryHigh": "infinity", "CPUQuotaPerSecUSec": "infinity", "AllowedCPUs": "",
			"CPUWeight": "[not set]", "IOWeight": "[not set]", "TasksMax": "16384"}},
	} {
		if err := w.client.SetProperties(t.Context(), r.unit.Name, step.unit.LimitProperties()); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		for key, want := range step.want {
			got := strings.TrimSpace(shell(t, "systemctl show --value --property="+key+" '"+r.unit.Name+"'"))
			if got != want && !(key == cgroups.CPUQuotaPerSecUSec && got == "1.5s") {
				t.Errorf("%s: %s is %q, want %q", step.name, key, got, want)
			}
		}
	}
	after, err := w.client.Unit(t.Context(), r.unit.Name)
	if err != nil || after.MainPID != before.MainPID || after.InvocationID != before.InvocationID {
		t.Errorf("the engine did not stay the same: %d %s, then %d %s, %v", before.MainPID, before.InvocationID,
			after.MainPID, after.InvocationID, err)
	}
}

// TestMachineStartLimit: PID 1 gives up after the breaker's number of failures, by itself.
func TestMachineStartLimit(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	r := w.start(t, input(with(func(p *pool.Pool) {
		p.Restart.Initial, p.Restart.Max, p.Restart.BreakerFailures = 50*time.Millisecond, 100*time.Millisecond, 3
	})))
	for kills := 0; ; {
		s, err := w.client.Unit(t.Context(), r.unit.Name)
		if err != nil {
			t.Fatal(err)
		}
		if s.ActiveState == "failed" && s.SubState == "failed" && kills == 3 {
			if s.Result != "start-limit-hit" && s.Result != "signal" {
				t.Errorf("result %s", s.Result)
			}
			return
		}
		if s.ActiveState == "active" && s.NRestarts == kills {
			if kills == 3 {
				t.Fatalf("the engine was started a fourth time")
			}
			if err := syscall.Kill(s.MainPID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			kills++
		}
		time.Sleep(20 * time.Millisecond)
		if t.Context().Err() != nil {
			t.Fatal("the start limit was never reached")
		}
	}
}
