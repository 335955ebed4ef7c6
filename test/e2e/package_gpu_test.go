//go:build machine

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// What the package calls the GPU helper's parts.
const (
	gpuSocket = "/run/pool-managerd/gpu.sock"
	gpuUnit   = "pool-gpu.service"
)

// problem asks the helper for a snapshot, which starts it where it does not run, and returns why it
// knows no GPUs: "" when it does know some.
func (p packaged) problem(t *testing.T) string {
	t.Helper()
	conn, err := p.DialContext(t.Context(), "unix", gpuSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(conn, `{"pool_gpu":1,"op":"snapshot"}`); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var reply struct {
		Snapshot *struct {
			Driver struct{ Problem *struct{ Kind string } }
		}
	}
	if err := json.Unmarshal(line, &reply); err != nil || reply.Snapshot == nil {
		t.Fatalf("the helper printed %s (%v), want a snapshot", line, err)
	}
	if reply.Snapshot.Driver.Problem == nil {
		return ""
	}
	return reply.Snapshot.Driver.Problem.Kind
}

// helper returns the helper's process, started by a question where it did not run.
func (p packaged) helper(t *testing.T) string {
	t.Helper()
	p.problem(t)
	return p.MustRun(t, "systemctl", "show", "--property=MainPID", "--value", gpuUnit)
}

// packageGPU: on a host without a driver the helper starts on demand, reports what is missing,
// and has no right and no way out.
func packageGPU(t *testing.T, p packaged) {
	p.is(t, "enabled\nactive", "systemctl is-enabled pool-gpu.socket; systemctl is-active pool-gpu.socket")
	p.is(t, "srw------- root root", "stat -c '%A %U %G' "+gpuSocket)
	if got := p.problem(t); got != "no-library" {
		t.Errorf("the driver's problem is %q, want no-library", got)
	}
	pid := p.helper(t)
	for field, want := range map[string]string{
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
		"CapBnd": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
	} {
		p.is(t, want, "awk '$1 == \""+field+":\" { print $2 }' /proc/"+pid+"/status")
	}
	p.is(t, "pool-gpu", "ps -o user= -p "+pid)
	for _, program := range []string{"/bin/sh", "/usr/bin/env", "/usr/bin/poolctl"} {
		r := p.Run(t.Context(), "nsenter", "--target", pid, "--mount", "--", program)
		if r.ExitCode == 0 || !strings.Contains(r.Stderr, "Permission denied") {
			t.Errorf("%s could be executed where the helper runs: exit code %d\n%s", program, r.ExitCode, r.Stderr)
		}
	}
	// The control: what it is made of can be.
	p.MustRun(t, "nsenter", "--target", pid, "--mount", "--", "/usr/lib/pool-managerd/pool-gpu", "--version")
	p.is(t, "", `
		for dir in / /etc /opt /usr/bin /usr/lib /usr/local /usr/local/lib /root /srv /home /boot /run /run/pool-managerd /run/systemd /var/cache /var/lib /sys/fs/cgroup; do
			if cp /bin/true /proc/`+pid+`/root$dir/program 2>/dev/null; then echo $dir; fi
		done`)

	out := p.MustRun(t, "systemd-analyze", "security", "--no-pager", gpuUnit)
	rating := overallExposure.FindStringSubmatch(out)
	if rating == nil {
		t.Fatalf("systemd-analyze security %s:\n%s", gpuUnit, out)
	}
	if rated, err := strconv.ParseFloat(rating[1], 64); err != nil || rated > 1.0 {
		t.Errorf("%s is exposed at %s, want 1.0 or less:\n%s", gpuUnit, rating[1], out)
	}
	t.Logf("%s: %s", gpuUnit, rating[1])
}

// packageGPUApart: manager and helper restart without each other, and the socket outlives all
// deaths of its service.
func packageGPUApart(t *testing.T, p packaged) {
	helper := p.helper(t)
	socket := p.MustShell(t, "systemctl show --property=InvocationID pool-gpu.socket; stat -c %i "+gpuSocket)

	p.MustRun(t, "systemctl", "restart", host.ManagerUnit)
	p.answers(t)
	if got := p.helper(t); got != helper {
		t.Errorf("a restart of the manager made helper %s into %s", helper, got)
	}
	p.MustRun(t, "systemctl", "stop", "pool-managerd.socket", host.ManagerUnit)
	p.is(t, "active", "systemctl is-active pool-gpu.socket")
	p.MustRun(t, "systemctl", "start", host.ManagerUnit)
	p.answers(t)
	manager := p.run(t, host.ManagerUnit)

	p.MustRun(t, "systemctl", "restart", gpuUnit)
	p.helper(t)
	p.MustRun(t, "systemctl", "kill", "--signal=KILL", gpuUnit)
	p.helper(t)
	p.is(t, socket, "systemctl show --property=InvocationID pool-gpu.socket; stat -c %i "+gpuSocket)

	// One that cannot run at all is tried again at its own pace, and is back with the next version
	// that can.
	p.MustShell(t, `mkdir -p /run/systemd/system/pool-gpu.service.d
		printf '[Service]\nExecStart=\nExecStart=/usr/lib/pool-managerd/pool-gate --no-such-flag\n' >/run/systemd/system/pool-gpu.service.d/broken.conf
		systemctl daemon-reload; systemctl stop pool-gpu.service`)
	waiting, err := p.DialContext(t.Context(), "unix", gpuSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const limit = 5 // DefaultStartLimitBurst=, after which PID 1 fails a unit of the usual kind, and its socket with it
	if err := host.Eventually(ctx, func(ctx context.Context) error {
		u, err := p.host.Unit(ctx, gpuUnit)
		if err == nil && u.NRestarts <= limit {
			err = fmt.Errorf("%d restarts", u.NRestarts)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	p.MustShell(t, "rm -r /run/systemd/system/pool-gpu.service.d; systemctl daemon-reload")
	p.helper(t)
	p.is(t, socket, "systemctl show --property=InvocationID pool-gpu.socket; stat -c %i "+gpuSocket)

	// To free a GPU for nvidia-smi, one stop is enough, and one start brings it back.
	p.MustRun(t, "systemctl", "stop", "pool-gpu.socket")
	p.is(t, "inactive", "systemctl is-active pool-gpu.service || true")
	p.MustRun(t, "systemctl", "start", "pool-gpu.socket")
	p.helper(t)
	if got := p.run(t, host.ManagerUnit); got != manager {
		t.Errorf("the manager was touched: %s, it was %s", got, manager)
	}
}

// TestGPUHelperDevices: in the helper's control group only NVIDIA's devices can be opened, those of
// a driver that is loaded later too. In a virtual machine, because a container without the kernel's
// device filter would let anything pass.
func TestGPUHelperDevices(t *testing.T) {
	t.Parallel()
	h := lend(t, kind{release: machine.Trixie, backend: machine.VM})
	h.M.Require(t, machine.BPF())
	p := packaged{h.M, h.Host}
	p.helper(t)
	// Without a driver opening an allowed node fails with ENXIO, "No such device or address".
	try := func(major, minor int) string {
		return p.MustShell(t, fmt.Sprintf(`rm -f /root/node; mknod /root/node c %d %d
			echo $$ >/sys/fs/cgroup/system.slice/pool-gpu.service/cgroup.procs
			( : <>/root/node ) 2>&1 | sed 's/.*: //' || true`, major, minor))
	}
	for name, node := range map[string][2]int{"nvidia0": {195, 0}, "nvidia15": {195, 15}, "nvidiactl": {195, 255}} {
		if got := try(node[0], node[1]); got != "No such device or address" {
			t.Errorf("%s (%d:%d): %q, want it allowed", name, node[0], node[1], got)
		}
	}
	for name, node := range map[string][2]int{"mem": {1, 1}, "kmsg": {1, 11}, "fuse": {10, 229},
		"a_neighbour_of_195": {196, 0}} {
		if got := try(node[0], node[1]); got != "Operation not permitted" {
			t.Errorf("%s (%d:%d): %q, want it refused", name, node[0], node[1], got)
		}
	}
	// A name that /proc/devices does not have is no reason to complain.
	p.is(t, "", "journalctl --boot --priority=warning --output=cat _PID=1 | grep pool-gpu || true")
}
