//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/fakenvml"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// xid79 is the worst that the driver prints of a GPU of the fake driver.
const xid79 = "NVRM: Xid (PCI:0000:41:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."

// fakeKmsg gives a container's journald a log of the kernel that the test writes: a container has
// none. It is a FIFO that one process holds open, so that no other waits for a reader, and only
// journald sees it in the place of /dev/kmsg.
const fakeKmsg = `set -e
	d=/run/systemd/system/systemd-journald.service.d; mkdir -p $d; mkfifo -m 666 /run/kmsg
	systemd-run --quiet --unit=test-kmsg sh -c 'exec sleep infinity <>/run/kmsg'; sleep 0.5
	printf '[Service]\nBindPaths=/run/kmsg:/dev/kmsg\n' >$d/kmsg.conf
	systemctl daemon-reload; systemctl restart systemd-journald`

// trueKmsg undoes it.
const trueKmsg = `rm -rf /run/systemd/system/systemd-journald.service.d /dev/kmsg
	systemctl daemon-reload; systemctl restart systemd-journald; systemctl stop test-kmsg; rm -f /run/kmsg`

// kmsg appends records of the kernel's own to its log, as the kernel writes them: "PRIORITY and
// facility,sequence number,time,-;text".
func (s *site) kmsg(records ...string) {
	s.t.Helper()
	for _, text := range records {
		// Each number is above the last.
		s.write("/run/record", fmt.Sprintf("3,%d,1,-;%s\n", time.Now().UnixMicro(), text))
		s.shell("timeout 5 sh -c 'cat /run/record >/run/kmsg'")
		first, _, _ := strings.Cut(text, `\x0a`)
		s.eventually(func(ctx context.Context) error {
			out, err := s.Host.Shell(ctx,
				"journalctl --quiet --output=cat _TRANSPORT=kernel SYSLOG_FACILITY=0 | tail -2")
			if err == nil && !strings.Contains(out, first) {
				err = fmt.Errorf("the journal has not taken the record %q: %s", text, out)
			}
			return err
		})
	}
}

// reports is how often NVML gave an answer about lines of the kernel's log.
func (s *site) reports(answer string) string {
	s.t.Helper()
	return s.shell("curl -sS --unix-socket " + host.Socket +
		" http://localhost/metrics | grep '^gpu_log_reports_total{answer=\"" +
		answer + "\"}' | cut -d' ' -f2")
}

// TestKernelLogAlone: what the kernel's log says of a GPU makes the manager ask NVML. While NVML
// answers and finds the GPU well, no record takes it away, no matter who wrote it.
func TestKernelLogAlone(t *testing.T) {
	t.Parallel()
	for _, release := range []machine.Release{machine.Bookworm, machine.Forky} {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := withGPUs(t, release)
			h.shell(fakeKmsg)
			t.Cleanup(func() { _, _ = h.Host.Shell(context.Background(), trueKmsg) })
			h.pool("a", onGPU("0", gib))
			h.pool("b", onGPU("1", gib))
			h.reload()
			h.wait("a", isReady)
			h.wait("b", isReady)
			t.Run("what_users_write_into_it", func(t *testing.T) { writtenByUsers(t, h.in(t)) })
			t.Run("what_the_driver_writes_and_nvml_denies", func(t *testing.T) { deniedByNVML(t, h.in(t)) })
			t.Run("what_the_driver_writes_and_nvml_does_not_answer", func(t *testing.T) {
				unansweredByNVML(t, h.in(t))
			})
		})
	}
}

// writtenByUsers has records of the kernel that hold names which a user chose.
func writtenByUsers(t *testing.T, h *site) {
	before := h.engines()
	comm := xid79[:15] // as long as the name of a process can be
	h.kmsg("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset="+xid79+
		",mems_allowed=0,oom_memcg=/user.slice/"+xid79,
		"Memory cgroup stats for /user.slice/user-1000.slice/user@1000.service/"+xid79+":",
		"cgroup: fork rejected by pids controller in /user.slice/"+xid79,
		"overlayfs: upperdir is in-use as upperdir/workdir of another mount, mount with '"+xid79+"'",
		"overlayfs: failed to resolve '/tmp/nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 24007, Fatal': -2",
		comm+"[123]: segfault at 0 ip 41 sp 7ffc error 4", comm+" invoked oom-killer: gfp_mask=0xcc0",
		" "+xid79, "[ 1234.567890] "+xid79, `x\x0a`+xid79)
	for _, forged := range []string{
		`logger --id=1 -t kernel -p kern.err "$LINE"`,
		`printf 'MESSAGE=%s\nSYSLOG_IDENTIFIER=kernel\nSYSLOG_FACILITY=0\nPRIORITY=3\n' "$LINE" | logger --journald`,
		`echo "<3>$LINE" | systemd-cat -t kernel`,
	} {
		h.asUser("LINE=\"" + xid79 + "\"; " + forged)
	}
	h.staysWell(before, false)
}

