package relax

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// wording is what programs of many kinds print where one part of the sandbox stops them.
type wording struct {
	line, hint string // of the finding
	// lines are what they print, by the language or the library whose words they are.
	lines map[string]string
}

// wordings has each row of the table in docs/sandbox.md, in the words of glibc, of runtimes and of
// the libraries of engines.
func wordings() map[string]wording {
	return map[string]wording{
		"netlink": {"RestrictAddressFamilies=", `allow = ["netlink"]`, map[string]string{
			"glibc":  "getifaddrs: Address family not supported by protocol",
			"python": "OSError: [Errno 97] Address family not supported by protocol",
			"gloo":   "RuntimeError: [enforce fail at ../third_party/gloo/gloo/transport/tcp/device.cc:101] rv != -1. -1 vs -1. getifaddrs: Address family not supported by protocol",
			"nccl":   "host:12:12 [0] misc/socket.cc:312 NCCL WARN Bootstrap : no socket interface found",
			"c++":    "  what():  open: Address family not supported by protocol",
			"rust":   "Error: Os { code: 97, kind: Uncategorized, message: \"Address family not supported by protocol\" }",
			"go":     "route ip+net: netlinkrib: address family not supported by protocol",
			"node":   "SystemError [ERR_SYSTEM_ERROR]: A system error occurred: uv_interface_addresses returned Unknown system error 97 (Unknown system error 97)",
			"jvm":    "java.net.SocketException: Address family not supported by protocol (getifaddrs failed)",
		}},
		"jit": {"MemoryDenyWriteExecute=", `allow = ["jit"]`, map[string]string{
			"glibc":     "mprotect: Operation not permitted",
			"loader":    "libx.so: cannot enable executable stack as shared object requires: Permission denied",
			"python":    "MemoryError: Cannot allocate write+execute memory for ffi.callback(). You might be running on a system that prevents this. For more information, see https://cffi.readthedocs.io",
			"llvm":      "LLVM ERROR: Unable to allocate section memory!",
			"xbyak":     "  what():  can't protect",
			"rust":      "Error: failed to make memory executable: Permission denied (os error 13)",
			"v8":        "# Fatal process out of memory: Failed to reserve virtual memory for CodeRange",
			"jvm":       "OpenJDK 64-Bit Server VM warning: INFO: os::commit_memory(0x00007f1c3d000000, 2555904, 1) failed; error='Permission denied' (errno=13)",
			"jvm cache": "Could not reserve enough space for code cache (245760K)",
		}},
		"dev-shm-exec": {"/dev/shm (TemporaryFileSystem=)", `allow = ["dev-shm-exec"]`, map[string]string{
			"loader": "/dev/shm/x/kernel.so: failed to map segment from shared object",
			"python": "ImportError: /dev/shm/x/kernel.so: failed to map segment from shared object: Operation not permitted",
			"go":     `plugin.Open("/dev/shm/x"): /dev/shm/x.so: failed to map segment from shared object`,
			"rust":   `Error: DlOpen { desc: "/dev/shm/x.so: failed to map segment from shared object" }`,
			"bash":   "/usr/local/bin/run: line 3: /dev/shm/run: Permission denied",
		}},
		"proc": {"ProcSubset=", `allow = ["proc"]`, map[string]string{
			"glibc":  "fopen /proc/cpuinfo: No such file or directory",
			"python": "FileNotFoundError: [Errno 2] No such file or directory: '/proc/meminfo'",
			"c++":    "terminate called: cannot open /proc/meminfo",
			"rust":   `called Result::unwrap() on an Err value: IoError(Os { code: 2, kind: NotFound, message: "No such file or directory" }, "/proc/meminfo")`,
			"go":     "open /proc/stat: no such file or directory",
			"node":   "Error: ENOENT: no such file or directory, open '/proc/meminfo'",
			"jvm":    "java.io.FileNotFoundException: /proc/meminfo (No such file or directory)",
			"driver": "could not open /proc/driver/nvidia/params",
		}},
		"affinity": {"SystemCallFilter=", "[limits] cpus", map[string]string{
			"glibc":  "sched_setaffinity: Operation not permitted",
			"python": "PermissionError: [Errno 1] Operation not permitted: sched_setaffinity",
			"onnx":   "pthread_setaffinity_np failed for thread: 12, index: 0, mask: {1, }, error code: 1 error msg: Operation not permitted. Specify the number of threads explicitly so the affinity is not set.",
			"openmp": "OMP: Error #179: Function Can't set affinity mask failed:",
			"hwloc":  "hwloc_set_cpubind() failed: Operation not permitted",
			"rust":   `sched_setaffinity: Os { code: 1, kind: PermissionDenied, message: "Operation not permitted" }`,
			"go":     "sched_setaffinity: operation not permitted",
			"shell":  "taskset: failed to set pid 0's affinity: Operation not permitted",
		}},
		"numa": {"SystemCallFilter=", "[limits] numa_policy", map[string]string{
			"glibc": "set_mempolicy: Operation not permitted",
			"torch": "RuntimeError: numa_set_membind failed. errno: 1",
			"rust":  "Error: mbind failed: Operation not permitted (os error 1)",
			"go":    "set_mempolicy: operation not permitted",
			"shell": "numactl: setting membind: Operation not permitted",
		}},
		"priority": {"SystemCallFilter=", "[limits] nice", map[string]string{
			"glibc":  "pthread_setschedparam: Operation not permitted",
			"llama":  "error: failed to set process priority 2 : Operation not permitted (1)",
			"zeromq": "Operation not permitted (src/thread.cpp:315)",
			"python": "PermissionError: [Errno 1] Operation not permitted: os.setpriority",
			"rust":   `setpriority: Os { code: 1, kind: PermissionDenied, message: "Operation not permitted" }`,
			"go":     "setpriority: operation not permitted",
			"node":   "SystemError [ERR_SYSTEM_ERROR]: A system error occurred: uv_os_setpriority returned EPERM (operation not permitted)",
			"renice": "renice: failed to set priority for 12 (process ID): Operation not permitted",
			"chrt":   "chrt: failed to set pid 0's policy: Operation not permitted",
			"ionice": "ionice: ioprio_set failed: Operation not permitted",
		}},
		"mlock": {"LimitMEMLOCK=", "[limits] memlock", map[string]string{
			"glibc":  "mlockall: Cannot allocate memory",
			"llama":  "error: failed to mlock 536870912-byte buffer (after previously locking 0 bytes): Cannot allocate memory",
			"rust":   "Error: mlock failed: Cannot allocate memory (os error 12)",
			"go":     "mlock: cannot allocate memory",
			"rdma":   "NCCL WARN Call to ibv_reg_mr_iova2 failed with error Cannot allocate memory",
			"verbs":  "libibverbs: RLIMIT_MEMLOCK is 8388608 bytes.",
			"python": "OSError: [Errno 12] Cannot allocate memory: mlock",
		}},
		"host-address": {"IPAddressAllow=", `allow = ["host-address"]`, map[string]string{
			"gloo":   "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:144] Connect timeout [127.0.1.1]:29517",
			"torch":  "torch.distributed.DistNetworkError: The client socket has timed out after 60000ms while trying to connect to (127.0.1.1, 29500).",
			"python": "TimeoutError: [Errno 110] Connection timed out: ('127.0.1.1', 8000)",
			"go":     "dial tcp 127.0.1.1:8000: i/o timeout",
			"node":   "Error: connect ETIMEDOUT 127.0.1.1:8000",
			"nccl":   "NCCL WARN socketPollConnect: connect to 127.0.1.1<41235> returned Connection timed out",
		}},
		"hidden": {"hides /srv/x from the engine", "/usr/local/share", map[string]string{
			"glibc":        "fopen: /srv/x: No such file or directory",
			"python":       "FileNotFoundError: [Errno 2] No such file or directory: '/srv/x'",
			"llama":        "error: failed to open file '/srv/x'",
			"rust":         "Error: failed to open `/srv/x`: No such file or directory (os error 2)",
			"go":           "open /srv/x: no such file or directory",
			"node":         "Error: ENOENT: no such file or directory, open '/srv/x'",
			"jvm":          "java.nio.file.NoSuchFileException: /srv/x",
			"transformers": "OSError: Can't load tokenizer for '/srv/x'. If you were trying to load it from 'https://huggingface.co/models', make sure you don't have a local directory with the same name.",
			"hub":          "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/srv/x'. Use `repo_type` argument if needed.",
			"config":       "OSError: /srv/x does not appear to have a file named config.json. Checkout 'https://huggingface.co//srv/x/tree/None' for available files.",
			"json":         `{"level":"fatal","msg":"open \"/srv/x\": no such file or directory"}`,
		}},
		"read-only": {"/opt/x is read-only for the engine", `writable = ["/opt/x"]`, map[string]string{
			"glibc":  "mkdir: cannot create directory '/opt/x': Read-only file system",
			"python": "OSError: [Errno 30] Read-only file system: '/opt/x'",
			"rust":   "Error: could not create `/opt/x`: Read-only file system (os error 30)",
			"go":     "mkdir /opt/x: read-only file system",
			"node":   "Error: EROFS: read-only file system, open '/opt/x'",
			"jvm":    "java.io.FileNotFoundException: /opt/x (Read-only file system)",
			"numba":  "RuntimeError: cannot cache function 'f': no locator available for file '/opt/x'",
			"hub":    "There was a problem when trying to write in your cache folder (/opt/x). You should set the environment variable HF_HOME to a writable directory.",
		}},
		"noexec": {"mounted noexec: /data/x.so", "mount its file system with exec", map[string]string{
			"loader": "engine: error while loading shared libraries: /data/x.so: failed to map segment from shared object",
			"python": "ImportError: /data/x.so: failed to map segment from shared object",
			"go":     `plugin.Open("x"): /data/x.so: failed to map segment from shared object`,
		}},
		"elsewhere": {"another host (IPAddressDeny=)", "Download", map[string]string{
			"glibc":    "getaddrinfo: Temporary failure in name resolution",
			"python":   "socket.gaierror: [Errno -2] Name or service not known",
			"urllib3":  "urllib3.exceptions.NameResolutionError: HTTPSConnection(host='huggingface.co', port=443): Failed to resolve 'huggingface.co' ([Errno -3] Temporary failure in name resolution)",
			"aiohttp":  "aiohttp.client_exceptions.ClientConnectorError: Cannot connect to host huggingface.co:443 ssl:default [Temporary failure in name resolution]",
			"hub":      "huggingface_hub.errors.LocalEntryNotFoundError: An error happened while trying to locate the file on the Hub and we cannot find the requested files in the local cache.",
			"offline":  "huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co/api/models/x: offline mode is enabled.",
			"rust":     "error sending request for url (https://huggingface.co/x): error trying to connect: dns error: failed to lookup address information: Temporary failure in name resolution",
			"uv":       "  Caused by: dns error",
			"go":       "dial tcp: lookup huggingface.co on 127.0.0.53:53: read udp 127.0.0.1:53530->127.0.0.53:53: read: connection refused",
			"go none":  "dial tcp: lookup huggingface.co: no such host",
			"go out":   "dial tcp 192.0.2.1:443: connect: network is unreachable",
			"go slow":  "dial tcp 192.0.2.1:443: i/o timeout",
			"node":     "Error: getaddrinfo EAI_AGAIN huggingface.co",
			"node out": "Error: connect ENETUNREACH 192.0.2.1:443",
			"jvm":      "java.net.UnknownHostException: huggingface.co: Temporary failure in name resolution",
			"curl":     "curl: (6) Could not resolve host: huggingface.co",
			"pip":      "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution': /simple/x/",
		}},
		"namespaces": {"RestrictNamespaces=", "--no-sandbox", map[string]string{
			"shell":    "unshare: unshare failed: Operation not permitted",
			"bwrap":    "bwrap: No permissions to create a new namespace, likely because the kernel does not allow non-privileged user namespaces.",
			"chromium": "Failed to move to new namespace: PID namespaces supported, Network namespace supported, but failed: errno = Operation not permitted",
			"rust":     "Error: unshare(CLONE_NEWUSER): Operation not permitted (os error 1)",
			"podman":   "cannot clone: Operation not permitted",
		}},
		"fuse": {"mount a file system", "--appimage-extract", map[string]string{
			"appimage":   "Cannot mount AppImage, please check your FUSE setup.",
			"fuse":       "fuse: device not found, try 'modprobe fuse' first",
			"fusermount": "fuse: failed to exec fusermount3: No such file or directory",
			"library":    "dlopen(): error loading libfuse.so.2",
		}},
		"users": {"NoNewPrivileges=", "a user of its own", map[string]string{
			"sudo":    `sudo: The "no new privileges" flag is set, which prevents sudo from running as root.`,
			"su":      "su: cannot set groups: Operation not permitted",
			"gosu":    `error: failed switching to "llama": operation not permitted`,
			"setpriv": "setpriv: setresuid failed: Operation not permitted",
			"nginx":   `nginx: [emerg] setgid(33) failed (1: Operation not permitted)`,
			"chown":   "chown: changing ownership of '/data': Operation not permitted",
			"python":  "PermissionError: [Errno 1] Operation not permitted: os.setuid",
			"rust":    "Error: setuid: Operation not permitted (os error 1)",
			"go":      "setgroups: operation not permitted",
		}},
		"threads": {"TasksMax=", "[limits] tasks_max", map[string]string{
			"glibc":    "pthread_create failed: Resource temporarily unavailable",
			"python":   "RuntimeError: can't start new thread",
			"fork":     "BlockingIOError: [Errno 11] Resource temporarily unavailable: fork",
			"openblas": "OpenBLAS blas_thread_init: pthread_create failed for thread 3 of 4: Resource temporarily unavailable",
			"libgomp":  "libgomp: Thread creation failed: Resource temporarily unavailable",
			"c++":      "terminate called after throwing an instance of 'std::system_error': thread constructor failed: Resource temporarily unavailable",
			"rust":     `failed to spawn thread: Os { code: 11, kind: WouldBlock, message: "Resource temporarily unavailable" }`,
			"go":       "runtime: failed to create new OS thread (have 5 already; errno=11)",
			"go exec":  "fork/exec /usr/bin/x: resource temporarily unavailable",
			"node":     "Error: spawn /usr/bin/x EAGAIN",
			"jvm":      "java.lang.OutOfMemoryError: unable to create native thread: possibly out of memory or process/resource limits reached",
			"shell":    "sh: 1: Cannot fork: Resource temporarily unavailable",
		}},
		"files": {"LimitNOFILE=", "[limits] nofile", map[string]string{
			"glibc":  "accept: Too many open files",
			"python": "OSError: [Errno 24] Too many open files",
			"rust":   `Os { code: 24, kind: Uncategorized, message: "Too many open files" }`,
			"go":     "accept tcp 127.0.0.1:8000: accept4: too many open files",
			"node":   "Error: EMFILE: too many open files, open 'x'",
			"jvm":    "java.io.IOException: Too many open files",
		}},
		"own limits": {"raise its own limits", "[limits] nofile", map[string]string{
			"python": "ValueError: not allowed to raise maximum limit",
			"shell":  "/usr/local/bin/run: 3: ulimit: error setting limit (Operation not permitted)",
			"bash":   "run: line 2: ulimit: max locked memory: cannot modify limit: Operation not permitted",
			"rust":   "Error: setrlimit: Operation not permitted (os error 1)",
		}},
		"low port": {"a port below 1024", "{port}", map[string]string{
			"nginx":   "bind() to 0.0.0.0:80 failed (13: Permission denied)",
			"uvicorn": "ERROR:    [Errno 13] error while attempting to bind on address ('0.0.0.0', 80): permission denied",
			"go":      "listen tcp :80: bind: permission denied",
			"node":    "Error: listen EACCES: permission denied 0.0.0.0:80",
			"jvm":     "java.net.BindException: Permission denied (Bind failed)",
			"rust":    "Error: could not bind 0.0.0.0:80: Permission denied (os error 13)",
		}},
		"sockets": {"an empty /run", "no message bus", map[string]string{
			"docker":  "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
			"systemd": "Failed to connect to bus: No such file or directory",
			"go":      "dial unix /run/dbus/system_bus_socket: connect: no such file or directory",
			"rust":    "Error: connecting to /run/x.sock: No such file or directory (os error 2)",
			"node":    "Error: connect ENOENT /var/run/docker.sock",
		}},
		"devices": {"no device but the GPUs of its pool", "NVIDIA's GPUs", map[string]string{
			"rocm":   "Unable to open /dev/kfd read-write: No such file or directory",
			"dri":    "failed to open /dev/dri/renderD128: Operation not permitted",
			"go":     "open /dev/kvm: no such file or directory",
			"python": "FileNotFoundError: [Errno 2] No such file or directory: '/dev/infiniband/uverbs0'",
			"rust":   "Error: could not open /dev/accel/accel0: No such file or directory (os error 2)",
		}},
		"sysctl": {"is read-only for the engine (ProtectKernelTunables=", "/etc/sysctl.d", map[string]string{
			"python": "OSError: [Errno 30] Read-only file system: '/proc/sys/vm/overcommit_memory'",
			"shell":  "run: 3: cannot create /sys/kernel/mm/transparent_hugepage/enabled: Read-only file system",
			"go":     "open /proc/sys/net/core/somaxconn: read-only file system",
		}},
		"modules": {"ProtectKernelModules=", "/etc/modules-load.d", map[string]string{
			"modprobe": "modprobe: ERROR: could not insert 'nvidia_uvm': Operation not permitted",
			"glibc":    "init_module: Operation not permitted",
		}},
		"never": {"forbids every engine", "No key of a pool's file permits it", map[string]string{
			"ptrace":   "ptrace: Operation not permitted",
			"py-spy":   "Error: Permission Denied: Try running again with elevated permissions by going 'sudo env \"PATH=$PATH\" !!' (py-spy)",
			"perf":     "perf_event_open(...): Operation not permitted",
			"bpf":      "libbpf: bpf(BPF_PROG_LOAD): Operation not permitted",
			"uffd":     "userfaultfd: Operation not permitted",
			"io_uring": "io_uring_setup: Operation not permitted (os error 1)",
			"ping":     "ping: socktype: SOCK_RAW: Operation not permitted",
			"clock":    "date: cannot set date: clock_settime: Operation not permitted",
			"mount":    "mount: /mnt: permission denied.",
			"mknod":    "mknod: x: Operation not permitted",
			"capset":   "capset: Operation not permitted",
			"chmod":    "chmod: changing permissions of 'x': Operation not permitted",
			"keyctl":   "keyctl: Operation not permitted",
			"person":   "setarch: failed to set personality to x86_64: Operation not permitted",
		}},
	}
}

