package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/owner"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// insideSteps are those that need systemd, in the order of their worth: time may run out.
func insideSteps(tools Tools) []Step {
	return []Step{
		{"A systemd in a container", 30 * time.Second, func(ctx context.Context,
			t *Table) error {
			return system(ctx, t, tools)
		}},
		{"pool-gpu as the package runs it", 45 * time.Second, func(ctx context.Context,
			t *Table) error {
			return packaged(ctx, t, tools)
		}},
		{"A whole pool", 60 * time.Second, func(ctx context.Context, t *Table) error {
			return wholePool(ctx, t,
				tools)
		}},
		{"Proof of the GPU", 70 * time.Second, func(ctx context.Context,
			t *Table) error {
			return proof(ctx, t, tools)
		}},
		{"llama-server with CUDA", 100 * time.Second, func(ctx context.Context,
			t *Table) error {
			return llama(ctx, t, tools)
		}},
		{"Masks and device fences", 45 * time.Second, func(ctx context.Context,
			t *Table) error {
			return masks(ctx, t, tools)
		}},
		{"Two engines on one GPU, and out of memory", 60 * time.Second, func(ctx context.Context,
			t *Table) error {
			return shared(ctx, t, tools)
		}},
		{"The sandbox of an engine", 150 * time.Second, func(ctx context.Context,
			t *Table) error {
			return sandboxTable(ctx, t, tools)
		}},
	}
}

// system reports what the container is like, and waits until the product runs.
func system(ctx context.Context, t *Table, tools Tools) error {
	t.Header = []string{"fact", ""}
	version, err := output(ctx, "systemctl", "--version")
	if err != nil {
		return err
	}
	t.row("systemd", strings.TrimSpace(strings.SplitN(version, "\n", 2)[0]))
	controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	t.row("cgroup controllers", strings.TrimSpace(string(controllers)))
	if err != nil {
		return err
	}
	if _, err := output(ctx, "systemd-sysusers"); err != nil {
		t.note("systemd-sysusers: %v", err)
	}
	// One socket has failed without the group, which a package makes before it starts anything.
	for _, args := range [][]string{{"stop", "pool-managerd.service"},
		{"start", "pool-managerd-admin.socket", "pool-managerd.service"}} {
		if _, err := output(ctx, "systemctl", args...); err != nil {
			t.fault("systemctl %s: %v", strings.Join(args, " "), err)
		}
	}
	err = eventually(ctx, 100*time.Millisecond, func() error {
		var list struct{}
		return api(ctx, "/v1/pools", &list)
	})
	if err != nil {
		return errors.Join(err, keepJournal(tools))
	}
	failed, err := output(ctx, "systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager")
	t.row("failed units", strings.Join(strings.Fields(failed), " "))
	if strings.Contains(failed, "pool-") {
		t.fault("units of the package failed: %s", strings.TrimSpace(failed))
	}
	return err
}

// keepJournal writes the whole journal beside the report.
func keepJournal(tools Tools) error {
	text, err := output(context.Background(), "journalctl", "--no-pager", "--lines=5000", "--output=short-monotonic")
	return errors.Join(err, os.WriteFile(filepath.Join(tools.Out, "journal.log"), []byte(text), 0o644))
}

// packaged compares the pool-gpu of the packaged unit, in its sandbox, with nvidia-smi, and whose
// processes it says are on the GPU.
func packaged(ctx context.Context, t *Table, tools Tools) error {
	began := time.Now()
	first, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := eventually(first, 10*time.Millisecond, func() error {
		s, err := snapshot(first, wire.Socket)
		if err == nil && s.Driver.Problem != nil {
			err = s.Driver.Problem
		}
		return err
	}); err != nil {
		t.fault("the packaged pool-gpu reports no GPU: %v", err)
		return keepJournal(tools)
	}
	t.note("The packaged pool-gpu answered %s after the question.", time.Since(began).Round(time.Millisecond))
	if err := compareFigures(ctx, t, tools, wire.Socket); err != nil {
		t.note("No comparison: %v.", err)
	}
	if err := sampleTimes(ctx, t, wire.Socket, 100); err != nil {
		return err
	}
	if err := compiledTests(ctx, t, tools); err != nil {
		return err
	}
	return namespaces(ctx, t, tools)
}

// compiledTests runs the tests of `make test-gpu`, which the bundle has compiled.
func compiledTests(ctx context.Context, t *Table, tools Tools) error {
	dir := filepath.Join(tools.Dir, "test/test/gpu")
	if _, err := os.Stat(filepath.Join(dir, "gpu.test")); err != nil {
		return nil
	}
	if tools.Fake {
		t.note("The tests of make test-gpu were not run: they are for a real GPU.")
		return nil
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "gpu.test"), "-test.v", "-test.timeout=60s")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "POOL_GPU="+tools.bin("pool-gpu"))
	text, err := cmd.CombinedOutput()
	if keep := os.WriteFile(filepath.Join(tools.Out, "gpu.test.log"), text, 0o644); keep != nil {
		return keep
	}
	if err != nil {
		t.fault("make test-gpu: %v; gpu.test.log has its output", err)
		return nil
	}
	t.note("The tests of make test-gpu pass (%d of them).", strings.Count(string(text), "--- PASS"))
	return nil
}

// namespaces reports which process numbers NVML lists inside a PID namespace, and which unit they
// are found to belong to.
func namespaces(ctx context.Context, t *Table, tools Tools) error {
	before, err := firstDevice(ctx, wire.Socket)
	if err != nil {
		return err
	}
	if tools.Python == "" {
		return errors.New("no Python with PyTorch on this host")
	}
	p, err := hold(ctx, tools, tools.pytorch(1))
	if err != nil {
		t.note("Process numbers were not tried: %v.", err)
		return nil
	}
	during, err := firstDevice(ctx, wire.Socket)
	if err != nil {
		return err
	}
	t.note("In this PID namespace a process is number %d, NVML lists %s, and its memory there is %s.",
		p.cmd.Process.Pid,
		listed(during.Processes), usedBy(during, p.cmd.Process.Pid))
	if usedBy(during, p.cmd.Process.Pid) == "nothing" {
		t.fault("NVML lists no process %d of this PID namespace", p.cmd.Process.Pid)
	}
	for _, other := range during.Processes {
		if want := (owner.Tree{}).Of(other.PID).Unit; other.Unit != want || want == "" {
			t.fault("process %d is said to be in unit %q, and is in %q", other.PID, other.Unit, want)
		}
	}
	_, _, err = p.end(ctx, wire.Socket, syscall.SIGTERM, before.Memory.Free)
	return err
}

// quoted is a string for TOML.
func quoted(args ...string) string {
	all := make([]string, len(args))
	for i, a := range args {
		all[i] = fmt.Sprintf("%q", a)
	}
	return "[" + strings.Join(all, ", ") + "]"
}
