//go:build machine

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

const (
	gateProgram = "/usr/lib/pool-managerd/pool-gate"
	gateModel   = "/srv/models/tiny.gguf"
)

// gateStall is long enough for a busy host to start journalctl within a part of it.
const gateStall = 4 * time.Second

// gated is a machine with an engine and the gate in it, and no manager at all.
type gated struct {
	*machine.Machine
}

func gateMachine(t *testing.T, release machine.Release) gated {
	t.Helper()
	return gateMachineOf(t, machine.Config{Release: release})
}

func gateMachineOf(t *testing.T, config machine.Config) gated {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := machines.artifacts(ctx); err != nil {
		t.Fatal(err)
	}
	config.Files = []machine.File{
		{Guest: gateProgram, Host: machine.BuildProgram(t, "github.com/pool-managerd/pool-managerd/cmd/pool-gate"), Mode: 0o755},
		{Guest: host.StubEngine, Host: machines.parts.Stub, Mode: 0o755},
		{Guest: gateModel, Host: machines.parts.Model, Mode: 0o644},
	}
	return gated{machine.Start(t, config)}
}

// gateUnit is a service of one engine behind the gate, written by hand.
type gateUnit struct {
	name  string
	port  int
	start string   // ExecStart=
	lines []string // further lines of [Service]
	gate  string   // further flags of the gate
	old   bool     // the gate gets its rights by PermissionsStartOnly=, as the manager has it on systemd 252
}

func (u gateUnit) String() string {
	gate := strings.TrimSpace(fmt.Sprintf("%s --url http://127.0.0.1:%d/health --stall %s %s", gateProgram, u.port,
		gateStall, u.gate))
	lines := []string{
		"[Service]", "Type=exec", "ExecStart=" + u.start, "DynamicUser=yes", "TimeoutStartSec=5min",
		"Slice=pool-engines.slice", // the gate believes only lines from there
		"NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "ProtectHome=yes", "PrivateUsers=yes", "ProtectProc=invisible",
		"SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources", "SystemCallErrorNumber=EPERM",
		"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6", "IOAccounting=yes", "CPUAccounting=yes",
	}
	if u.old {
		lines = append(lines, "PermissionsStartOnly=yes", "ExecStartPost="+gate)
	} else {
		lines = append(lines, "ExecStartPost=+"+gate)
	}
	return strings.Join(append(lines, u.lines...), "\n") + "\n"
}

func (u gateUnit) unit() string { return "test-" + u.name + ".service" }

