package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// said replaces the unit in which an engine prints its version; the real one is tested
// in a machine.
type said struct {
	out    string
	code   int // ExecMainCode; 0: CLD_EXITED
	status int
	result string
	err    error
	asked  int
	props  []systemd.Property // of the newest question
}

func (s *said) RunCapture(_ context.Context, _ string, props []systemd.Property, _ int) ([]byte, systemd.Status,
	error) {
	s.asked++
	s.props = props
	return []byte(s.out), systemd.Status{ExecMainCode: max(s.code, cldExited), ExecMainStatus: s.status,
		Result: s.result}, s.err
}

const elfHead = "\x7fELF and so on"

// foreignELF is a static program for another machine (EM_ALPHA).
const foreignELF = "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "\x02\x00\x26\x90\x01\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x40\x00\x38\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func TestPrepare(t *testing.T) {
	adapter, _ := engine.For(engine.LlamaCpp)
	cases := []struct {
		name  string
		setup func(d disk) string
		said  said
		code  registry.Code
		says  string
	}{
		{"no_such_binary", func(d disk) string { return d.path("llama-server") }, said{}, registry.CodeProvisionFailed, "does not exist"},
		{"no_such_name", func(disk) string { return "no-such-engine" }, said{}, registry.CodeProvisionFailed, "no binary no-such-engine in /usr/local/sbin"},
		{"not_executable", func(d disk) string { return d.file("e", elfHead, 0o644) }, said{}, registry.CodeProvisionFailed, "mode 0644"},
		{"executable_for_its_owner_only", func(d disk) string { return d.file("e", elfHead, 0o700) }, said{}, registry.CodeProvisionFailed, "cannot execute it"},
		{"a_directory", func(d disk) string { d.file("e/x", elfHead, 0o755); return d.path("e") }, said{}, registry.CodeProvisionFailed, "not a regular file"},
		{"no_program", func(d disk) string { return d.file("e", "hello", 0o755) }, said{}, registry.CodeProvisionFailed, "neither a program nor a script"},
		{"interpreter_missing", func(d disk) string { return d.file("e", "#!/no/python3 -I\n", 0o755) }, said{}, registry.CodeProvisionFailed, `"/no/python3", which does not exist`},
		{"library_missing", func(d disk) string { return d.file("e", elfHead, 0o755) },
			said{out: "e: error while loading shared libraries: libcudart.so.12: cannot open shared object file", status: 127}, "", ""},
		{"system_too_old", func(d disk) string { return d.file("e", elfHead, 0o755) },
			said{out: "e: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by e)\n", status: 1}, "", ""},
		{"wrong_architecture", func(d disk) string { return d.file("e", foreignELF, 0o755) }, said{status: 203}, registry.CodeProvisionFailed, "it was built for alpha"},
		{"noexec_mount", func(d disk) string { return d.file("e", elfHead, 0o755) }, said{status: 203}, registry.CodeProvisionFailed, "permission denied; is"},
		{"appimage", func(d disk) string { return d.file("e.AppImage", "\x7fELF\x02\x01\x01\x00AI\x02", 0o755) }, said{}, registry.CodeProvisionFailed, "is an AppImage"},
		{"script_that_executes_an_appimage", func(d disk) string {
			image := d.file("e.AppImage", "\x7fELF\x02\x01\x01\x00AI\x02", 0o755)
			return d.file("run", "#!/bin/sh\nexec "+image+" serve \"$@\"\n", 0o755)
		}, said{}, registry.CodeProvisionFailed, "which is an AppImage"},
		{"script_whose_appimage_unpacks_itself", func(d disk) string {
			image := d.file("e.AppImage", "\x7fELF\x02\x01\x01\x00AI\x02", 0o755)
			return d.file("run", "#!/bin/sh\nexport APPIMAGE_EXTRACT_AND_RUN=1\nexec "+image+" serve \"$@\"\n", 0o755)
		}, said{out: "version: 1 (a)"}, "", "1"},
		{"shim_of_a_version_manager", func(d disk) string { return d.file(".pyenv/shims/vllm", "#!/bin/sh\n", 0o755) }, said{}, registry.CodeProvisionFailed, "is a shim of pyenv"},
		{"capabilities_of_its_own", func(d disk) string {
			path := d.file("e", elfHead, 0o755)
			caps := []byte{1, 0, 0, 2, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // cap_sys_nice=ep
			if err := unix.Setxattr(path, "security.capability", caps, 0); err != nil {
				d.t.Skip(err)
			}
			return path
		}, said{status: 203}, registry.CodeProvisionFailed, "has capabilities of its own"},
		{"another_processor", func(d disk) string { return d.file("e", elfHead, 0o755) }, said{code: 3, status: 4}, registry.CodeProvisionFailed, "another processor"},
		{"sandbox_not_made", func(d disk) string { return d.file("e", elfHead, 0o755) }, said{status: 226}, "", ""},
		{"no_answer", func(d disk) string { return d.file("e", elfHead, 0o755) }, said{result: "timeout", code: 2, status: 15}, "", ""},
		{"script_that_cannot_be_read", func(d disk) string { return d.file("e", "#!/bin/sh\n", 0o711) }, said{}, registry.CodeProvisionFailed, "cannot read it"},
		{"closed_folder", func(d disk) string {
			path := d.file("bin/e", elfHead, 0o755)
			if err := os.Chmod(d.path("bin"), 0o750); err != nil {
				d.t.Fatal(err)
			}
			return path
		}, said{}, registry.CodeProvisionFailed, "bin has mode 0750"},
		{"link_into_a_closed_folder", func(d disk) string {
			d.file("bin/e", elfHead, 0o755)
			if err := os.Chmod(d.path("bin"), 0o750); err != nil {
				d.t.Fatal(err)
			}
			d.link("bin/e", "e")
			return d.path("e")
		}, said{}, registry.CodeProvisionFailed, "bin has mode 0750"},
		{"crashes_when_asked", func(d disk) string { return d.file("e", elfHead, 0o755) }, said{code: 3, status: 11}, "", ""},
		{"script", func(d disk) string { return d.file("e", "#! /bin/sh -e\n", 0o755) }, said{out: "version: 1 (a)"}, "", "1"},
		{"pid_1_does_not_answer", func(d disk) string { return d.file("e", elfHead, 0o755) }, said{err: systemd.ErrDisconnected}, registry.CodeProvisionFailed, "could not query"},
		{"version_not_understood", func(d disk) string { return d.file("e", elfHead, 0o755) }, said{out: "?"}, "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := newDisk(t)
			pr := &Preparer{Capture: &c.said, Log: slog.New(slog.DiscardHandler)}
			got, err := pr.Prepare(t.Context(),
				pool.Pool{ID: "a", Engine: engine.LlamaCpp, Provisioning: pool.Provisioning{Binary: c.setup(d)}},
				adapter)
			if c.code == "" {
				if err != nil || got.Version != c.says {
					t.Fatalf("Prepare = %+v, %v", got, err)
				}
				return
			}
			var f *registry.Failure
			if !errors.As(err, &f) || f.Code != c.code || !strings.Contains(f.Message, c.says) || f.Hint == "" {
				t.Fatalf("Prepare: %+v (%v), want %s with %q", f, err, c.code, c.says)
			}
			pasted(t, f.Hint)
		})
	}
}

