//go:build machine

package render_test

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// attack is something that a hostile engine tries. The same program without a sandbox, as root, has
// to succeed with it: otherwise its failure shows nothing.
type attack struct {
	what, on string
	by       *running                         // the engine that tries it; nil: the scene's
	got      func(out string, err error) bool // whether it succeeded; nil: without an error
	// instead of the above: whether it is seen from outside to have succeeded
	check func(t *testing.T, s *scene) bool
}

func (a attack) String() string { return a.what + " " + a.on }

// scene is a machine with an engine, a neighbour, and the same program without a sandbox.
type scene struct {
	world
	engine, neighbour, bare running
	neighbourPID            string
	real                    bool // PID 1 has a kernel of its own: controllers, BPF, devices
}

// promise is one row of the page.
type promise struct {
	row     string
	kernel  bool // a container does not enforce it
	attacks func(t *testing.T, s *scene) []attack
}

func promises() []promise {
	return []promise{
		{row: rowUser, attacks: becomesUser}, {row: rowNeighbour, attacks: meddles}, {row: rowHomes, attacks: seesHomes},
		{row: rowModels, attacks: seesModels}, {row: rowManager, attacks: seesManager}, {row: rowSockets, attacks: reachesSockets},
		{row: rowWrite, attacks: writesElsewhere}, {row: rowShm, attacks: usesSharedMemory},
		{row: rowTemporary, attacks: fillsTemporary}, {row: rowProcesses, attacks: seesProcesses},
		{row: rowNetwork, kernel: true, attacks: sendsOut}, {row: rowLoopback, attacks: reachesNeighbours},
		{row: rowResolver, kernel: true, attacks: resolves}, {row: rowHardware, kernel: true, attacks: touchesHardware},
		{row: rowKernel, kernel: true, attacks: callsKernel}, {row: rowCode, attacks: runsCode}, {row: rowStarve, kernel: true, attacks: starves},
		{row: rowTraces, attacks: leavesTraces},
	}
}

// TestMachinePromises: each row of "What it cannot do" in docs/sandbox.md is true of an engine that
// tries it, after a daemon-reload too. Those that only a kernel of its own enforces are a group, so
// that a virtual machine can run them alone.
func TestMachinePromises(t *testing.T) {
	s := setScene(t)
	all := promises()
	for i, p := range all {
		if i >= len(promisedRows) || p.row != promisedRows[i] {
			t.Fatalf("row %q has no attacks", promisedRows[i])
		}
	}
	if len(all) != len(promisedRows) {
		t.Fatalf("%d rows have attacks, of %d", len(all), len(promisedRows))
	}
	group := func(kernel bool) func(*testing.T) {
		return func(t *testing.T) {
			if kernel && !s.real {
				t.Skip("a container enforces none of them")
			}
			for _, p := range all {
				if p.kernel != kernel {
					continue
				}
				t.Run(strings.Map(wordly, p.row), func(t *testing.T) {
					for _, a := range p.attacks(t, s) {
						s.attempt(t, a)
					}
				})
			}
		}
	}
	t.Run("anywhere", group(false))
	t.Run("by_a_kernel", group(true))
}

// wordly keeps the letters of a row for the name of its test.
func wordly(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
		return r
	}
	return '_'
}

// ofManager are files in the directories that the manager's unit makes before there is an engine: a
// directory that is missing when an engine starts is not hidden from it later.
var ofManager = []string{"/etc/pool-managerd/config.toml", "/etc/pool-managerd/pools.d/x.toml", "/var/lib/pool-managerd/state",
	"/var/cache/pool-managerd/x", "/run/pool-managerd/x"}

func setScene(t *testing.T) *scene {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	for _, name := range ofManager {
		put(t, name, "secret", 0o644)
	}
	s := &scene{world: w, real: strings.TrimSpace(shell(t, "systemd-detect-virt --container || true")) == "none"}
	s.bare = w.bare(t)
	neighbour := input(with(func(p *pool.Pool) {
		p.ID, p.Env = "neighbour", map[string]string{"SECRET": "of-the-neighbour"}
	}))
	neighbour.Port = 21001
	s.neighbour = w.start(t, neighbour)
	status, err := w.client.Unit(t.Context(), s.neighbour.unit.Name)
	if err != nil {
		t.Fatal(err)
	}
	s.neighbourPID = strconv.Itoa(status.MainPID)
	s.engine = w.start(t, input(with(func(p *pool.Pool) { p.Sandbox.ShmBytes = 8 << 20 })))
	shell(t, "systemctl daemon-reload; systemctl restart '"+s.engine.unit.Name+"'")
	return s
}