// load writes the unit.
func (m gated) load(t *testing.T, units ...gateUnit) {
	t.Helper()
	for _, u := range units {
		if err := m.WriteFile(t.Context(), "/run/systemd/system/"+u.unit(), []byte(u.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m.MustRun(t, "systemctl", "daemon-reload")
}

// started runs systemctl start, which lasts until the gate has decided. It returns the gate's exit
// status and everything in the unit's log.
func (m gated) started(t *testing.T, u gateUnit) (status int, log string) {
	t.Helper()
	ctx, cancel := m.patience(t)
	defer cancel()
	r := m.Run(ctx, "systemctl", "start", u.unit())
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	show := m.MustRun(t, "systemctl", "show", "--value", "--property=ExecStartPost", u.unit())
	_, after, _ := strings.Cut(show, "; status=")
	number, _, _ := strings.Cut(strings.TrimRight(after, " }"), "/")
	status, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil {
		t.Fatalf("no exit status of the gate in %q", show)
	}
	log = m.MustShell(t, "journalctl --sync; journalctl --no-pager -o cat -u "+u.unit())
	if (r.ExitCode == 0) != (status == 0) {
		t.Errorf("systemctl start ended with %d, and the gate with %d\n%s", r.ExitCode, status, log)
	}
	return status, log
}

func (m gated) patience(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), 2*patience)
}

// TestGateNeedsNoManager: the gate decides inside the engine's unit, whether or not there is a
// manager: here there never was one.
func TestGateNeedsNoManager(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			m := gateMachine(t, release)
			stub := func(name string, port int, args string, lines ...string) gateUnit {
				return gateUnit{name: name, port: port, lines: lines,
					start: fmt.Sprintf("%s --port %d %s", host.StubEngine, port, args)}
			}
			old := stub("old", 21002, "--load 2s")
			old.old = true
			// Each shows one kind of progress, twice as long as the gate waits without any.
			cases := []struct {
				unit gateUnit
				want int // exit status
				says string
			}{
				{stub("ready", 21001, "--load 2s"), 0, "the engine answers after"},
				{old, 0, "the engine answers after"},
				{stub("cpu", 21003, "--load 9s --load-mode cpu"), 0, "the engine answers after"},
				{stub("log", 21004, "--load 9s --load-mode log"), 0, "the engine answers after"},
				{stub("log-late", 21005, "--load 9s --load-mode log --listen-late"), 0, "the engine answers after"},
				{stub("stall", 21006, "--load 1h --load-mode stall"), 4, "the load stalled"},
				{stub("stall-late", 21007, "--load 1h --load-mode stall --listen-late"), 4, "the load stalled"},
				{stub("dies", 21008, "--load 1h --crash-after 1s --exit-code 7"), 3, "the engine ended after"},
				{stub("foreign", 21009, "--load 1h --load-mode log --listen-late"), 5, "in use by another user's process"},
			}
			for _, c := range cases {
				m.load(t, c.unit)
			}
			m.MustRun(t, "systemd-run", "--quiet", "--unit=test-squatter", "--property=DynamicUser=yes",
				host.StubEngine, "--port", "21009")
			t.Run("decides", func(t *testing.T) {
				for _, c := range cases {
					t.Run(c.unit.name, func(t *testing.T) {
						t.Parallel()
						if status, log := m.started(t, c.unit); status != c.want || !strings.Contains(log, c.says) {
							t.Errorf("the gate ended with %d, want %d and %q:\n%s", status, c.want, c.says, log)
						}
					})
				}
			})
			watcher := stub("watched", 21010, "--load 1h --load-mode log")
			again := stub("again", 21011, "--load 2s", "Restart=on-failure", "RestartSec=100ms")
			m.load(t, watcher, again)
			t.Run("watches_without_rights", func(t *testing.T) { m.watchesWithoutRights(t, watcher) })
			t.Run("guards_every_start", func(t *testing.T) { m.guardsEveryStart(t, again) })
			t.Run("goes_on_without_journalctl", func(t *testing.T) {
				m.MustRun(t, "mv", "/usr/bin/journalctl", "/usr/bin/journalctl.away")
				defer m.MustRun(t, "mv", "/usr/bin/journalctl.away", "/usr/bin/journalctl")
				u := stub("blind", 21012, "--load 1h --load-mode log")
				m.load(t, u)
				ctx, cancel := m.patience(t)
				defer cancel()
				if r := m.Run(ctx, "systemctl", "start", u.unit()); r.Err != nil || r.ExitCode == 0 {
					t.Errorf("with no other sign of life than its log, the load is not seen to move: %v, %d", r.Err,
						r.ExitCode)
				}
				log := m.MustRun(t, "/usr/bin/journalctl.away", "--no-pager", "--output=cat", "--unit="+u.unit())
				if strings.Count(log, "could not follow the log") != 1 || !strings.Contains(log, "the load stalled") {
					t.Errorf("its log:\n%s", log)
				}
			})
		})
	}
}

