//go:build machine

package render_test

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

func sendsOut(t *testing.T, _ *scene) []attack {
	shell(t, "ip address replace 10.99.0.1/32 dev lo; ip -6 address replace fd99::1/128 dev lo")
	t.Cleanup(func() { shell(t, "ip address del 10.99.0.1/32 dev lo; ip -6 address del fd99::1/128 dev lo") })
	return append(each("dial", "tcp!"+listen(t, "10.99.0.1:0"), "tcp!"+listen(t, "[fd99::1]:0"), "tcp!"+
		listen(t, "127.0.1.1:0")),
		attack{what: "send", on: "10.99.0.1:9"}, attack{what: "send", on: "[fd99::1]:9"},
		attack{what: "socket", on: strconv.Itoa(syscall.AF_PACKET)},
		attack{what: "socket", on: strconv.Itoa(syscall.AF_NETLINK)})
}

func reachesNeighbours(t *testing.T, s *scene) []attack {
	l, err := net.Listen("unix", "@render-promises")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go accept(l)
	alone := s.another(t, 21006, "/srv/models/alone.gguf", func(in *render.Input) {
		in.Pool.Sandbox.Network, in.Host.Forwarder = pool.NetworkNone, "/usr/lib/systemd/systemd-socket-proxyd"
	})
	var attacks []attack
	for _, on := range []string{"tcp!127.0.0.1:" + strconv.Itoa(s.neighbour.in.Port), "tcp!" + listen(t, "[::1]:0"),
		"tcp!" + listen(t, "127.0.0.1:0"), "unix!@render-promises"} {
		attacks = append(attacks, attack{what: "dial", on: on, by: alone})
	}
	return attacks
}

func resolves(t *testing.T, _ *scene) []attack {
	for _, name := range []string{"/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket",
		"/run/avahi-daemon/socket"} {
		serveUnix(t, name)
	}
	listen(t, "127.0.0.53:53")
	return append(each("dial", "tcp!127.0.0.53:53", "unix!/run/systemd/resolve/io.systemd.Resolve",
		"unix!/run/nscd/socket",
		"unix!/run/avahi-daemon/socket"), each("send", "127.0.0.53:53", "127.0.0.54:53")...)
}

func touchesHardware(t *testing.T, s *scene) []attack {
	makeNodes(t)
	all := []string{"/dev/mem", "/dev/kmsg", "/dev/rtc0", "/dev/loop-control", "/dev/nvidia1",
		"/dev/nvidia-caps/nvidia-cap21"}
	disk := strings.Fields(shell(t, "lsblk -dnpo NAME | head -n 1"))
	with := s.another(t, 21007, "/srv/models/gpu.gguf", gpus([]string{"0"}))
	var there []string
	for _, name := range append(all, disk...) {
		if strings.TrimSpace(shell(t, "test -e "+name+" && echo there || true")) != "" {
			there = append(there, name)
		}
	}
	attacks := append(nodes(nil, append(there, "/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm")...),
		nodes(with, there...)...)
	return append(attacks, attack{what: "mknod", on: "/tmp/mem"}, attack{what: "mknod", on: "/tmp/mem", by: with})
}

// callsKernel: "let through" is any answer but EPERM, for a call whose arguments are none.
func callsKernel(*testing.T, *scene) []attack {
	through := func(_ string, err error) bool {
		return err == nil || !strings.Contains(err.Error(), syscall.EPERM.Error())
	}
	calls := []int{unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_KEXEC_LOAD, unix.SYS_INIT_MODULE, unix.SYS_DELETE_MODULE,
		unix.SYS_SWAPON, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOUNT, unix.SYS_SETNS, unix.SYS_SETTIMEOFDAY,
		unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_SETHOSTNAME, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER,
		unix.SYS_IO_URING_REGISTER}
	var attacks []attack
	for _, number := range calls {
		attacks = append(attacks, attack{what: "call", on: strconv.Itoa(number), got: through})
	}
	return append(append(attacks, each("family", strconv.Itoa(unix.AF_ALG), strconv.Itoa(unix.AF_VSOCK),
		strconv.Itoa(unix.AF_PACKET), strconv.Itoa(unix.AF_KEY))...),
		attack{what: "userns"}, attack{what: "personality"})
}

func runsCode(*testing.T, *scene) []attack {
	return append(each("execute_written", ""), each("execute_file", "/dev/shm/code")...)
}

func starves(t *testing.T, s *scene) []attack {
	few := s.another(t, 21008, "/srv/models/few.gguf", with(func(p *pool.Pool) { p.Limits.TasksMax = 64 }))
	return []attack{
		{what: "spawn", on: "100", by: few}, {what: "realtime"}, {what: "hurry"},
		{what: "has tasks without a bound", check: func(t *testing.T, s *scene) bool {
			return strings.TrimSpace(shell(t, "systemctl show -P TasksMax '"+s.engine.unit.Name+"'")) == "infinity"
		}},
	}
}

// leavesTraces starts an engine, has it leave something everywhere it may, and ends it.
func leavesTraces(t *testing.T, s *scene) []attack {
	const mark = "left-by-an-engine"
	by := s.another(t, 21009, "/srv/models/brief.gguf")
	for _, dir := range []string{"/tmp/", "/var/tmp/", "/dev/shm/"} {
		if _, err := by.try("write", dir+mark); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
	_, errIPC := by.try("shmget", "")
	if errIPC != nil && !errors.Is(errIPC, errTry) {
		t.Fatal(errIPC)
	}
	uid := strconv.Itoa(by.report().UID)
	by.stop()
	return []attack{
		{what: "leave a file", check: func(t *testing.T, _ *scene) bool {
			return strings.TrimSpace(shell(t, "find /tmp /var/tmp /dev/shm -name "+mark)) != ""
		}},
		{what: "leave shared memory of System V", check: func(t *testing.T, _ *scene) bool {
			return errIPC != nil || strings.Contains(shell(t, "cat /proc/sysvipc/shm"), " "+uid+" ")
		}},
	}
}
