package relax

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// ended is a run without any relaxation, in a unit that hides /srv, /home and the control groups.
func ended(lines ...string) Run {
	return Run{Lines: lines, Home: "/var/lib/pool-engine/a.r0", Hides: func(path string) string {
		for _, tree := range []string{"/srv", "/home", "/sys/fs/cgroup"} {
			if strings.HasPrefix(path, tree+"/") {
				return tree
			}
		}
		return ""
	}}
}

// TestExplain: phrases as the programs print them, what explains them, and what to write.
func TestExplain(t *testing.T) {
	for _, c := range []struct {
		name, line string
		text, hint string // parts of the finding; no text: none
	}{
		{"python_interfaces", "OSError: [Errno 97] Address family not supported by protocol", "RestrictAddressFamilies=", `allow = ["netlink"]`},
		{"torch_gloo", "RuntimeError: [enforce fail at /pytorch/third_party/gloo/gloo/transport/tcp/device.cc:101] rv != -1. -1 vs -1. getifaddrs: Address family not supported by protocol", "RestrictAddressFamilies=", `allow = ["netlink"]`},
		{"node_interfaces", "SystemError [ERR_SYSTEM_ERROR]: A system error occurred: uv_interface_addresses returned Unknown system error 97", "RestrictAddressFamilies=", `allow = ["netlink"]`},
		{"iproute", "Cannot open netlink socket: Address family not supported by protocol", "RestrictAddressFamilies=", `allow = ["netlink"]`},
		{"python_meminfo", "FileNotFoundError: [Errno 2] No such file or directory: '/proc/meminfo'", "ProcSubset=", `allow = ["proc"]`},
		{"node_meminfo", "Error: ENOENT: no such file or directory, open '/proc/meminfo'", "ProcSubset=", `allow = ["proc"]`},
		{"go_stat", "open /proc/stat: no such file or directory", "ProcSubset=", `allow = ["proc"]`},
		{"glibc_cpuinfo", "cat: /proc/cpuinfo: No such file or directory", "ProcSubset=", `allow = ["proc"]`},
		{"a_process_that_is_gone", "FileNotFoundError: [Errno 2] No such file or directory: '/proc/4711/stat'", "", ""},
		{"taskset", "taskset: failed to set pid 0's affinity: Operation not permitted", "SystemCallFilter=", `[limits] cpus`},
		{"python_affinity", "PermissionError: [Errno 1] Operation not permitted: sched_setaffinity", "SystemCallFilter=", `allow = ["affinity"]`},
		{"go_affinity", "sched_setaffinity: operation not permitted", "SystemCallFilter=", `allow = ["affinity"]`},
		{"openmp_affinity", "OMP: Error #179: Function Can't set affinity mask failed:", "SystemCallFilter=", `allow = ["affinity"]`},
		{"numactl", "set_mempolicy: Operation not permitted", "SystemCallFilter=", `allow = ["numa"]`},
		{"mbind", "mbind: Operation not permitted", "SystemCallFilter=", `allow = ["numa"]`},
		{"llama_priority", "warn: failed to set process priority 2 : Operation not permitted (1)", "SystemCallFilter=", `allow = ["priority"]`},
		{"nice", "nice: cannot set niceness: Operation not permitted", "SystemCallFilter=", `[limits] nice`},
		{"llama_mlock", "warning: failed to mlock 536870912-byte buffer (after previously locking 0 bytes): Cannot allocate memory", "LimitMEMLOCK=", `[limits] memlock`},
		{"node_jit", "# Fatal error in , line 0", "", ""},
		{"node_jit_check", "# Check failed: 12 == (*__errno_location ()).", "", ""},
		{"java_jit", "Error occurred during initialization of VM Failed to mark memory page as executable - check if grsecurity/PaX is enabled", "MemoryDenyWriteExecute=", `allow = ["jit"]`},
		{"torch_jit", "JIT session error: Permission denied", "MemoryDenyWriteExecute=", `allow = ["jit"]`},
		{"torch_cpuinfo", "Error in cpuinfo: failed to parse processor information from /proc/cpuinfo", "ProcSubset=", `allow = ["proc"]`},
		{"luajit", "PANIC: unprotected error in call to Lua API (runtime code generation failed, restricted kernel?)", "MemoryDenyWriteExecute=", `allow = ["jit"]`},
		{"zeromq", "Operation not permitted (src/thread.cpp:315)", "SystemCallFilter=", `allow = ["priority"]`},
		{"zeromq_of_another_build", "Operation not permitted (/build/zeromq3-4.3.5/src/thread.cpp:290)", "SystemCallFilter=", `allow = ["priority"]`},
		{"glibc_stack", "ImportError: libfoo.so: cannot enable executable stack as shared object requires: Permission denied", "MemoryDenyWriteExecute=", `allow = ["jit"]`},
		{"shm_library", "ImportError: /dev/shm/x/kernel.so: failed to map segment from shared object", "TemporaryFileSystem=", `allow = ["dev-shm-exec"]`},
		{"noexec_library", "/data/x/libggml.so: failed to map segment from shared object", "mounted noexec", "mount its file system with exec"},
		{"llama_slots", `error while handling argument "--slot-save-path": not a directory: /srv/slots/`, "hides /srv/slots", `writable = ["/srv/slots"]`},
		{"llama_template", "error: failed to open file '/srv/models/chat.jinja'", "even where ls shows it", "/usr/local/share"},
		{"python_hidden", "FileNotFoundError: [Errno 2] No such file or directory: '/home/ann/x.json'", "hides /home/ann/x.json", "/var/lib/pool-engine/a.r0"},
		{"python_denied", "PermissionError: [Errno 13] Permission denied: '/srv/slots'", "hides /srv/slots", `writable = ["/srv/slots"]`},
		{"a_file_that_is_nowhere", "FileNotFoundError: [Errno 2] No such file or directory: '/etc/x'", "", ""},
		{"read_only", "OSError: [Errno 30] Read-only file system: '/opt/vllm/cache'", "/opt/vllm/cache is read-only", `writable = ["/opt/vllm/cache"]`},
		{"read_only_without_a_path", "mkdir: Read-only file system", "the file system is read-only", "/var/lib/pool-engine/a.r0"},
		{"node_read_only", "Error: EROFS: read-only file system, open '/usr/x'", "/usr/x is read-only", "state directory"},
		{"name_server", "socket.gaierror: [Errno -3] Temporary failure in name resolution", "IPAddressDeny=", "Download"},
		{"node_name_server", "Error: getaddrinfo EAI_AGAIN huggingface.co", "IPAddressDeny=", "Download"},
		{"namespace", "unshare: unshare failed: Operation not permitted", "RestrictNamespaces=", "--no-sandbox"},
		{"sudo", `sudo: The "no new privileges" flag is set, which prevents sudo from running as root.`, "NoNewPrivileges=", "sudo"},
		{"chown", "chown: changing ownership of 'x': Operation not permitted", "NoNewPrivileges=", "chown"},
		{"some_call", "quotactl: Operation not permitted", "may have blocked a call", `allow = [`},
		{"an_error_of_its_own", "error: invalid argument: --foo", "", ""},
		{"out_of_memory", "std::bad_alloc", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, ok := Explain(ended("loading", c.line))
			if ok != (c.text != "") || !strings.Contains(f.Text, c.text) || !strings.Contains(f.Hint, c.hint) {
				t.Errorf("%q is explained by %+v, %t; want %q and %q", c.line, f, ok, c.text, c.hint)
			}
		})
	}
}