// bare starts the same program as root and without any line of a sandbox.
func (w world) bare(t *testing.T) running {
	t.Helper()
	const port = 20900
	shell(t, fmt.Sprintf("systemd-run --quiet --unit=bare --setenv=%s=1 %s --port %d", stubVariable, stubPath, port))
	t.Cleanup(func() { shell(t, "systemctl stop bare; systemctl reset-failed bare 2>/dev/null || true") })
	eventually(t, "the program without a sandbox serves", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return running{world: w, t: t, in: render.Input{Port: port}}
}

// attempt has an attack tried with the sandbox and without it.
func (s *scene) attempt(t *testing.T, a attack) {
	t.Helper()
	if a.check != nil {
		if a.check(t, s) {
			t.Errorf("%s succeeds", a)
		}
		return
	}
	if a.got == nil {
		a.got = func(_ string, err error) bool { return err == nil }
	}
	by := a.by
	if by == nil {
		by = &s.engine
	}
	out, err := by.try(a.what, a.on)
	if a.got(out, err) {
		t.Errorf("%s succeeds: %q, %v", a, out, err)
	}
	out, err = s.bare.try(a.what, a.on)
	switch {
	case a.got(out, err):
	case err != nil && strings.Contains(err.Error(), syscall.EAFNOSUPPORT.Error()):
		t.Logf("%s was not tried: this kernel has no such sockets", a)
	case s.real:
		t.Errorf("%s shows nothing: without a sandbox it fails as well: %q, %v", a, out, err)
	default: // a container forbids some of it to its own root
		t.Logf("%s was not tried: the container itself forbids it: %v", a, err)
	}
}

// each makes one attack of every object.
func each(what string, on ...string) (all []attack) {
	for _, o := range on {
		all = append(all, attack{what: what, on: o})
	}
	return all
}

// another starts one more engine for a row, with its model at a path of its own.
func (s *scene) another(t *testing.T, port int, model string, changes ...change) *running {
	t.Helper()
	put(t, model, "GGUF", 0o644)
	in := input(append([]change{with(func(p *pool.Pool) { p.ID, p.Model = fmt.Sprintf("on%d", port), pool.Model("file:"+model) }),
		func(in *render.Input) { in.Staged.Path, in.Staged.Files = model, []string{model} }}, changes...)...)
	in.Port = port
	r := s.start(t, in)
	return &r
}

// passes is an attempt to open a device node that has no driver behind it.
func passes(_ string, err error) bool { return err == nil || passed(err) }

// nodes are attempts to open device nodes.
func nodes(by *running, names ...string) (all []attack) {
	for _, name := range names {
		all = append(all, attack{what: "open", on: name, by: by, got: passes})
	}
	return all
}

func becomesUser(t *testing.T, s *scene) []attack {
	put(t, "/usr/local/bin/id-of-root", string(mustRead(t, "/usr/bin/id")), 0o755)
	put(t, "/tmp/x", "x", 0o666)
	if _, err := s.engine.try("write", "/tmp/x"); err != nil { // its own /tmp
		t.Fatal(err)
	}
	shell(t, "chmod 4755 /usr/local/bin/id-of-root")
	root := func(out string, err error) bool { return err == nil && out == "0" }
	return []attack{
		{what: "setuid", on: "0"}, {what: "chmod_suid", on: "/tmp/x"}, {what: "userns"},
		{what: "run", on: "/usr/local/bin/id-of-root -u", got: root},
		{what: "has a user of the host", check: func(t *testing.T, s *scene) bool {
			return strings.Contains(shell(t, "cat /etc/passwd"), fmt.Sprintf(":%d:", s.engine.report().UID))
		}},
		{what: "has a capability", check: func(_ *testing.T, s *scene) bool {
			const none = "0000000000000000"
			status := s.engine.report().Status
			return status["CapBnd"] != none || status["CapPrm"] != none || status["CapAmb"] != none ||
				status["NoNewPrivs"] != "1"
		}},
	}
}

func meddles(t *testing.T, s *scene) []attack {
	private := "/var/lib/private/pool-engine/neighbour.r0"
	put(t, private+"/secret", "secret", 0o644)
	return append(each("list", "/var/lib/pool-engine/neighbour.r0", private),
		attack{what: "signal", on: s.neighbourPID}, attack{what: "read", on: private + "/secret"},
		attack{what: "is the same user", check: func(_ *testing.T, s *scene) bool {
			return s.engine.report().UID == s.neighbour.report().UID
		}})
}

func seesHomes(t *testing.T, s *scene) []attack {
	names := []string{"/home/ann/x", "/root/x", "/srv/x", "/srv/models/other.gguf", "/mnt/disk/x", "/media/usb/x"}
	for _, name := range names {
		put(t, name, "secret", 0o644)
	}
	attacks := each("read", names...)
	inHome := s.another(t, 21002, "/home/ann/models/a.gguf")
	for _, name := range names {
		attacks = append(attacks, attack{what: "read", on: name, by: inHome})
	}
	return attacks
}

func seesModels(t *testing.T, s *scene) (attacks []attack) {
	for i, dir := range []string{"/data/models", "/opt/models", "/var/lib/models"} {
		put(t, dir+"/other.gguf", "secret", 0o644)
		by := s.another(t, 21003+i, dir+"/own.gguf")
		if _, err := by.try("read", dir+"/own.gguf"); err != nil {
			t.Errorf("its own model: %v", err)
		}
		attacks = append(attacks, attack{what: "read", on: dir + "/other.gguf", by: by})
	}
	return attacks
}

func seesManager(*testing.T, *scene) []attack { return each("read", ofManager...) }

func reachesSockets(t *testing.T, s *scene) []attack {
	sockets := []string{"/run/systemd/resolve/io.systemd.Resolve", "/run/podman/podman.sock", "/run/docker.sock",
		"/run/containerd/containerd.sock", "/run/pool-managerd/test.sock", "/srv/test.sock", "/var/tmp/test.sock"}
	for _, name := range sockets {
		serveUnix(t, name)
	}
	var attacks []attack
	for _, name := range append(sockets, "/run/systemd/private", "/run/dbus/system_bus_socket",
		"/run/systemd/io.systemd.Manager") {
		if strings.TrimSpace(shell(t, "test -S "+name+" && echo there || true")) != "" {
			attacks = append(attacks, attack{what: "dial", on: "unix!" + name})
		}
	}
	transient := "/run/systemd/transient/" + s.neighbour.unit.Name
	return append(attacks, each("read", transient, "/proc/"+s.neighbourPID+"/environ", "/proc/"+s.neighbourPID+
		"/cmdline")...)
}

func writesElsewhere(t *testing.T, s *scene) []attack {
	names := []string{"/etc/x", "/usr/x", "/usr/local/bin/x", "/var/x", "/var/lib/x", "/var/log/x", "/var/cache/x", "/srv/x",
		"/srv/models/x", "/home/x", "/root/x", "/run/x", "/run/lock/x", "/x", "/opt/x", "/dev/x"}
	shell(t, "mkdir -p /run/lock /opt")
	own := "/var/lib/pool-engine/llama3.r0/own"
	return append(append(each("write", names...),
		each("open", "/proc/sys/kernel/core_pattern", "/sys/fs/cgroup/cgroup.procs",
			"/srv/models/llama3.gguf")...),
		attack{what: "write a file that others read", check: func(t *testing.T, s *scene) bool {
			if _, err := s.engine.try("write", own); err != nil {
				t.Errorf("its own directory: %v", err)
				return false
			}
			return !strings.HasSuffix(strings.TrimSpace(shell(t, "stat -c %a "+own)), "00")
		}})
}

func usesSharedMemory(t *testing.T, s *scene) []attack {
	put(t, "/dev/shm/of-the-host", "secret", 0o666)
	const key, create = 20900, 0o1000 // of System V
	id, _, errno := syscall.RawSyscall(unix.SYS_SHMGET, key, 4096, create|0o666)
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() {
		if _, _, errno := syscall.RawSyscall(unix.SYS_SHMCTL, id, unix.IPC_RMID, 0); errno != 0 {
			t.Error(errno)
		}
	})
	return append(append(each("read", "/dev/shm/of-the-host"), each("fill", "/dev/shm/full")...),
		attack{what: "shm_of_host", on: strconv.Itoa(key)})
}

