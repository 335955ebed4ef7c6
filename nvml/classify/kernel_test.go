package classify_test

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// kernelCases are lines of the kernel's log in every form that the driver prints.
var kernelCases = []struct {
	name, line      string
	class           classify.Class
	scope           classify.Scope
	kind            string
	xid             int
	pci             string
	gi, ci, pid     int // gi and ci: -1 for none
	code, textHolds string
}{
	{"xid/fallen_off_the_bus", "NVRM: Xid (PCI:0000:65:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
		classify.ClassHost, classify.ScopeHost, "xid", 79, "00000000:65:00.0", -1, -1, 0, "GPU_UNAVAILABLE", "Xid 79"},
	{"xid/page_fault_of_a_process", "NVRM: Xid (PCI:0000:3b:00): 31, pid=2031, name=llama-server, Ch 00000008, intr 10000000. MMU Fault: ENGINE GRAPHICS",
		classify.ClassApplication, classify.ScopeProcess, "xid", 31, "00000000:3b:00.0", -1, -1, 2031, "CUDA_ERROR", "MMU Fault"},
	{"xid/contained_in_a_gpu_instance", "NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=7194, Contained: CE User Channel (0x9). RST: No, D-RST: No",
		classify.ClassDegraded, classify.ScopePartition, "xid", 94, "00000000:01:00.0", 5, -1, 7194, "CUDA_ERROR", "Contained"},
	{"xid/in_a_compute_instance", "NVRM: Xid (PCI:0000:3b:00 GPU-I:01 GPU-CI:02): 13, pid=9, name=a, Graphics Exception",
		classify.ClassApplication, classify.ScopeProcess, "xid", 13, "00000000:3b:00.0", 1, 2, 9, "CUDA_ERROR", "Graphics Exception"},
	{"xid/reset_in_an_instance_is_of_the_whole_gpu", "NVRM: Xid (PCI:0000:01:00 GPU-I:05): 95, pid=7062, Uncontained: LTC TAG (0x2,0x1). RST: Yes, D-RST: No",
		classify.ClassReset, classify.ScopeGPU, "xid", 95, "00000000:01:00.0", 5, -1, 7062, "GPU_UNAVAILABLE", "Uncontained"},
	{"xid/without_process", "NVRM: Xid (PCI:0000:01:00): 48, An uncorrectable double bit error (DBE) has been detected on GPU",
		classify.ClassReset, classify.ScopeGPU, "xid", 48, "00000000:01:00.0", -1, -1, 0, "GPU_UNAVAILABLE", "double bit"},
	{"xid/wide_domain_and_function", "NVRM: Xid (PCI:00000001:AB:00.0): 119, pid=1, name=x, Timeout waiting for RPC from GSP0!",
		classify.ClassReset, classify.ScopeGPU, "xid", 119, "00000001:ab:00.0", -1, -1, 1, "GPU_UNAVAILABLE", "GSP"},
	{"xid/log_only", "NVRM: Xid (PCI:0000:03:00): 14, Channel 00000001",
		classify.ClassLog, classify.ScopeGPU, "xid", 14, "00000000:03:00.0", -1, -1, 0, "", "Channel"},
	{"xid/context_switch_timeout", "NVRM: Xid (PCI:0000:01:00): 109, pid=42, name=python3, Ch 00000008, errorString CTX SWITCH TIMEOUT",
		classify.ClassDegraded, classify.ScopeGPU, "xid", 109, "00000000:01:00.0", -1, -1, 42, "CUDA_ERROR", "CTX SWITCH"},
	{"xid/recovery_action_reset", "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
		classify.ClassReset, classify.ScopeGPU, "recovery-reset", 154, "00000000:01:00.0", -1, -1, 0, "GPU_UNAVAILABLE", "154"},
	{"xid/recovery_action_reboot", "NVRM: Xid (PCI:0000:01:00): 154, pid='<unknown>', name=<unknown>, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)",
		classify.ClassHost, classify.ScopeHost, "recovery-reboot", 154, "00000000:01:00.0", -1, -1, 0, "GPU_UNAVAILABLE", "154"},
	{"xid/recovery_action_none", "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)",
		classify.ClassLog, classify.ScopeGPU, "recovery-none", 154, "00000000:01:00.0", -1, -1, 0, "", "154"},
	{"xid/unknown_code", "NVRM: Xid (PCI:0000:01:00): 999, something new",
		classify.ClassDegraded, classify.ScopeGPU, "xid", 999, "00000000:01:00.0", -1, -1, 0, "DRIVER_ERROR", "something new"},
	{"xid/recovery_action_behind_a_name_that_holds_another", "NVRM: Xid (PCI:0000:01:00): 154, pid=7, name=x, to 0x2 , GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
		classify.ClassReset, classify.ScopeGPU, "recovery-reset", 154, "00000000:01:00.0", -1, -1, 7, "GPU_UNAVAILABLE", "154"},
	{"xid/wide_domain", "NVRM: Xid (PCI:10000:65:00): 14, Channel 00000001",
		classify.ClassLog, classify.ScopeGPU, "xid", 14, "00010000:65:00.0", -1, -1, 0, "", "Channel"},
	{"off_bus/short", "NVRM: GPU 0000:01:00.0: GPU has fallen off the bus.",
		classify.ClassReset, classify.ScopeGPU, "off-bus", 0, "00000000:01:00.0", -1, -1, 0, "GPU_UNAVAILABLE", ""},
	{"off_bus/older_driver", "NVRM: GPU at PCI:0000:01:00.0 has fallen off the bus.",
		classify.ClassReset, classify.ScopeGPU, "off-bus", 0, "00000000:01:00.0", -1, -1, 0, "GPU_UNAVAILABLE", ""},
	{"off_bus/at_start_in_one_line", "NVRM: The NVIDIA GPU 0000:4f:00.0 (PCI ID: 10de:2204) installed in this system has fallen off the bus and is not responding to commands.",
		classify.ClassReset, classify.ScopeGPU, "off-bus", 0, "00000000:4f:00.0", -1, -1, 0, "GPU_UNAVAILABLE", ""},
	{"off_bus/at_start", "NVRM: The NVIDIA GPU 0000:4f:00.0\nNVRM: (PCI ID: 10de:2204) installed in this system has\nNVRM: fallen off the bus and is not responding to commands.",
		classify.ClassReset, classify.ScopeGPU, "off-bus", 0, "00000000:4f:00.0", -1, -1, 0, "GPU_UNAVAILABLE", ""},
	{"init_failed", "NVRM: GPU 0000:01:00.0: RmInitAdapter failed! (0x26:0x56:1474)",
		classify.ClassReset, classify.ScopeGPU, "init-failed", 0, "00000000:01:00.0", -1, -1, 0, "GPU_UNAVAILABLE", ""},
	{"mismatch/older_driver", "NVRM: API mismatch: the client has the version 550.54.14, but",
		classify.ClassLog, classify.ScopeHost, "api-mismatch", 0, "", -1, -1, 0, "DRIVER_ERROR", ""},
	{"mismatch", "NVRM: API mismatch: the client 'python3' (pid 77)\nNVRM: has the version 550.54.14, but this kernel module has\nNVRM: the version 595.45.04.",
		classify.ClassLog, classify.ScopeHost, "api-mismatch", 0, "", -1, -1, 0, "DRIVER_ERROR", ""},
	{"sxid/non_fatal", "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error (First)",
		classify.ClassLog, classify.ScopeHost, "sxid", 0, "00000000:c1:00.0", -1, -1, 0, "DRIVER_ERROR", "12028"},
	{"sxid/fatal", "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 24007, Fatal, Link 28 sourcetrack timeout error (First)",
		classify.ClassLog, classify.ScopeHost, "sxid-fatal", 0, "00000000:c1:00.0", -1, -1, 0, "GPU_UNAVAILABLE", "24007"},
}

