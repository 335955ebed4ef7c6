package classify

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// The forms in which NVIDIA's kernel modules write a line: version 595.45.04 of the open ones, and
// those that older drivers are known to have. Each is anchored at the beginning of the record.
//
// The kernel also logs what users choose: the name of a process ("NAME[12]: segfault at"), of a
// control group, of a mount. Behind a fixed beginning no form here can match such a text, and a
// name of a process at the beginning has 15 bytes, which are fewer than each form fixes. A user can
// still begin a record: pr_cont_cgroup_name prints a name of 255 bytes by itself, and it becomes a
// record of its own when another processor logs in between. So a line proves nothing: package
// health takes it as a reason to ask NVML.
const (
	pciForm = `([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)`
	// The driver breaks long messages into lines of one record.
	gapForm = `[ \n]+(?:NVRM: +)?`
)

var (
	// krcReportXid (src/nvidia/src/kernel/gpu/rc/kernel_rc.c):
	//
	//	NVRM: Xid (PCI:%04x:%02x:%02x GPU-I:%02u GPU-CI:%02u): %d, pid=%s, name=%s, %s
	//
	// without the MIG numbers on a whole GPU, and without pid and name in some places of the
	// driver.
	xidLine = lazy(`^NVRM: Xid \(PCI:` + pciForm + `(?: GPU-I:(\d{1,4}))?(?: GPU-CI:(\d{1,4}))?\): ` +
		`(\d{1,5})(?:,|$) *(.*)`)
	// osHandleGpuLost (src/nvidia/arch/nvalloc/unix/src/osinit.c), and its form before 400.
	offBusLine = lazy(`^NVRM: GPU (?:at )?(?:PCI:)?` + pciForm + `:? (?:GPU )?has fallen off the bus`)
	// rm_is_supported_device (src/nvidia/arch/nvalloc/unix/src/osapi.c), in three lines or one.
	neverUpLine = lazy(`^NVRM: The NVIDIA GPU ` + pciForm + gapForm +
		`\(PCI ID: [0-9a-fA-F]{4}:[0-9a-fA-F]{4}\)` + gapForm + `installed in this system has` + gapForm +
		`fallen off the bus`)
	// RmInitAdapter (src/nvidia/arch/nvalloc/unix/src/osinit.c). Older drivers do not name the GPU
	// there; a line that names no GPU is ignored.
	initLine = lazy(`^NVRM: GPU (?:at )?(?:PCI:)?` + pciForm + `:? RmInitAdapter failed!`)
	// rm_perform_version_check (src/nvidia/arch/nvalloc/unix/src/osapi.c).
	mismatchLine = lazy(`^NVRM: API mismatch: the client `)
	// NVSWITCH_PRINT_SXID (src/common/nvswitch/kernel/inc/common_nvswitch.h): "nvidia-nvswitch0:
	// SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32 egress …".
	sxidLine = lazy(`^nvidia-nvswitch\d{1,3}: SXid \(PCI:` + pciForm + `\): (\d{1,6})(?:,|$) *(.*)`)
)

// lazy compiles a pattern when it is first used: a manager without GPUs and the gate of each engine
// never use one.
func lazy(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// kernelStarts are the beginnings of all those forms, for Grep.
var kernelStarts = []string{`^NVRM: `, `^nvidia-nvswitch\d{1,3}: SXid \(`}

// xidProcess is the part of the detail that names a process. The pid is '<unknown>' if the driver
// does not know it. The process chooses its own name, so it may hold anything; a comma ends it.
var xidProcess = lazy(`^pid=(?:'?<unknown>'?|(\d{1,10}))(?:, ?name=[^,]*)?(?:,|$)\s*(.*)`)

// Kernel classifies a record of the kernel's log. ok is false for one that is not about a GPU's
// health.
func Kernel(line string) (v Verdict, ok bool) {
	if m := xidLine().FindStringSubmatch(line); m != nil {
		return xidVerdict(m)
	}
	if m := sxidLine().FindStringSubmatch(line); m != nil {
		return sxidVerdict(m), true
	}
	if mismatchLine().MatchString(line) {
		return rowMismatch.verdict("a program's NVIDIA library and the kernel module have different versions"), true
	}
	for _, form := range []struct {
		pattern func() *regexp.Regexp
		row     row
		text    string
	}{
		{offBusLine, rowOffBus, "the GPU has fallen off the bus"},
		{neverUpLine, rowOffBus, "the GPU has fallen off the bus"},
		{initLine, rowInit, "the driver could not initialise the GPU"},
	} {
		if m := form.pattern().FindStringSubmatch(line); m != nil {
			v = form.row.verdict(form.text)
			v.PCI, ok = Address(m[1])
			return v, ok
		}
	}
	return Verdict{}, false
}

func xidVerdict(m []string) (Verdict, bool) {
	pci, ok := Address(m[1])
	if !ok {
		return Verdict{}, false
	}
	xid, err := strconv.Atoi(m[4])
	if err != nil {
		return Verdict{}, false
	}
	detail, pid := m[5], 0
	if p := xidProcess().FindStringSubmatch(detail); p != nil {
		pid, _ = strconv.Atoi(p[1]) // 0: unknown
		detail = p[2]
	}
	v := classifyXid(SourceKernel, xid, clip(detail)).in(number(m[2]), number(m[3]))
	v.PCI, v.PID = pci, pid
	return v, true
}

func sxidVerdict(m []string) Verdict {
	r := rowSXid
	if strings.HasPrefix(m[3], "Fatal") {
		r = rowSXidFatal
	}
	v := r.verdict("SXid " + m[2] + " of an NVSwitch (" + clip(m[3]) + ")")
	v.PCI, _ = Address(m[1]) // the switch's, not a GPU's
	return v
}

var address = lazy(`^(?:([0-9a-f]{1,8}):)?([0-9a-f]{2}):([0-9a-f]{2})(?:\.([0-7]))?$`)

// Address normalises a PCI address to the form of nvml.Device.PCI: a domain of eight digits, lower
// case, with a function. The kernel's log has "0000:65:00", lspci "65:00.0".
func Address(s string) (string, bool) {
	m := address().FindStringSubmatch(strings.ToLower(strings.TrimRight(s, ":.")))
	if m == nil {
		return "", false
	}
	function := m[4]
	if function == "" {
		function = "0"
	}
	return strings.Repeat("0", 8-len(m[1])) + m[1] + ":" + m[2] + ":" + m[3] + "." + function, true
}

func number(s string) *int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return nil
	}
	return &n
}

// detailLimit bounds the part of a line that goes into a Text, in bytes.
const detailLimit = 160

// clip makes a line's detail usable in a Text: bounded, one line, valid UTF-8.
func clip(s string) string {
	s = strings.TrimRight(strings.TrimSpace(s), ".")
	if len(s) > detailLimit {
		s = s[:detailLimit] + "…"
	}
	return strings.ToValidUTF8(strings.Map(printable, s), "")
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}