// around are the ways in which programs print an error.
func around() map[string]func(string) []string {
	one := func(format string) func(string) []string {
		return func(line string) []string { return []string{"loading", fmt.Sprintf(format, line)} }
	}
	return map[string]func(string) []string{
		"alone":      one("%s"),
		"vllm":       one("(EngineCore_DP0 pid=412) ERROR 11-27 10:12:13 [core.py:842] %s"),
		"glog":       one("E1127 10:12:13.000000 412 main.cc:12] %s"),
		"time":       one("2026-11-27T10:12:13.000Z ERROR engine: %s"),
		"colours":    one("\x1b[1;31mERROR\x1b[0m %s\x1b[0m"),
		"caused by":  one("Caused by: %s"),
		"json":       func(line string) []string { return []string{fmt.Sprintf(`{"level":"error","message":%q}`, line)} },
		"rank":       one("[rank0]: %s"),
		"of a child": one("[pod0/worker-1] | %s"),
		"then the end": func(line string) []string {
			return []string{line, "", "During handling of the above exception, another exception occurred:", "",
				"Traceback (most recent call last):", `  File "/opt/vllm/lib/python3.13/site-packages/vllm/v1/engine/core.py", line 842, in run`,
				"    raise e from None",
				"RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"}
		},
		"then a stack": func(line string) []string {
			return []string{line, "goroutine 1 [running]:", "main.main()", "\t/build/main.go:12 +0x1d", "exit status 2"}
		},
		"then a core": func(line string) []string {
			return []string{line, "Fatal Python error: Aborted", "", "Thread 0x00007f1c (most recent call first):",
				`  File "/usr/lib/python3.13/threading.py", line 359 in wait`, "Extension modules: numpy._core (total: 1)"}
		},
	}
}

