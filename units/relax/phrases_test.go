package relax

import (
	"strings"
	"testing"
)

// TestExplainCalls: calls that the filter refuses, as C, C++, Rust, Go, Java and the runtimes of
// other languages report them.
func TestExplainCalls(t *testing.T) {
	const nothing = "No key of a pool's file permits it"
	for line, want := range map[string][2]string{
		"mprotect: Operation not permitted":                                               {"MemoryDenyWriteExecute=", JIT},
		"mmap failed: Permission denied":                                                  {"MemoryDenyWriteExecute=", JIT},
		"LLVM ERROR: Unable to allocate section memory!":                                  {"MemoryDenyWriteExecute=", JIT},
		"Error: unable to make memory readonly and executable":                            {"MemoryDenyWriteExecute=", JIT},
		"mprotect(PROT_READ|PROT_EXEC) failed, errno=13":                                  {"MemoryDenyWriteExecute=", JIT},
		"pthread_setschedparam: Operation not permitted":                                  {"SystemCallFilter=", Priority},
		"sched_setattr failed with errno 1":                                               {"SystemCallFilter=", Priority},
		"java.lang.Error: sched_setscheduler failed":                                      {"SystemCallFilter=", Priority},
		"ioprio_set: Operation not permitted":                                             {"SystemCallFilter=", Priority},
		"Warning: numa_set_membind failed. errno: 1 (function init_cpu_memory_env)":       {"SystemCallFilter=", NUMA},
		"move_pages: EPERM":                                                               {"SystemCallFilter=", NUMA},
		"pthread_setaffinity_np failed, error code: 1 error msg: Operation not permitted": {"SystemCallFilter=", Affinity},
		"thread 'main' panicked: sched_setaffinity: Os { code: 1, kind: PermissionDenied, message: \"Operation not permitted\" }": {"SystemCallFilter=", Affinity},
		"setns: Operation not permitted":                            {"RestrictNamespaces=", "--no-sandbox"},
		"capset: Operation not permitted":                           {"change its capabilities", nothing},
		"ioperm: Operation not permitted":                           {"ports of hardware", nothing},
		"open_by_handle_at: EPERM":                                  {"by a handle", nothing},
		"dmesg: read kernel buffer failed: Operation not permitted": {"ProtectKernelLogs=", nothing},
		"pidfd_getfd: Operation not permitted":                      {"another process", nothing},
		"io_uring_queue_init: Operation not permitted (os error 1)": {"io_uring", nothing},
		"syscall 319 failed: Operation not permitted":               {"may have blocked a call", "take out one at a time"},
		"errno: 11 (Resource temporarily unavailable)":              {},
		"mmap: Cannot allocate memory":                              {},
		"exit status 1, errno=2":                                    {},
	} {
		f, ok := Explain(ended("loading", line))
		if ok != (want[0] != "") || !strings.Contains(f.Text, want[0]) || !strings.Contains(f.Hint, want[1]) {
			t.Errorf("%q is explained by %+v, want %q", line, f, want)
		}
	}
}

// TestExplainTimeouts: another host is out of an engine's reach; a part of the engine on its own
// host that does not answer is no matter of the sandbox, nor is a wait of gloo or NCCL.
func TestExplainTimeouts(t *testing.T) {
	for line, elsewhere := range map[string]bool{
		"requests.exceptions.ConnectTimeout: HTTPSConnectionPool(host='huggingface.co', port=443)":                        true,
		"curl: (28) Failed to connect to 192.0.2.1 port 443: Connection timed out":                                        true,
		"Error: connect ETIMEDOUT 192.0.2.1:443":                                                                          true,
		"NCCL WARN socketPollConnect: connect to 10.0.0.5<41235> returned Connection timed out":                           true,
		"urllib3.exceptions.MaxRetryError: Max retries exceeded with url: /api/models/x":                                  true,
		"NCCL WARN socketPollConnect: connect to 127.0.0.1<41235> returned Connection timed out":                          false,
		"RuntimeError: [gloo/transport/tcp/pair.cc:144] Connect timeout [::ffff:127.0.0.1]:29517":                         false,
		"RuntimeError: [gloo/transport/tcp/pair.cc:144] Connect timeout [::1]:29517":                                      false,
		"Failed to connect to localhost port 8000: Connection timed out":                                                  false,
		"Max retries exceeded with url: /health (host='127.0.0.1', port=8000)":                                            false,
		"torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2 clients joined.":          false,
		"[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE, Timeout(ms)=600000)": false,
		"RuntimeError: [gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation":          false,
		"The client socket has timed out after 600000ms while trying to connect to (127.0.0.1, 29500).":                   false,
		"TimeoutError: Timed out waiting for engine core processes to start":                                              false,
	} {
		f, ok := Explain(ended("loading", line))
		if ok != elsewhere || elsewhere && !strings.Contains(f.Text, "another host (IPAddressDeny=)") {
			t.Errorf("%q is explained by %+v, %t", line, f, ok)
		}
	}
}