// fillsTemporary: a file system of more than a tenth of the memory is not that of the engine.
func fillsTemporary(*testing.T, *scene) []attack {
	writesToDisk := func(t *testing.T, s *scene) bool {
		disk := false
		for _, dir := range []string{"/tmp", "/var/tmp"} {
			if _, err := s.engine.try("write", dir+"/own"); err != nil {
				t.Errorf("its own %s: %v", dir, err)
			}
			if kind, err := s.engine.try("filesystem", dir); err != nil || kind != "tmpfs" {
				t.Errorf("%s is %q, %v", dir, kind, err)
				disk = true
			}
		}
		return disk
	}
	return append(each("space", "/tmp", "/var/tmp"), attack{what: "write to a disk", check: writesToDisk})
}

func seesProcesses(t *testing.T, s *scene) []attack {
	others := func(out string, err error) bool {
		return err == nil && slices.Contains(strings.Fields(out), s.neighbourPID)
	}
	group := "/sys/fs/cgroup" + strings.TrimSpace(shell(t, "systemctl show -P ControlGroup '"+
		s.neighbour.unit.Name+"'"))
	return append(each("read", "/proc/1/cmdline", "/proc/meminfo", "/proc/stat", "/proc/cpuinfo", "/proc/loadavg",
		group+"/cgroup.procs", group+"/cpu.stat"),
		attack{what: "list", on: "/proc", got: others}, attack{what: "list", on: "/proc/1"})
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
