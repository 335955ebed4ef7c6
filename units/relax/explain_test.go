package relax

import (
	"strings"
	"testing"
)

// ended is a run without any relaxation, in a unit that hides /srv and /home.
func ended(lines ...string) Run {
	return Run{Lines: lines, Home: "/var/lib/pool-engine/a.r0", Hides: func(path string) string {
		for _, tree := range []string{"/srv", "/home"} {
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
		{"some_call", "perf_event_open: Operation not permitted", "may have blocked a call", `allow = [`},
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
	f.Fuzz(func(t *testing.T, line, signal string) {
		run := ended(line)
		run.Signal = signal
		if found, ok := Explain(run); ok != (found.Text != "") || ok != (found.Hint != "") {
			t.Errorf("%q: %+v, %t", line, found, ok)
		}
	})
}