// TestExplainForbidden: what no key permits, and limits that keys set, as Python prints it: the
// call is in the lines before the error, or in the error itself.
func TestExplainForbidden(t *testing.T) {
	const (
		marks   = "    ~~~~~~~~~~~~~~~~~~~^^^^^"
		eperm   = "PermissionError: [Errno 1] Operation not permitted"
		eacces  = "PermissionError: [Errno 13] Permission denied"
		enoent  = "FileNotFoundError: [Errno 2] No such file or directory"
		family  = "OSError: [Errno 97] Address family not supported by protocol"
		nothing = "No key of a pool's file permits it"
	)
	for _, c := range []struct {
		name, call, err string
		text, hint      string
	}{
		{"raw_socket", "    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", eperm, "raw sockets (CapabilityBoundingSet=)", nothing},
		{"packet_socket", "    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)", family, "AF_PACKET (RestrictAddressFamilies=)", nothing},
		{"vsock", "    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)", family, "AF_VSOCK (RestrictAddressFamilies=)", nothing},
		{"clock", "    time.clock_settime(time.CLOCK_REALTIME, 1e9)", eperm, "set the clock (ProtectClock=)", nothing},
		{"chroot", `    os.chroot("/tmp")`, eperm + ": '/tmp'", "change its root (SystemCallFilter=)", nothing},
		{"mount", "x", "mount: /mnt: permission denied.", "to mount", nothing},
		{"mknod", `    os.mknod("/tmp/n", 0o20666)`, eperm, "device nodes", nothing},
		{"hostname", `    socket.sethostname("x")`, eperm, "the host's name", nothing},
		{"setuid_bit", "    os.chmod(f, 0o4755)", eperm + ": '/tmp/s'", "RestrictSUIDSGID=", nothing},
		{"signal", "    os.kill(1, 0)", eperm, "a process that is not its own (DynamicUser=)", nothing},
		{"debugger", "x", "ptrace: Operation not permitted.", "look into another process (SystemCallFilter=)", nothing},
		{"profiler", "x", "perf_event_open(...): Operation not permitted", "profiler", nothing},
		{"module", "x", "modprobe: ERROR: could not insert 'nvidia_uvm': Operation not permitted", "ProtectKernelModules=", "/etc/modules-load.d"},
		{"low_port", `    s.bind(("127.0.0.1", 80))`, eacces, "a port below 1024 (CapabilityBoundingSet=)", "{port} in args"},
		{"low_port_of_nginx", "x", "bind() to 0.0.0.0:80 failed (13: Permission denied)", "a port below 1024", "{port}"},
		{"message_bus", `    s.connect("/run/dbus/system_bus_socket")`, enoent, "an empty /run", "no message bus"},
		{"docker", "x", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", "TemporaryFileSystem=/run", "container engine"},
		{"systemctl", "x", "Failed to connect to bus: No such file or directory", "an empty /run", "no message bus"},
		{"kvm", `    open("/dev/kvm")`, enoent + ": '/dev/kvm'", "not /dev/kvm (PrivateDevices=", "NVIDIA's GPUs"},
		{"gpu_without_devices", "x", enoent + ": '/dev/nvidiactl'", "not /dev/nvidiactl", "devices = [0]"},
		{"dri", "x", "failed to open /dev/dri/renderD128: Operation not permitted", "not /dev/dri/renderD128", "NVIDIA's GPUs"},
		{"program_in_shm", "    subprocess.check_call(['/dev/shm/x'])", eacces + ": '/dev/shm/x'", "TemporaryFileSystem=", `allow = ["dev-shm-exec"]`},
		{"threads", "    start_new_thread()", "RuntimeError: can't start new thread", "TasksMax=", "[limits] tasks_max"},
		{"threads_of_openblas", "x", "OpenBLAS blas_thread_init: pthread_create failed for thread 3 of 4: Resource temporarily unavailable", "TasksMax=", "tasks_max"},
		{"fork", "x", "sh: 1: Cannot fork: Resource temporarily unavailable", "TasksMax=", "tasks_max"},
		{"files", "x", "OSError: [Errno 24] Too many open files: '/srv/x'", "LimitNOFILE=", "[limits] nofile"},
		{"raises_a_limit", "    resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))", "ValueError: not allowed to raise maximum limit",
			"raise its own limits", "[limits] nofile"},
		{"timeout", "x", "requests.exceptions.ConnectTimeout: HTTPSConnectionPool(host='192.0.2.1', port=443)", "IPAddressDeny=", "Download"},
		{"su", "x", "su: Authentication failure", "NoNewPrivileges=", "sudo"},
		{"sysctl", "x", "OSError: [Errno 30] Read-only file system: '/proc/sys/vm/overcommit_memory'", "ProtectKernelTunables=", "/etc/sysctl.d"},
		{"cgroup", "x", "OSError: [Errno 30] Read-only file system: '/sys/fs/cgroup/cgroup.procs'", "ProtectControlGroups=", "no engine may"},
		{"hidden_cgroup", "x", eacces + ": '/sys/fs/cgroup/memory.max'", "hides the control groups", `allow = ["proc"]`},
		{"etc", "x", "OSError: [Errno 30] Read-only file system: '/etc/engine.conf'", "/etc/engine.conf is read-only", "may not be named in writable"},
		{"a_home_that_may_not_be_named", "x", eacces + ": '/home/root/x'", "hides /home/root/x", "To write, name a path below its state directory"},
		{"its_own_socket", "x", enoent + ": '/run/pool-engine/a.r0/engine.sock'", "", ""},
		{"its_own_terminal", "x", enoent + ": '/dev/tty'", "", ""},
		{"a_bound_address", `    s.bind(("192.0.2.1", 8000))`, "OSError: [Errno 99] Cannot assign requested address", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := ended("loading", c.call, marks, `  File "/usr/lib/python3.13/x.py", line 233, in __init__`,
				"    self.x(y)", marks, c.err)
			run.Unwritable = func(path string) string {
				if strings.HasPrefix(path, "/etc/") || strings.HasPrefix(path, "/home/root/") {
					return "is the system's"
				}
				return ""
			}
			f, ok := Explain(run)
			if ok != (c.text != "") || !strings.Contains(f.Text, c.text) || !strings.Contains(f.Hint, c.hint) {
				t.Errorf("%q is explained by %+v, %t; want %q and %q", c.err, f, ok, c.text, c.hint)
			}
		})
	}
}

