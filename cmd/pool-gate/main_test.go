package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/gate/exit"
)

func TestCommandLine(t *testing.T) {
	const url = "http://127.0.0.1:1/health"
	cases := []struct {
		name    string
		args    []string
		mainPID string
		says    string
	}{
		{"nothing", nil, "1", "usage: pool-gate"},
		{"unknown_flag", []string{"--url", url, "--no-such-flag"}, "1", "no-such-flag"},
		{"stray_word", []string{"--url", url, "word"}, "1", "usage: pool-gate"},
		{"no_time", []string{"--url", url, "--stall", "0s"}, "1", "usage: pool-gate"},
		{"not_a_duration", []string{"--url", url, "--stall", "5"}, "1", "-stall"},
		{"not_run_by_pid_1", []string{"--url", url}, "", "MAINPID is not set"},
		{"gpu_of_an_unknown_engine", []string{"--url", url, "--gpu"}, "1", "usage: pool-gate"},
		{"memory_of_nothing", []string{"memory"}, "", "usage: pool-gate"},
		{"memory_of_no_number", []string{"memory", "--need", "GPU-a=5G"}, "", "is not of the form DEVICE=BYTES"},
		{"memory_with_a_stray_word", []string{"memory", "--host", "5", "word"}, "", "usage: pool-gate"},
		{"release_with_a_stray_word", []string{"release", "word"}, "", "usage: pool-gate"},
		{"disk_of_nothing", []string{"disk"}, "", "usage: pool-gate"},
		{"exec_of_nothing", []string{"exec", "--key", "A"}, "", "usage: pool-gate"},
		{"exec_sets_no_assignment", []string{"exec", "--set", "A", "--", "/bin/true"}, "", "want NAME=value"},
		{"exec_without_a_variable", []string{"exec", "--", "/bin/true"}, "", "usage: pool-gate"},
		{"unknown_command", []string{"forget"}, "", "usage: pool-gate"},
		{"another_host", []string{"--url", "http://192.0.2.1:1/health"}, strconv.Itoa(os.Getpid()), "is not of the form"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("MAINPID", c.mainPID)
			var stderr strings.Builder
			if got := run(c.args, &stderr); got != exit.Usage || !strings.Contains(stderr.String(), c.says) {
				t.Errorf("exit %d, want %d, and %q in:\n%s", got, exit.Usage, c.says, &stderr)
			}
		})
	}
}