func TestKernel(t *testing.T) {
	for _, c := range kernelCases {
		t.Run(c.name, func(t *testing.T) {
			v, ok := classify.Kernel(c.line)
			if !ok {
				t.Fatal("the line was passed over")
			}
			checkVerdict(t, v, c.class, c.scope, c.code, c.textHolds)
			if v.Source != classify.SourceKernel && c.xid != 0 || v.Kind != c.kind || v.Xid != c.xid ||
				v.PCI != c.pci || v.PID != c.pid {
				t.Errorf("kind %s xid %d pci %q pid %d, want %s %d %q %d", v.Kind, v.Xid, v.PCI, v.PID, c.kind, c.xid,
					c.pci, c.pid)
			}
			if instance(v.GI) != c.gi || instance(v.CI) != c.ci {
				t.Errorf("gi %d ci %d, want %d %d", instance(v.GI), instance(v.CI), c.gi, c.ci)
			}
		})
	}
}

func TestKernelPassesOver(t *testing.T) {
	for name, line := range map[string]string{
		"empty":                  "",
		"loading":                "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.54.14",
		"uuid_line":              "NVRM: GPU at PCI:0000:01:00: GPU-3f100000-1111-2222-3333-000000000000",
		"no_code":                "NVRM: Xid (PCI:0000:01:00): , pid=1",
		"address_is_none":        "NVRM: Xid (PCI:zz): 79, pid=1",
		"code_out_of_any_reason": "NVRM: Xid (PCI:0000:01:00): 123456789, pid=1",
		"another_bus_error":      "pcieport 0000:00:01.0: AER: Corrected error received",
	} {
		t.Run(name, func(t *testing.T) {
			if v, ok := classify.Kernel(line); ok {
				t.Errorf("classified as %+v", v)
			}
		})
	}
}