func TestPrepareEndsWithItsContext(t *testing.T) {
	adapter, _ := engine.For(engine.LlamaCpp)
	d := newDisk(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	pr := &Preparer{Capture: &said{err: context.Canceled}, Log: slog.New(slog.DiscardHandler)}
	var f *registry.Failure
	_, err := pr.Prepare(ctx, pool.Pool{Provisioning: pool.Provisioning{Binary: d.file("e", elfHead, 0o755)}}, adapter)
	if !errors.Is(err, context.Canceled) || errors.As(err, &f) {
		t.Errorf("Prepare: %v, want canceled and no verdict on the binary", err)
	}
}

// TestEnvironmentHoldsForTheVersion: a library that only [env] leads to is found when the version
// is asked for, and another environment is another question.
func TestEnvironmentHoldsForTheVersion(t *testing.T) {
	adapter, _ := engine.For(engine.LlamaCpp)
	d := newDisk(t)
	d.file("lib64/libggml.so.0", elfHead, 0o644)
	asked := &said{out: "version: 8533 (1a2b3c4)\n"}
	pr := &Preparer{Store: d.store(), Capture: asked, Log: slog.New(slog.DiscardHandler)}
	search := d.path("lib64") + ":/no/such"
	p := pool.Pool{ID: "a", Engine: engine.LlamaCpp,
		Provisioning: pool.Provisioning{Binary: d.file("bin/e", elfHead, 0o755)},
		Env:          map[string]string{"LD_LIBRARY_PATH": search, "TOKEN": "a"}}
	for range 2 {
		got, err := pr.Prepare(t.Context(), p, adapter)
		if err != nil || got.Version != "8533" || !slices.Contains(got.ReadOnly, d.path("lib64")) {
			t.Fatalf("Prepare = %+v, %v", got, err)
		}
	}
	i := slices.IndexFunc(asked.props, func(p systemd.Property) bool { return p.Name == "Environment" })
	if env, _ := asked.props[i].Value.([]string); !slices.Contains(env, "LD_LIBRARY_PATH="+search) {
		t.Errorf("the question's environment is %v", env)
	}
	p.Env = map[string]string{"TOKEN": "b"}
	if _, err := pr.Prepare(t.Context(), p, adapter); err != nil || asked.asked != 2 {
		t.Errorf("another environment: %v, asked %d times, want twice", err, asked.asked)
	}
}

// TestModulesOfAUser: a script of pip's --user gets the folder of its modules, for its version as
// for its start, unless the pool names another.
func TestModulesOfAUser(t *testing.T) {
	adapter, _ := engine.For(engine.VLLM)
	d := newDisk(t)
	d.file("ann/.local/lib/python3.13/site-packages/vllm/__init__.py", "", 0o644)
	script := d.file("ann/.local/bin/vllm", "#!"+d.file("system/bin/python3.13", elfHead, 0o755)+"\n", 0o755)
	asked := &said{out: "0.24.0\n"}
	pr := &Preparer{Store: d.store(), Capture: asked, Log: slog.New(slog.DiscardHandler)}
	for want, env := range map[string]map[string]string{d.path("ann/.local"): nil,
		"/srv/other": {"PYTHONUSERBASE": "/srv/other"}} {
		got, err := pr.Prepare(t.Context(), pool.Pool{ID: "a", Engine: engine.VLLM, Env: env,
			Provisioning: pool.Provisioning{Binary: script}}, adapter)
		if err != nil || got.Env["PYTHONUSERBASE"] != d.path("ann/.local") {
			t.Fatalf("Prepare = %+v, %v", got, err)
		}
		i := slices.IndexFunc(asked.props, func(p systemd.Property) bool { return p.Name == "Environment" })
		if env, _ := asked.props[i].Value.([]string); !slices.Contains(env, "PYTHONUSERBASE="+want) {
			t.Errorf("the question's environment is %v, want %s", env, want)
		}
	}
}

// TestFilesOfVariablesHoldForTheVersion: PID 1 reads them for the question too, so that no value of
// them is in its unit, and what the pool file sets wins over them.
func TestFilesOfVariablesHoldForTheVersion(t *testing.T) {
	adapter, _ := engine.For(engine.LlamaCpp)
	d := newDisk(t)
	d.file("lib64/libggml.so.0", elfHead, 0o644)
	asked := &said{out: "version: 8533 (1a2b3c4)\n"}
	pr := &Preparer{Store: d.store(), Capture: asked, Gate: "/gate", Log: slog.New(slog.DiscardHandler)}
	binary := d.file("bin/e", elfHead, 0o755)
	p := pool.Pool{ID: "a", Engine: engine.LlamaCpp, Provisioning: pool.Provisioning{Binary: binary},
		Env: map[string]string{"A": "1 2"}, EnvFiles: []string{"/etc/llm/a", "/etc/llm/b"},
		FileEnv: map[string]pool.FileVariable{"LD_LIBRARY_PATH": {Value: pool.Hidden(d.path("lib64"))},
			"HF_TOKEN": {Value: "hf_secret"}}}
	got, err := pr.Prepare(t.Context(), p, adapter)
	if err != nil || !slices.Contains(got.ReadOnly, d.path("lib64")) {
		t.Fatalf("Prepare = %+v, %v", got, err)
	}
	props := fmt.Sprintf("%+v", asked.props)
	for _, want := range []string{
		"{Name:EnvironmentFiles Value:[{Path:/etc/llm/a IgnoreMissing:false} {Path:/etc/llm/b IgnoreMissing:false}]}",
		"[/gate exec --set HOME=/dev/shm --set XDG_CACHE_HOME=/dev/shm --set CUDA_VISIBLE_DEVICES= --set A=1 2 -- " + binary + " --version]",
	} {
		if !strings.Contains(props, want) {
			t.Errorf("no %s in %s", want, props)
		}
	}
	if strings.Contains(props, "hf_secret") {
		t.Errorf("the question's unit holds a value of a file: %s", props)
	}
	p.FileEnv = map[string]pool.FileVariable{"HF_TOKEN": {Value: "hf_other"}}
	if _, err := pr.Prepare(t.Context(), p, adapter); err != nil || asked.asked != 2 {
		t.Errorf("another value: %v, asked %d times, want twice", err, asked.asked)
	}
}

func TestVersionIsAskedOnceForEachBinary(t *testing.T) {
	adapter, _ := engine.For(engine.LlamaCpp)
	d := newDisk(t)
	asked := &said{out: "version: 8533 (1a2b3c4)\nbuilt with gcc\n"}
	pr := &Preparer{Store: d.store(), Capture: asked, Log: slog.New(slog.DiscardHandler)}
	p := pool.Pool{ID: "a", Engine: engine.LlamaCpp,
		Provisioning: pool.Provisioning{Binary: d.file("e", elfHead, 0o755)}}
	for range 3 {
		got, err := pr.Prepare(t.Context(), p, adapter)
		if err != nil || !strings.Contains(got.Version, "8533") {
			t.Fatalf("Prepare = %+v, %v", got, err)
		}
	}
	if asked.asked != 1 {
		t.Errorf("asked %d times, want once", asked.asked)
	}
	d.file("e", elfHead+" newer", 0o755)
	if _, err := pr.Prepare(t.Context(), p, adapter); err != nil || asked.asked != 2 {
		t.Errorf("a new binary: %v, asked %d times, want twice", err, asked.asked)
	}
}

func TestPorts(t *testing.T) {
	a, b, c := pool.Replica{Pool: "a"}, pool.Replica{Pool: "b"}, pool.Replica{Pool: "c"}
	claim := func(t *testing.T, p *Ports, r pool.Replica, want, port int) {
		t.Helper()
		if got, err := p.Claim(r, want); err != nil || got != port {
			t.Fatalf("Claim(%s, %d) = %d, %v, want %d", r, want, got, err, port)
		}
	}
	// The ports in their order, none in use.
	sorted := func(low, high int) *Ports {
		p := NewPorts(low, high)
		p.order = func(n int) []int {
			all := make([]int, n)
			for i := range all {
				all[i] = i
			}
			return all
		}
		p.taken = func(int) bool { return false }
		return p
	}
	t.Run("each_its_own_and_the_same_again", func(t *testing.T) {
		p := sorted(21000, 21001)
		claim(t, p, a, 0, 21000)
		claim(t, p, b, 0, 21001)
		claim(t, p, a, 0, 21000)
		if _, err := p.Claim(c, 0); err == nil || !strings.Contains(err.Error(), "every port from 21000 to 21001") {
			t.Errorf("a third replica: %v", err)
		}
		p.Release(a)
		claim(t, p, c, 0, 21000)
	})
	t.Run("adopted_ports_are_respected", func(t *testing.T) {
		p := sorted(21000, 21009)
		p.Adopt(b, 21000)
		claim(t, p, a, 0, 21001)
		claim(t, p, b, 0, 21000)
	})
	t.Run("a_port_that_another_adopted_is_not_taken_back", func(t *testing.T) {
		p := sorted(21000, 21009)
		claim(t, p, a, 0, 21000)
		p.Adopt(b, 21000)
		p.Release(a)
		if _, err := p.Claim(c, 21000); err == nil {
			t.Error("the port of a running replica was assigned to a third")
		}
	})
	t.Run("a_wanted_port_is_given_or_refused", func(t *testing.T) {
		p := sorted(21000, 21009)
		claim(t, p, a, 8080, 8080)
		if _, err := p.Claim(b, 8080); err == nil || !strings.Contains(err.Error(), "already assigned to a/r0") {
			t.Errorf("the same port again: %v", err)
		}
		claim(t, p, a, 8081, 8081)
		claim(t, p, b, 8080, 8080)
	})
	t.Run("a_port_that_a_pool_names_is_kept_for_it", func(t *testing.T) {
		p := sorted(21000, 21009)
		p.Reserve([]int{21000})
		claim(t, p, a, 0, 21001)
		claim(t, p, b, 21000, 21000)
	})
	t.Run("a_port_in_use_is_passed_over", func(t *testing.T) {
		p := sorted(21000, 21009)
		p.taken = func(port int) bool { return port < 21007 }
		claim(t, p, a, 0, 21007)
		p.Release(a)
		claim(t, p, a, 0, 21007)
	})
	t.Run("all_in_use", func(t *testing.T) {
		p := sorted(21000, 21001)
		claim(t, p, a, 0, 21000)
		p.taken = func(int) bool { return true }
		_, err := p.Claim(b, 0)
		var f *registry.Failure
		if !errors.As(err, &f) || f.Code != registry.CodePortInUse ||
			!strings.Contains(f.Message, "1 of them by other") {
			t.Errorf("Claim: %v", err)
		}
	})
	t.Run("not_the_same_each_time", func(t *testing.T) {
		seen := map[int]bool{}
		for range 20 {
			p := NewPorts(21000, 60999)
			p.taken = func(int) bool { return false }
			port, err := p.Claim(a, 0)
			if err != nil || port < 21000 || port > 60999 {
				t.Fatalf("port %d, %v", port, err)
			}
			seen[port] = true
		}
		if len(seen) < 2 {
			t.Errorf("20 times the same port: %v", seen)
		}
	})
}

func TestPortFree(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	var f *registry.Failure
	if err := PortFree(port); !errors.As(err, &f) ||
		!strings.Contains(f.Message, "is in use by a program of user ID") ||
		!strings.Contains(f.Hint, "ss -ltnp") {
		t.Errorf("PortFree of a taken port: %v", err)
	}
	l.Close()
	if err := PortFree(port); err != nil {
		t.Errorf("PortFree of a free port: %v", err)
	}
}

// TestPortInTimeWait: a port that only ended connections have is free (TIME_WAIT of tcp(7)), as
// after an engine that closed its requests.
func TestPortInTimeWait(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	accepted.Close() // the side that closes first keeps the port
	_, _ = conn.Read(make([]byte, 1))
	conn.Close()
	l.Close()
	time.Sleep(10 * time.Millisecond)
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil || !strings.Contains(string(table), fmt.Sprintf(" 0100007F:%04X 0100007F:%04X 06 ", port,
		conn.LocalAddr().(*net.TCPAddr).Port)) {
		t.Skip("the connection is not in TIME_WAIT")
	}
	if err := PortFree(port); err != nil {
		t.Errorf("PortFree: %v", err)
	}
}