// TestExec: the program gets the key in its environment, and PID 1 its own status for one that
// cannot be executed.
func TestExec(t *testing.T) {
	if os.Getenv("POOL_GATE_TEST_EXEC") != "" {
		os.Exit(run([]string{"exec", "--key", "SECRET", "--", "/bin/sh", "-c", `echo "$SECRET $0 $1"`, "one", "two three"},
			os.Stderr))
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "api-key"), []byte("sk-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestExec$")
	cmd.Env = append(os.Environ(), "POOL_GATE_TEST_EXEC=1")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "sk-1 one two three\n" {
		t.Errorf("%q, %v", out, err)
	}
	var stderr strings.Builder
	if got := run([]string{"exec", "--key", "SECRET", "--", "/nowhere"}, &stderr); got != exit.NotExecuted ||
		!strings.Contains(stderr.String(), "could not execute /nowhere") || strings.Contains(stderr.String(), "sk-1") {
		t.Errorf("exit %d:\n%s", got, &stderr)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if got := run([]string{"exec", "--key", "SECRET", "--", "/bin/true"}, &stderr); got != exit.Failed {
		t.Errorf("without credentials: exit %d:\n%s", got, &stderr)
	}
}

// TestExecSets: variables that are set replace inherited ones, and others stay.
func TestExecSets(t *testing.T) {
	if os.Getenv("POOL_GATE_TEST_EXEC") != "" {
		os.Exit(run([]string{"exec", "--set", "A=1=2 3", "--set", "B=", "--", "/usr/bin/env"}, os.Stderr))
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestExecSets$")
	cmd.Env = []string{"POOL_GATE_TEST_EXEC=1", "A=0", "AA=0", "B=0"}
	out, err := cmd.CombinedOutput()
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(got)
	if want := []string{"A=1=2 3", "AA=0", "B=", "POOL_GATE_TEST_EXEC=1"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// TestMemoryNeedsNoMainPID: before the start there is no main process.
func TestMemoryNeedsNoMainPID(t *testing.T) {
	t.Setenv("MAINPID", "")
	var stderr strings.Builder
	if got := run([]string{"memory", "--host", "1", "--wait", "0s"}, &stderr); got != exit.Ready || stderr.Len() > 0 {
		t.Errorf("exit %d:\n%s", got, &stderr)
	}
	if got := run([]string{"memory", "--host", "2", "--memory-max", "1"}, &stderr); got != exit.InsufficientRAM {
		t.Errorf("exit %d:\n%s", got, &stderr)
	}
	none := t.TempDir() + "/none"
	if got := run([]string{"memory", "--need", "GPU-a=1", "--socket", none}, &stderr); got != exit.Ready ||
		!strings.Contains(stderr.String(), none) {
		t.Errorf("exit %d:\n%s", got, &stderr)
	}
	if got := run([]string{"release", "--socket", none}, &stderr); got != exit.Ready {
		t.Errorf("exit %d:\n%s", got, &stderr)
	}
}

// TestSeccomp: the filter is a file of root's alone, and a command line that is wrong writes none.
func TestSeccomp(t *testing.T) {
	out := filepath.Join(t.TempDir(), "seccomp.json")
	if code := run([]string{"seccomp"}, io.Discard); code != exit.Usage {
		t.Errorf("without --out: exit status %d", code)
	}
	if code := run([]string{"seccomp", "--out", out, "--allow", "mbind,"}, io.Discard); code != exit.Usage {
		t.Errorf("with an empty call: exit status %d", code)
	}
	if code := run([]string{"seccomp", "--out", filepath.Join(out, "x")}, io.Discard); code != exit.Failed {
		t.Errorf("a directory that is not there: exit status %d", code)
	}
	if code := run([]string{"seccomp", "--out", out, "--allow", "mbind", "--netlink"}, io.Discard); code != exit.Ready {
		t.Fatalf("exit status %d", code)
	}
	info, err := os.Stat(out)
	data, read := os.ReadFile(out)
	if err != nil || read != nil || info.Mode().Perm() != 0o644 || !strings.Contains(string(data), `"mbind"`) {
		t.Errorf("%v %v %v: %.100s", err, read, info, data)
	}
}

// TestPlaces: what is a folder on the host is one in the image, everything else a file, and all can
// be passed by other users.
func TestPlaces(t *testing.T) {
	root := t.TempDir()
	none := filepath.Join(t.TempDir(), "none")
	if code := run([]string{"places", "--root", root}, io.Discard); code != exit.Usage {
		t.Errorf("without a path: exit status %d", code)
	}
	if code := run([]string{"places", "--root", none, "/etc"}, io.Discard); code != exit.Failed {
		t.Errorf("without an image: exit status %d", code)
	}
	if code := run([]string{"places", "--root", root, filepath.Dir(none), none}, io.Discard); code != exit.Ready {
		t.Fatalf("exit status %d", code)
	}
	folder, err := os.Stat(filepath.Join(root, filepath.Dir(none)))
	if err != nil || !folder.IsDir() || folder.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", folder, err)
	}
	file, err := os.Stat(filepath.Join(root, none))
	if err != nil || !file.Mode().IsRegular() || file.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", file, err)
	}
	driver := filepath.Join(none+".so", "lib.so")
	args := []string{"places", "--root", root, "--driver", os.DevNull + ":" + driver}
	if code := run(args, io.Discard); code != exit.Ready {
		t.Fatalf("a driver's file: exit status %d", code)
	}
	if file, err := os.Stat(filepath.Join(root, driver)); err != nil || !file.Mode().IsRegular() {
		t.Errorf("a driver's file: %v, %v", file, err)
	}
	if code := run([]string{"places", "--root", root, "--driver", "/a"}, io.Discard); code != exit.Usage {
		t.Errorf("a driver's file without its place: exit status %d", code)
	}
	if code := run([]string{"places", "--root", root, filepath.Join(none, "x")}, io.Discard); code != exit.Failed {
		t.Errorf("below a file: exit status %d", code)
	}
}