// xid79 is the worst that a line can say, as the driver says it.
const xid79 = "NVRM: Xid (PCI:0000:41:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."

// TestKernelPassesOverWhatUsersWrite has records of the kernel's log that hold a text which a user
// of the host chose. The names of processes are cut to 15 bytes, as the kernel keeps them.
func TestKernelPassesOverWhatUsersWrite(t *testing.T) {
	comm := func(format string) string { return strings.ReplaceAll(format, "%s", xid79[:15]) }
	swap := strings.NewReplacer("%s", xid79)
	for name, line := range map[string]string{
		"cgroup/oom_report": swap.Replace("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=%s,mems_allowed=0," +
			"oom_memcg=/user.slice/%s,task_memcg=/user.slice/%s,task=x,pid=7,uid=1000"),
		"cgroup/stats":             swap.Replace("Memory cgroup stats for /user.slice/user-1000.slice/user@1000.service/%s:"),
		"cgroup/own_record":        swap.Replace("/user.slice/user-1000.slice/user@1000.service/%s"),
		"cgroup/pids":              swap.Replace("cgroup: fork rejected by pids controller in /user.slice/%s"),
		"cgroup/sxid":              "cgroup: fork rejected by pids controller in /nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 24007, Fatal, x",
		"mount/overlay_upper":      swap.Replace("overlayfs: upperdir is in-use as upperdir/workdir of another mount, mount with '%s'"),
		"mount/overlay_missing":    swap.Replace("overlayfs: failed to resolve '/tmp/%s': -2"),
		"mount/ext4":               swap.Replace("EXT4-fs (loop0): mounted filesystem %s ro without journal"),
		"device/usb_product":       swap.Replace("usb 1-1: Product: %s"),
		"device/usb_serial":        swap.Replace("usb 1-1: SerialNumber: %s"),
		"audit/comm":               swap.Replace(`audit: type=1326 audit(1.0:1): auid=1000 comm="%s" exe="/tmp/%s" sig=31`),
		"comm/segfault":            comm("%s[123]: segfault at 0 ip 000000000041 sp 00007ffc error 4 in x[400000+1000]"),
		"comm/trap":                comm("traps: %s[123] general protection fault ip:41 sp:7ffc error:0"),
		"comm/oom_killer":          comm("%s invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"),
		"comm/allocation":          comm("%s: page allocation failure: order:4, mode:0xcc0(GFP_KERNEL)"),
		"comm/fatal_signal":        comm("%s/123: potentially unexpected fatal signal 11."),
		"comm/killed":              comm("Out of memory: Killed process 41 (%s) total-vm:4kB, anon-rss:4kB"),
		"comm/of_the_switch":       "nvidia-nvswitch[123]: segfault at 0 ip 41 sp 7ffc error 4",
		"comm/of_another_gpu":      "NVRM: GPU 0000:[123]: segfault at 0 ip 41 sp 7ffc error 4",
		"comm/hex_pid":             "NVRM: Xid (PCI:[41]: segfault at 0 ip 41:00): 79, sp 0",
		"comm/newline":             "x\n" + xid79[:13] + "[123]: segfault at 0",
		"line/second_of_a_record":  "systemd[1]: x\n" + xid79,
		"line/leading_space":       " " + xid79,
		"line/leading_newline":     "\n" + xid79,
		"line/leading_tab":         "\t" + xid79,
		"line/byte_order_mark":     "\uFEFF" + xid79,
		"line/time_of_dmesg":       "[ 1234.567890] " + xid79,
		"line/caller_of_printk":    "[    T1234] " + xid79,
		"line/level":               "<3>" + xid79,
		"line/name_of_a_program":   "kernel: " + xid79,
		"line/quoted":              "logger: '" + xid79 + "'",
		"line/lower_case":          strings.ToLower(xid79),
		"line/double_space":        strings.Replace(xid79, "NVRM: ", "NVRM:  ", 1),
		"line/no_break_space":      strings.Replace(xid79, "NVRM: ", "NVRM:\u00a0", 1),
		"line/escape":              "\x1b[0m" + xid79,
		"form/fallen_in_a_name":    "NVRM: loading x has fallen off the bus",
		"form/init_without_a_gpu":  "NVRM: RmInitAdapter failed! (0x26:0xffff:1096)",
		"form/init_behind_a_name":  "NVRM: client 'GPU 0000:41:00.0: RmInitAdapter failed!' is unknown",
		"form/mismatch_in_a_name":  "NVRM: client 'API mismatch: the client ' is unknown",
		"form/switch_of_no_number": "nvidia-nvswitch: SXid (PCI:0000:c1:00.0): 24007, Fatal, x",
		"form/switch_in_a_name":    "nvidia-nvlink0: nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 24007, Fatal, x",
	} {
		t.Run(name, func(t *testing.T) {
			if v, ok := classify.Kernel(line); ok {
				t.Errorf("%q is classified as %+v", line, v)
			}
		})
	}
	if _, ok := classify.Kernel(xid79); !ok {
		t.Error("the driver's own line is passed over")
	}
}

