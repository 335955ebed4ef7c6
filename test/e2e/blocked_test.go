//go:build machine

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// blockedPrograms are programs that the sandbox stops, in Python, and what their pool's error and
// hint must have.
var blockedPrograms = map[string]struct{ code, line, hint string }{
	"raw":     {"socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "CapabilityBoundingSet=", "No key"},
	"packet":  {"socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)", "AF_PACKET", "No key"},
	"clock":   {"time.clock_settime(time.CLOCK_REALTIME, 1e9)", "ProtectClock=", "No key"},
	"chroot":  {"os.chroot('/tmp')", "SystemCallFilter=", "No key"},
	"setuid":  {"os.setuid(0)", "NoNewPrivileges=", "sudo"},
	"suid":    {"open('/tmp/s', 'w').close(); os.chmod('/tmp/s', 0o4755)", "RestrictSUIDSGID=", "No key"},
	"port":    {"socket.socket().bind(('127.0.0.1', 80))", "CapabilityBoundingSet=", "{port}"},
	"bus":     {"socket.socket(socket.AF_UNIX).connect('/run/dbus/system_bus_socket')", "TemporaryFileSystem=/run", "message bus"},
	"kvm":     {"open('/dev/kvm')", "PrivateDevices=", "NVIDIA"},
	"gpu":     {"open('/dev/nvidiactl')", "PrivateDevices=", "devices = [0]"},
	"shm":     {"shutil.copy('/bin/true', '/dev/shm/x'); subprocess.check_call(['/dev/shm/x'])", "TemporaryFileSystem=", `allow = ["dev-shm-exec"]`},
	"files":   {"[open('/dev/null') for i in range(70000)]", "LimitNOFILE=", "[limits] nofile"},
	"raises":  {"resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))", "CapabilityBoundingSet=", "[limits] nofile"},
	"etc":     {"open('/etc/engine.conf', 'w')", "ProtectSystem=", "may not be named in writable"},
	"opt":     {"os.mkdir('/opt/cache')", "ProtectSystem=", `writable = ["/opt/cache"]`},
	"cgroup":  {"open('/sys/fs/cgroup/cgroup.procs', 'w')", "ProtectControlGroups=", "no engine may"},
	"unshare": {"os.unshare(os.CLONE_NEWUSER)", "RestrictNamespaces=", "--no-sandbox"},
	"outside": {"socket.create_connection(('192.0.2.1', 443), 5)", "IPAddressDeny=", "Download"},
	"code": {"mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)", "MemoryDenyWriteExecute=",
		`allow = ["jit"]`},
}

// TestSandboxFailures: each program ends because of the sandbox, and its pool's error names the
// line of the unit, and its hint the key, or that there is none.
func TestSandboxFailures(t *testing.T) {
	t.Parallel()
	h := lend(t, kind{release: machine.Trixie, backend: machine.Container, extra: "python3"})
	const imports = "#!/usr/bin/python3\nimport mmap, os, resource, shutil, socket, subprocess, time\n"
	for name, p := range blockedPrograms {
		h.write("/usr/local/bin/try-"+name, imports+p.code+"\n")
		h.pool(name, text(`engine = "command"
			devices = []
			[provisioning]
			binary = "/usr/local/bin/try-`+name+`"
			[restart]
			initial = "10m"
			max = "10m"`))
	}
	h.shell("chmod 755 /usr/local/bin/try-*")
	h.reload()
	for name := range blockedPrograms {
		h.waitFor(3*time.Minute, name, inState("backoff"))
	}
	for name, want := range blockedPrograms {
		t.Run(name, func(t *testing.T) {
			h.in(t).waitFor(10*time.Second, name, condition{"explained", func(p host.Pool) bool {
				return strings.Contains(p.LastError, want.line) && strings.Contains(p.Hint, want.hint)
			}})
		})
	}
}
