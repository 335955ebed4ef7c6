package classify_test

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
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
	{"xid/old_driver_and_dmesg_time", "[ 1234.5] NVRM: Xid (0000:03:00): 14, Channel 00000001",
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
	{"off_bus/short", "NVRM: GPU 0000:01:00.0: GPU has fallen off the bus.",
		classify.ClassHost, classify.ScopeHost, "off-bus", 0, "00000000:01:00.0", -1, -1, 0, "GPU_UNAVAILABLE", ""},
	{"off_bus/at_start", "NVRM: The NVIDIA GPU 0000:4f:00.0 (PCI ID: 10de:2204) installed in this system has fallen off the bus and is not responding to commands.",
		classify.ClassHost, classify.ScopeHost, "off-bus", 0, "00000000:4f:00.0", -1, -1, 0, "GPU_UNAVAILABLE", ""},
	{"init_failed", "NVRM: GPU 0000:01:00.0: RmInitAdapter failed! (0x26:0x56:1474)",
		classify.ClassReset, classify.ScopeGPU, "init-failed", 0, "00000000:01:00.0", -1, -1, 0, "GPU_UNAVAILABLE", ""},
	{"mismatch", "NVRM: API mismatch: the client has the version 550.54.14, but",
		classify.ClassLog, classify.ScopeHost, "api-mismatch", 0, "", -1, -1, 0, "DRIVER_ERROR", ""},
	{"sxid/non_fatal", "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error (First)",
		classify.ClassLog, classify.ScopeHost, "sxid", 0, "00000000:c1:00.0", -1, -1, 0, "DRIVER_ERROR", "12028"},
	{"sxid/fatal", "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 24007, Fatal, Link 28 sourcetrack timeout error (First)",
		classify.ClassHost, classify.ScopeHost, "sxid-fatal", 0, "00000000:c1:00.0", -1, -1, 0, "GPU_UNAVAILABLE", "24007"},
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