// FuzzNames: no name of a process, which a user chooses and the kernel cuts to 15 bytes, and no
// longer name behind a beginning of the kernel's own, makes a record one of the driver's.
func FuzzNames(f *testing.F) {
	behind := []string{"[7]: segfault at 0 ip 41", " invoked oom-killer: gfp_mask=0xcc0", ": page allocation failure: order:4",
		"/7: potentially unexpected fatal signal 11.", " (7): drop_caches: 3", "[7] vsyscall attempted with vsyscall=none",
		" (7) used greatest stack depth: 1 bytes left", "[7]: bad frame in rt_sigreturn frame:00", " uses 32-bit capabilities",
		"[41] trap invalid opcode ip:41 sp:41"}
	before := []string{"Memory cgroup stats for ", "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=", "/", "traps: ",
		"overlayfs: failed to resolve '", "audit: type=1326 comm=", "Out of memory: Killed process 7 (", "usb 1-1: Product: ",
		"EXT4-fs (loop0): ", "systemd[1]: ", "Modules linked in: ", "CPU: 0 PID: 7 Comm: ", "netdevice: "}
	for i := range behind {
		f.Add(xid79[:15], uint8(i))
		f.Add("nvidia-nvswitch", uint8(i))
		f.Add("NVRM: GPU 0000:", uint8(i))
	}
	f.Add(xid79, uint8(0))
	f.Fuzz(mutate.Many(func(t *testing.T, name string, which uint8) {
		for _, line := range []string{
			name[:min(len(name), 15)] + behind[int(which)%len(behind)], before[int(which)%len(before)] + name,
		} {
			if v, ok := classify.Kernel(line); ok {
				t.Errorf("%q is classified as %+v", line, v)
			}
		}
	}))
}

// TestTextAloneIsBounded: no line of the kernel's log is about more than the GPU that it names, and
// no line of an engine's log is about more than that engine.
func TestTextAloneIsBounded(t *testing.T) {
	for _, c := range kernelCases {
		v, _ := classify.Kernel(c.line)
		if !v.Hearsay() {
			t.Errorf("%s is not text alone", c.name)
		}
		one := v.OfOneGPU()
		if one.Class == classify.ClassHost || one.Scope == classify.ScopeHost && one.Class != classify.ClassLog &&
			one.PCI == "" {
			t.Errorf("%s: class %s, scope %s", c.name, one.Class, one.Scope)
		}
	}
	for _, c := range engineCases {
		v, _ := classify.EngineLog(c.line)
		if v.Class.Rank() > classify.ClassApplication.Rank() || v.Scope != classify.ScopeProcess || v.Device != "" ||
			v.PCI != "" || v.PID != 0 {
			t.Errorf("%q reaches beyond its engine: %+v", c.line, v)
		}
	}
}

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{
		"0000:65:00": "00000000:65:00.0", "0000:65:00.0": "00000000:65:00.0", "00000000:65:00.0": "00000000:65:00.0",
		"65:00.0": "00000000:65:00.0", "0001:AF:1F.7": "00000001:af:1f.7", "": "", "65": "", "0000:65:00.9": "", "GPU-1": "",
	} {
		if got, ok := classify.Address(in); got != want || ok != (want != "") {
			t.Errorf("Address(%q) = %q %t, want %q", in, got, ok, want)
		}
	}
}

func checkVerdict(t *testing.T, v classify.Verdict, class classify.Class, scope classify.Scope, code,
	textHolds string) {
	t.Helper()
	if v.Class != class || v.Scope != scope || v.Code != code {
		t.Errorf("class %s scope %s code %q, want %s %s %q", v.Class, v.Scope, v.Code, class, scope, code)
	}
	if !contains(v.Text, textHolds) {
		t.Errorf("text %q does not hold %q", v.Text, textHolds)
	}
	if v.Class != classify.ClassLog && (v.Code == "" || v.Hint == "") {
		t.Errorf("a verdict that acts has no code or hint: %+v", v)
	}
}

func instance(n *int) int {
	if n == nil {
		return -1
	}
	return *n
}