// staysWell gives the manager time to be taken in, and looks at the GPUs and engines. NVML was
// asked, and denied what the log reports, only where the driver's own forms were in it.
func (s *site) staysWell(before map[string]host.Process, asked bool) {
	s.t.Helper()
	time.Sleep(12 * time.Second) // longer than NVML may take to answer
	for i := range 2 {
		s.health(i, "healthy")
	}
	s.wait("a", isReady)
	s.wait("b", isReady)
	s.untouched(before)
	if d, u := s.reports("denied"), s.reports("unanswered"); (d != "0") != asked || u != "0" {
		s.t.Errorf("%s reports denied and %s unanswered; NVML was to be asked: %t", d, u, asked)
	}
}

func deniedByNVML(t *testing.T, h *site) {
	before := h.engines()
	h.logs(host.ManagerUnit, "NVML finds the GPU healthy", func() {
		h.kmsg(xid79, "NVRM: GPU 0000:41:00.0: GPU has fallen off the bus.",
			"NVRM: Xid (PCI:0000:42:00): 119, pid=1, name=x, Timeout waiting for RPC from GSP0!",
			"nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 24007, Fatal, Link 28 sourcetrack timeout error (First)")
		// A line that names the engine's process counts like one that names the GPU.
		h.kmsg(fmt.Sprintf("NVRM: Xid (PCI:0000:41:00): 31, pid=%d, name=llama-server, Ch 00000008",
			before[host.EngineUnit("a")].PID))
	})
	h.staysWell(before, true)
}

func unansweredByNVML(t *testing.T, h *site) {
	b := h.engine("b")
	h.gpu("hang nvmlDeviceGetTemperature")
	h.devices(func(d host.Devices) bool { return d.Stale != nil })
	h.kmsg(strings.Replace(xid79, "79,", "95,", 1))
	p := h.wait("a", inState("waiting"), failsWith("GPU_UNAVAILABLE"), says("NVML does not answer"))
	if !strings.Contains(p.LastError, "Xid 95") || !strings.Contains(p.LastError, fakenvml.UUID(0)) {
		t.Errorf("last_error %s", p.LastError)
	}
	if now := h.engine("b"); now != b {
		t.Errorf("the engine on the other GPU was touched: %+v, and before %+v", now, b)
	}
	h.gpu("unhang")
	h.wait("a", isReady)
	h.health(0, "healthy")
	if got := h.reports("unanswered"); got != "1" {
		t.Errorf("%s reports without an answer", got)
	}
}

// mallory is an ordinary user, and session a unit of that user's own manager as far as journald can
// see: what a login gives every user. Its name and that of its slice, and the invocation, are what
// the user says: those of an engine.
const (
	mallory = "4242"
	session = `
		UNIT=${UNIT:-evil.service}
		dir=/sys/fs/cgroup/user.slice/user-` + mallory + `.slice/user@` + mallory + `.service/pool-engines.slice/$UNIT
		links=/run/user/` + mallory + `/systemd/units
		mkdir -p "$dir" "$links"; chown -R ` + mallory + ` /run/user/` + mallory + `
		ln -sfn "${INVOCATION:-none}" "$links/invocation:$UNIT"
		echo $$ >"$dir/cgroup.procs"
		exec setpriv --reuid=` + mallory + ` --regid=` + mallory + ` --clear-groups sh -c "$SCRIPT"
	`
)

// asUser runs a script as an ordinary user, with further variables.
func (s *site) asUser(script string, env ...string) {
	s.t.Helper()
	s.must(append(append([]string{"env", "SCRIPT=" + script}, env...), "sh", "-c", session)...)
}

// forge has the user log lines, each with fields that make it look like an engine's, PID 1's or the
// manager's. journald looks at a process after it has logged: where that has ended by then, as on a
// busy host, the line has no invocation, and is logged again.
func (s *site) forge(pool, invocation string, lines ...string) {
	s.t.Helper()
	unit := host.EngineUnit(pool)
	var out string
	for range 20 {
		for _, line := range lines {
			s.asUser(fmt.Sprintf(`for fields in 'UNIT=%[2]s' 'OBJECT_SYSTEMD_UNIT=%[2]s' 'COREDUMP_UNIT=%[2]s' COREDUMP_UNIT=pool-managerd.service A=b; do
				printf '%%s\n' "MESSAGE=%[3]s" "POOL_ID=%[1]s" REPLICA_ID=r0 PRIORITY=3 SYSLOG_IDENTIFIER=pool-managerd "$fields" \
					MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1 | logger --journald
				done`, pool, unit, line), "INVOCATION="+invocation, "UNIT="+unit)
		}
		s.shell("journalctl --sync")
		out = s.shell("journalctl --quiet --output=cat _SYSTEMD_INVOCATION_ID=" + invocation)
		if strings.Contains(out, lines[0]) {
			return
		}
	}
	s.t.Errorf("the user could not forge an invocation, so that this test proves nothing: %s", out)
}