// TestWordings: whatever the language and the library, and in whatever form a program prints its
// error, the hint names the line of the unit and what to write.
func TestWordings(t *testing.T) {
	all, forms := wordings(), around()
	names := slices.Sorted(maps.Keys(forms))
	lines := 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w := all[name]
		for _, by := range slices.Sorted(maps.Keys(w.lines)) {
			line := w.lines[by]
			lines++
			for i, form := range names {
				if form != "alone" && (lines+i)%6 != 0 { // all together take ten seconds
					continue
				}
				f, ok := Explain(ended(forms[form](line)...))
				if !ok || !strings.Contains(f.Text, w.line) || !strings.Contains(f.Hint, w.hint) {
					t.Errorf("%s of %s, %s: %q is explained by %+v, want %q and %q", name, by, form, line, f, w.line,
						w.hint)
				}
			}
		}
	}
	for _, r := range Table() {
		if _, ok := all[r.Name]; !ok && r.Name != UnifiedMemory { // which is refused before a start
			t.Errorf("no wording of %s", r.Name)
		}
	}
}

// TestWordingsHaveEachRow: each line of a unit in the page's table of what is recognised is one of
// a finding.
func TestWordingsHaveEachRow(t *testing.T) {
	page, err := os.ReadFile("../../docs/sandbox.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## When the sandbox stops an engine")
	table, _, _ = strings.Cut(table, "What a program needs is")
	var found []string
	for _, w := range wordings() {
		for _, line := range w.lines {
			f, _ := Explain(ended(line))
			found = append(found, f.Text)
		}
	}
	trap := ended()
	trap.Signal = "SIGSYS"
	f, _ := Explain(trap)
	found = append(found, f.Text)
	keys := regexp.MustCompile("`([A-Z][A-Za-z]+)(?:=[^`]*)?`").FindAllStringSubmatch(table, -1)
	if len(keys) < 20 {
		t.Fatalf("%d lines of the unit in the table", len(keys))
	}
	notLines := []string{"RLIMIT_MEMLOCK"}
	for _, k := range keys {
		key := k[1]
		inCell := strings.Contains(table, "| `"+key) || strings.Contains(table, ", `"+key)
		if slices.Contains(notLines, key) || !inCell {
			continue
		}
		if key != "Read" && !slices.ContainsFunc(found, func(text string) bool { return strings.Contains(text, key) }) {
			t.Errorf("no wording leads to %s", key)
		}
	}
}