// watchesWithoutRights looks at a gate, and at its journalctl, while they wait.
func (m gated) watchesWithoutRights(t *testing.T, u gateUnit) {
	ctx, cancel := m.patience(t)
	defer cancel()
	m.MustRun(t, "systemctl", "start", "--no-block", u.unit())
	var helper string
	if err := host.Eventually(ctx, func(ctx context.Context) error {
		gate := strings.TrimSpace(m.Run(ctx, "systemctl", "show", "--value", "--property=ControlPID", u.unit()).Stdout)
		r := m.Run(ctx, "pgrep", "--parent", gate, "journalctl")
		if helper = strings.TrimSpace(r.Stdout); helper == "" || gate == "0" {
			return fmt.Errorf("gate %s has no journalctl yet", gate)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	gate := m.MustRun(t, "systemctl", "show", "--value", "--property=ControlPID", u.unit())
	group := strings.Split(m.MustRun(t, "getent", "group", "systemd-journal"), ":")[2]
	for name, pid := range map[string]string{"the gate": gate, "its journalctl": helper} {
		status := m.MustRun(t, "cat", "/proc/"+pid+"/status")
		for key, want := range map[string]string{
			"Uid": "65534 65534 65534 65534", "Gid": "65534 65534 65534 65534", "Groups": group, "NoNewPrivs": "1",
			"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapAmb": "0000000000000000",
		} {
			if got := statusField(status, key); got != want {
				t.Errorf("%s has %s %q, want %q", name, key, got, want)
			}
		}
	}
	// The gate's own CPU time is separated from the engine's by this.
	engine := m.MustRun(t, "systemctl", "show", "--value", "--property=MainPID", u.unit())
	if own, its := m.MustRun(t, "cat", "/proc/"+gate+"/cgroup"),
		m.MustRun(t, "cat", "/proc/"+engine+"/cgroup"); own != its {
		t.Logf("PID 1 runs the gate in %q, the engine in %q", own, its)
	}
	if state := m.MustRun(t, "systemctl", "show", "--value", "--property=ActiveState,SubState",
		u.unit()); strings.Fields(state)[0] != "activating" {
		t.Errorf("while it loads the unit is %q", state)
	}
	began := time.Now()
	m.MustRun(t, "systemctl", "stop", u.unit())
	if took := time.Since(began); took > patience {
		t.Errorf("a stop during the load took %s", took)
	}
	if r := m.Run(ctx, "pgrep", "--full", gateProgram+".*"+strconv.Itoa(u.port)); r.ExitCode != 1 {
		t.Errorf("the gate outlives the unit: %s", r.Stdout)
	}
}

// statusField reads a line of /proc/PID/status.
func statusField(status, key string) string {
	lines := strings.Split(status, "\n")
	i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, key+":") })
	if i < 0 {
		return "(none)"
	}
	return strings.Join(strings.Fields(lines[i])[1:], " ")
}

// guardsEveryStart: a restart by PID 1 passes the gate again.
func (m gated) guardsEveryStart(t *testing.T, u gateUnit) {
	ctx, cancel := m.patience(t)
	defer cancel()
	if status, log := m.started(t, u); status != 0 {
		t.Fatalf("the gate ended with %d:\n%s", status, log)
	}
	m.MustRun(t, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", u.unit())
	seen := ""
	if err := host.Eventually(ctx, func(ctx context.Context) error {
		r := m.Run(ctx, "systemctl", "show", "--value", "--property=NRestarts,ActiveState,SubState", u.unit())
		now := strings.Join(strings.Fields(r.Stdout), " ")
		if !strings.HasSuffix(seen, now+"; ") {
			seen += now + "; "
		}
		if !strings.Contains(now, "1 active running") && !strings.Contains(now, "active running 1") {
			return fmt.Errorf("the unit is %q", now)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(seen, "start-post") {
		t.Errorf("no gate was seen on the way: %s", seen)
	}
}

// TestGateWithRealEngine: when systemctl start returns, the real llama-server has its model loaded
// and answers; of a model that it refuses the start fails at once.
func TestGateWithRealEngine(t *testing.T) {
	t.Parallel()
	m := gateMachine(t, machine.Forky)
	serve := func(name string, port int, model string) gateUnit {
		return gateUnit{name: name, port: port,
			start: fmt.Sprintf("/usr/bin/llama-server --host 127.0.0.1 --port %d -m %s -c 128", port, model)}
	}
	good, bad := serve("good", 21001, "/srv/models/tiny.gguf"), serve("bad", 21002, "/srv/models/bad.gguf")
	m.MustShell(t, `sed 's/llama/lamal/' /srv/models/tiny.gguf >/srv/models/bad.gguf`)
	m.load(t, good, bad)
	t.Run("ready_means_it_answers", func(t *testing.T) {
		if status, log := m.started(t, good); status != 0 {
			t.Fatalf("the gate ended with %d:\n%s", status, log)
		}
		for _, path := range []string{"/health", "/props"} {
			m.MustRun(t, "curl", "--silent", "--show-error", "--fail", "http://127.0.0.1:21001"+path)
		}
	})
	t.Run("a_refused_model_fails_the_start", func(t *testing.T) {
		if status, log := m.started(t, bad); status != 3 || !strings.Contains(log, "the engine ended ") {
			t.Errorf("the gate ended with %d:\n%s", status, log)
		}
	})
}
