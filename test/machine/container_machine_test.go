//go:build machine

package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var suiteFiles = []File{{Guest: "/etc/of/the/test", Data: []byte("hello"), Mode: 0o640}}

func TestContainer(t *testing.T) {
	for _, release := range Releases() {
		t.Run(string(release), func(t *testing.T) {
			m := Start(t, Config{Release: release, Files: suiteFiles})
			t.Run("runs_the_systemd_of_the_release", func(t *testing.T) {
				want := fmt.Sprintf("systemd %d ", release.SystemdVersion())
				if got := m.MustRun(t, "systemctl", "--version"); !strings.HasPrefix(got, want) {
					t.Errorf("want %s, have %s", want, firstLine(got))
				}
				if got := m.MustRun(t, "systemctl", "is-system-running"); got != "running" {
					t.Error(got)
				}
			})
			t.Run("commands", func(t *testing.T) { commandSuite(t, m) })
			t.Run("files", func(t *testing.T) { fileSuite(t, m) })
			t.Run("network", func(t *testing.T) { networkSuite(t, m) })
			t.Run("test_binary", func(t *testing.T) { testBinarySuite(t, m) })
			t.Run("sandbox_is_real", func(t *testing.T) { sandboxSuite(t, m) })
			t.Run("reboot", func(t *testing.T) { rebootSuite(t, m) })
		})
	}
}

// sandboxSuite checks that what needs no controller works in a container, so that tests of it may
// run there.
func sandboxSuite(t *testing.T, m *Machine) {
	run := []string{"systemd-run", "--quiet", "--collect", "--wait", "--pipe"}
	with := func(properties ...string) []string { return append(append([]string(nil), run...), properties...) }
	t.Run("seccomp", func(t *testing.T) {
		r := m.Run(t.Context(), append(with("-pSystemCallFilter=~@chown", "-pSystemCallErrorNumber=EPERM"), "chown",
			"0", "/tmp")...)
		if r.ExitCode != 1 || !strings.Contains(r.Stderr, "not permitted") {
			t.Errorf("chown under a filter: code %d, %s%s", r.ExitCode, r.Stdout, r.Stderr)
		}
	})
	t.Run("dynamic_user_and_read_only_system", func(t *testing.T) {
		got := m.MustRun(t, append(with("-pDynamicUser=yes", "-pStateDirectory=x", "-pUser=some-engine"),
			"sh", "-c", "id -un; touch /var/lib/x/ok && touch /usr/no 2>/dev/null || echo read-only")...)
		if got != "some-engine\nread-only" {
			t.Error(got)
		}
	})
	t.Run("capabilities_can_be_dropped", func(t *testing.T) {
		got := m.MustRun(t, append(with("-pCapabilityBoundingSet="), "grep", "CapEff", "/proc/self/status")...)
		if !strings.HasSuffix(got, "\t0000000000000000") {
			t.Error(got)
		}
	})
}

func TestContainersDoNotMeet(t *testing.T) {
	// Two machines whose PID 1 share a cgroup stop each other's services.
	a, b := Start(t, Config{}), Start(t, Config{})
	for _, m := range []*Machine{a, b} {
		m.MustRun(t, "systemd-run", "--unit=same-name", "sleep", "1000")
	}
	a.MustRun(t, "systemctl", "stop", "same-name")
	if got := b.MustRun(t, "systemctl", "is-active", "same-name"); got != "active" {
		t.Error(got)
	}
	if got := b.MustRun(t, "pgrep", "-cf", "sleep 1000"); got != "1" {
		t.Errorf("%s processes", got)
	}
}

func TestContainerRequire(t *testing.T) {
	m := Start(t, Config{})
	t.Run("missing_controller_fails_the_test", func(t *testing.T) {
		r := record(t, func(r *recorder) { m.Require(r, Controllers("no-such-controller")) })
		if !r.Failed() || !strings.Contains(r.text(), "no-such-controller") || !strings.Contains(r.text(), "vm") {
			t.Errorf("failed is %v: %s", r.Failed(), r.text())
		}
	})
	t.Run("verdict_on_memory_is_what_the_kernel_does", func(t *testing.T) {
		if err := m.Check(t.Context(), Controllers("memory")); err != nil {
			t.Logf("no memory controller here: %v", err)
			if got := m.MustRun(t, "cat", "/sys/fs/cgroup/cgroup.controllers"); strings.Contains(got, "memory") {
				t.Errorf("but the machine has %s", got)
			}
			return
		}
		oomSuite(t, m)
	})
}