// TestForgedLogs: a user who logs in the name of an engine or of the manager is neither shown nor
// believed.
func TestForgedLogs(t *testing.T) {
	t.Parallel()
	for _, release := range []machine.Release{machine.Bookworm, machine.Forky} {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := withGPUs(t, release)
			h.pool("a", onGPU("0", gib, "--say", "my own line"))
			h.pool("neighbour", onGPU("1", gib).with("shared = true"))
			h.reload()
			h.wait("a", isReady)
			h.wait("neighbour", isReady)
			t.Run("is_not_shown", func(t *testing.T) { notShown(t, h.in(t)) })
			t.Run("ends_no_engine", func(t *testing.T) { notActedOn(t, h.in(t)) })
			t.Run("is_no_last_line_of_a_crash", func(t *testing.T) { notReported(t, h.in(t)) })
			t.Run("makes_no_engine_unready", func(t *testing.T) { notReadByTheGate(t, h.in(t)) })
		})
	}
}

func notShown(t *testing.T, h *site) {
	h.forge("a", h.engine("a").Invocation, "FORGED by a user")
	// An engine that was taken over can log with any field that journald does not set.
	h.must("systemd-run", "--quiet", "--wait", "--slice=pool-engines.slice", "setpriv", "--reuid="+mallory,
		"--clear-groups", "sh", "-c", `printf '%s\n' "MESSAGE=FORGED by a neighbour" POOL_ID=a UNIT=`+
			host.EngineUnit("a")+` | logger --journald; sleep 1`)
	h.shell("journalctl --sync")
	for name, command := range map[string]string{
		"poolctl":           "poolctl logs a -n all",
		"poolctl_and_terms": "poolctl logs a -n all -- PRIORITY=3 PRIORITY=6",
		"the_units":         "journalctl --no-pager _SYSTEMD_UNIT=pool-engine@a.r0.service",
		"the_manager":       "journalctl --no-pager _SYSTEMD_UNIT=pool-managerd.service POOL_ID=a",
	} {
		out := h.shell(command)
		if strings.Contains(out, "FORGED") {
			t.Errorf("%s shows what a user forged:\n%s", name, out)
		}
		wanted := map[string][]string{
			"poolctl":           {"my own line", "Started ", "a/r0"},
			"poolctl_and_terms": {"my own line"},
			"the_units":         {"my own line"},
			"the_manager":       {"a/r0"},
		}[name]
		for _, want := range wanted {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not show %q:\n%s", name, want, out)
			}
		}
	}
}

func notActedOn(t *testing.T, h *site) {
	before := h.engines()
	h.forge("a", h.engine("a").Invocation, "CUDA error: an illegal memory access was encountered", xid79,
		"no CUDA-capable device is detected")
	time.Sleep(6 * time.Second) // longer than an engine has to end by itself
	h.health(0, "healthy")
	h.wait("a", isReady)
	h.untouched(before)
	// What an engine logs is its own: its pool is restarted, and no other.
	other := h.engine("neighbour")
	h.control("a", "/stub/say?line=CUDA+error:+an+illegal+memory+access+was+encountered")
	h.eventually(func(context.Context) error {
		if h.engine("a") == before[host.EngineUnit("a")] {
			return fmt.Errorf("the engine still runs")
		}
		return nil
	})
	h.wait("a", isReady)
	h.health(0, "healthy")
	if now := h.engine("neighbour"); now != other {
		t.Errorf("a neighbour was touched: %+v, and before %+v", now, other)
	}
}

func notReported(t *testing.T, h *site) {
	h.forge("a", h.engine("a").Invocation, "FORGED: CUDA error: out of memory", "fatal error: FORGED")
	h.control("a", "/stub/say?line=fatal+error:+my+own")
	h.control("a", "/stub/exit?code=3")
	h.eventually(func(ctx context.Context) error {
		out, err := h.Host.Shell(ctx, "journalctl --quiet --output=verbose -u pool-managerd POOL_ID=a EXIT_STATUS=3")
		switch {
		case err != nil:
			return err
		case strings.Contains(out, "FORGED"):
			return fmt.Errorf("the report of the crash quotes what a user forged: %s", out)
		case !strings.Contains(out, "my own"):
			return fmt.Errorf("no report with the engine's own line: %s", out)
		}
		return nil
	})
	h.wait("a", isReady)
}

// notReadByTheGate: the gate looks for a line by which the engine says that it has no GPU.
func notReadByTheGate(t *testing.T, h *site) {
	h.pool("slow", onGPU("1", gib, "--load", "8s", "--say",
		"load_tensors: offloaded 33/33 layers to GPU").with("shared = true"))
	h.reload()
	var invocation string
	h.eventually(func(ctx context.Context) error {
		u, err := h.Unit(ctx, host.EngineUnit("slow"))
		if invocation = u.InvocationID; err == nil && (invocation == "" || u.MainPID == 0) {
			err = fmt.Errorf("it has not begun: %+v", u)
		}
		return err
	})
	h.forge("slow", invocation, "warning: no usable GPU found, FORGED",
		"ggml_cuda_init: failed to initialize CUDA: FORGED")
	h.wait("slow", isReady)
	if now := h.engine("slow"); now.Invocation != invocation {
		t.Errorf("it was started again: %s", h.shell("journalctl --no-pager -u "+host.EngineUnit("slow")))
	}
}