// TestExplainBySignal: what a process that ended by a signal did wrong.
func TestExplainBySignal(t *testing.T) {
	trap, sys, kill := ended("#", "# Check failed: 12 == (*__errno_location ())."), ended(), ended("CUDA error")
	trap.Signal, sys.Signal, kill.Signal = "SIGTRAP", "SIGSYS", "SIGKILL"
	if f, ok := Explain(trap); !ok || !strings.Contains(f.Hint, `allow = ["jit"]`) {
		t.Errorf("SIGTRAP: %+v", f)
	}
	trap.Allowed = []string{JIT}
	if f, ok := Explain(trap); ok {
		t.Errorf("SIGTRAP of an engine that may compile: %+v", f)
	}
	if f, ok := Explain(sys); !ok || !strings.Contains(f.Text, "SystemCallArchitectures=") {
		t.Errorf("SIGSYS: %+v", f)
	}
	if f, ok := Explain(kill); ok {
		t.Errorf("SIGKILL: %+v", f)
	}
}

// TestExplainWithoutNetwork: a socket that an engine without a network may not have is of the
// Internet's families or of netlink; a line that names the list of interfaces means netlink.
func TestExplainWithoutNetwork(t *testing.T) {
	const family = "Address family not supported by protocol"
	for line, want := range map[string]string{
		"socket: " + family:                     `network = "loopback" in the pool's file. One that lists network interfaces needs allow = ["netlink"]`,
		"getifaddrs: " + family:                 `If the engine needs it, write [sandbox] allow = ["netlink"]`,
		"Cannot open netlink socket: " + family: `If the engine needs it, write [sandbox] allow = ["netlink"]`,
	} {
		run := ended(line)
		run.NoInternet = true
		if f, ok := Explain(run); !ok || !strings.Contains(f.Hint, want) {
			t.Errorf("%q is explained by %+v, want %q", line, f, want)
		}
	}
	run := ended("socket: " + family)
	run.NoInternet, run.Allowed = true, []string{Netlink}
	if f, ok := Explain(run); !ok || !strings.Contains(f.Hint, "loopback") || strings.Contains(f.Hint, "allow") {
		t.Errorf("with netlink: %+v, %t", f, ok)
	}
}