func TestFailedTestPrintsTheJournal(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(JournalDirEnv, dir)
	r := record(t, func(r *recorder) {
		m := Start(r, Config{})
		m.MustRun(r, "systemd-run", "--wait", "--quiet", "echo", "a telling line")
		m.MustRun(r, "false")
		r.Log("not reached")
	})
	if !r.Failed() || !strings.Contains(r.text(), "a telling line") || strings.Contains(r.text(), "not reached") {
		t.Errorf("failed is %v:\n%s", r.Failed(), r.text())
	}
	journal, err := os.ReadFile(filepath.Join(dir, "Recorded_test.journal"))
	if err != nil || !strings.Contains(string(journal), "a telling line") {
		t.Errorf("whole journal: %v\n%s", err, journal)
	}
}

func TestContainerLeavesNothing(t *testing.T) {
	boot := func(t *testing.T) (*Machine, *container) {
		t.Helper()
		m, err := Boot(t.Context(), Config{})
		if err != nil {
			t.Fatal(err)
		}
		return m, m.backend.(*container)
	}
	t.Run("after_power_off", func(t *testing.T) {
		m, c := boot(t)
		if err := m.PowerOff(t.Context()); err != nil {
			t.Fatal(err)
		}
		nothingLeft(t, c.dir.id)
	})
	t.Run("after_close", func(t *testing.T) {
		m, c := boot(t)
		m.MustShell(t, "setsid sleep 1000 >/dev/null 2>&1 &")
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		nothingLeft(t, c.dir.id)
		if r := m.Run(t.Context(), "true"); r.Err == nil {
			t.Error("a closed machine runs commands")
		}
	})
	t.Run("after_power_off_from_inside", func(t *testing.T) {
		m, c := boot(t)
		m.Run(t.Context(), "systemctl", "poweroff")
		select {
		case <-m.Gone():
		case <-time.After(time.Minute):
			t.Error("it runs on")
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		nothingLeft(t, c.dir.id)
	})
	t.Run("after_a_boot_that_was_given_up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(200*time.Millisecond, cancel)
		if m, err := Boot(ctx, Config{}); err == nil {
			_ = m.Close() // it was faster
		}
		for _, id := range machinesOf(t, os.Getpid()) {
			t.Errorf("machine %s is left", id)
		}
	})
	t.Run("after_kill_9_of_the_process", func(t *testing.T) { killedParent(t, Config{}) })
}

// helperEnv makes a process of this test binary boot a machine of that backend and wait to be
// killed.
const helperEnv = "MACHINE_TEST_HELPER"

func TestMain(m *testing.M) {
	if backend := os.Getenv(helperEnv); backend != "" {
		fmt.Println(bootAndWait(Kind(backend)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// bootAndWait is the other process of killedParent. It returns only when there is no machine.
func bootAndWait(backend Kind) error {
	m, err := Boot(context.Background(), Config{Backend: backend})
	if err != nil {
		return err
	}
	switch b := m.backend.(type) {
	case *container:
		pid, err := b.leader()
		if err != nil {
			return err
		}
		fmt.Println("helper:", b.dir.id, pid)
	case *vm:
		fmt.Println("helper:", b.dir.id, b.boot.process.Pid)
	}
	<-m.Gone()
	return errors.New("the machine has ended by itself")
}

// killedParent boots a machine in another process, kills that with SIGKILL, and checks that the
// machine's own processes end, and that the next boot removes the rest.
func killedParent(t *testing.T, cfg Config) {
	if cfg.Backend == "" {
		cfg.Backend = Container
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+string(cfg.Backend))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var id string
	var pid int
	for s := bufio.NewScanner(out); s.Scan(); {
		if _, err := fmt.Sscanf(s.Text(), "helper: %s %d", &id, &pid); err == nil {
			break
		}
		t.Log(s.Text())
	}
	if pid == 0 {
		t.Fatalf("the other process booted nothing: %v", cmd.Wait())
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	// A pidfd is readable when its process has ended (pidfd_open(2)).
	const patience = 30_000 // ms
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, patience); err != nil || n != 1 {
		t.Fatalf("process %d of the machine outlives its parent (%v)", pid, err)
	}
	m, err := Boot(t.Context(), Config{}) // sweeps
	if err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, id)
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// nothingLeft checks that the host has no trace of a machine.
func nothingLeft(t *testing.T, id string) {
	t.Helper()
	cache, err := CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{
		filepath.Join(runRoot, id), filepath.Join(cache, "running", id), "/run/systemd/nspawn/*/" + nameOnHost(id),
		"/sys/fs/cgroup/" + nameOnHost(id), "/sys/fs/cgroup/*/" + nameOnHost(id) + "*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) > 0 {
			t.Errorf("left behind: %v %v", found, err)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range processes {
		if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), id) {
			t.Errorf("left behind: %s %q", file, line)
		}
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), id) {
		t.Errorf("mounts left behind (%v)", err)
	}
}

// machinesOf lists the machines that a process has locked.
func machinesOf(t *testing.T, pid int) []string {
	t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err == nil && strings.HasPrefix(target, runRoot) && filepath.Base(target) == "lock" {
			ids = append(ids, filepath.Base(filepath.Dir(target)))
		}
	}
	return ids
}