// TestExplainPrefers: the newest line that shows anything decides, one that names a call before one
// that does not, and no line about what the run was allowed.
func TestExplainPrefers(t *testing.T) {
	const family, figures = "Address family not supported by protocol", "No such file or directory: '/proc/meminfo'"
	hint := func(r Run) string {
		f, _ := Explain(r)
		return f.Hint
	}
	if got := hint(ended(figures, family)); !strings.Contains(got, Netlink) {
		t.Errorf("of two lines the newest explains, not %q", got)
	}
	if got := hint(ended(figures, "x: Operation not permitted")); !strings.Contains(got, Proc) {
		t.Errorf("an error without a name wins: %q", got)
	}
	allowed := ended(figures, family)
	if allowed.Allowed = []string{Netlink}; !strings.Contains(hint(allowed), Proc) {
		t.Errorf("with netlink: %q", hint(allowed))
	}
	for name, lines := range map[string][]string{
		"a warning before the error":        {"WARNING 11-27 x: getifaddrs failed", figures},
		"a warning behind the error":        {figures, "(APIServer pid=81) WARNING 11-27 x: getifaddrs failed"},
		"a warning of Python":               {figures, "x.py:3: RuntimeWarning: getifaddrs failed"},
		"what may happen":                   {figures, "This can cause fd limit errors like `OSError: [Errno 24] Too many open files`"},
		"a warning before a vague error":    {"warning: " + figures, "x: Operation not permitted"},
		"a warning and nothing beside it":   {"[W] WARN " + figures, "bye"},
		"an error that speaks of a warning": {"ERROR 11-27 x: " + figures, "INFO getifaddrs failed"},
	} {
		if got := hint(ended(lines...)); !strings.Contains(got, Proc) {
			t.Errorf("%s: %q", name, got)
		}
	}
	python := ended(`  File "/srv/x.py", line 2, in <module>`, "    os.sched_setaffinity(0, os.sched_getaffinity(0))",
		"    ~~~~~~~~~~~~~~~~~~~~^^^^^", "PermissionError: [Errno 1] Operation not permitted")
	if got := hint(python); !strings.Contains(got, Affinity) {
		t.Errorf("a call that the line before the error names: %q", got)
	}
	old := append([]string{family}, strings.Split(strings.Repeat("fine\n", newest), "\n")...)
	if f, ok := Explain(ended(old...)); ok {
		t.Errorf("an old line explains: %+v", f)
	}
}

// FuzzExplain: a log may hold anything; a finding has both parts.
func FuzzExplain(f *testing.F) {
	f.Add("FileNotFoundError: [Errno 2] No such file or directory: '/srv/x'", "")
	f.Add("/: Read-only file system", "SIGTRAP")
	f.Fuzz(mutate.Many(func(t *testing.T, line, signal string) {
		run := ended(line)
		run.Signal = signal
		if found, ok := Explain(run); ok != (found.Text != "") || ok != (found.Hint != "") {
			t.Errorf("%q: %+v, %t", line, found, ok)
		}
	}))
}
