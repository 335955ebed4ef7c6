package classify

import (
	"regexp"
	"strconv"
	"strings"
)

// xidLine is what the driver prints (krcReportXid in NVIDIA's open kernel modules,
// src/nvidia/src/kernel/gpu/rc/kernel_rc.c):
//
//	NVRM: Xid (PCI:%04x:%02x:%02x GPU-I:%02u GPU-CI:%02u): %d, pid=%s, name=%s, %s
//
// without the MIG numbers on a whole GPU, and without pid and name in some places of the driver.
// Drivers before 300 leave out "PCI:".
var xidLine = regexp.MustCompile(`NVRM: Xid \((?:PCI:)?([0-9A-Fa-f:.]+)(?: GPU-I:(\d{1,4}))?` +
	`(?: GPU-CI:(\d{1,4}))?\): (\d{1,5})(?:,|$)\s*(.*)`)

// xidProcess is the part of the detail that names a process. The pid is '<unknown>' if the driver
// does not know it. The process chooses its own name, so it may hold anything; a comma ends it.
var xidProcess = regexp.MustCompile(`^pid=(?:'?<unknown>'?|(\d{1,10}))(?:, ?name=[^,]*)?(?:,|$)\s*(.*)`)

var (
	offBusLine   = regexp.MustCompile(`NVRM: .*has fallen off the bus`)
	initLine     = regexp.MustCompile(`NVRM: .*RmInitAdapter failed!`)
	gpuAddress   = regexp.MustCompile(`GPU (?:at )?(?:PCI:)?([0-9A-Fa-f]+:[0-9A-Fa-f:.]+)`)
	mismatchLine = regexp.MustCompile(`NVRM: API mismatch`)
	// "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32 egress …" (NVIDIA's
	// fabric manager guide, "SXid errors")
	sxidLine = regexp.MustCompile(`SXid \((?:PCI:)?([0-9A-Fa-f:.]+)\): (\d{1,6})(?:,|$)\s*(.*)`)
)

// Kernel classifies a line of the kernel's log. ok is false for a line that is not about a GPU's
// health.
func Kernel(line string) (v Verdict, ok bool) {
	if m := xidLine.FindStringSubmatch(line); m != nil {
		return xidVerdict(m)
	}
	if m := sxidLine.FindStringSubmatch(line); m != nil {
		return sxidVerdict(m), true
	}
	switch {
	case offBusLine.MatchString(line):
		v = rowOffBus.verdict("a GPU has fallen off the bus")
	case initLine.MatchString(line):
		v = rowInit.verdict("the driver could not initialise the GPU")
	case mismatchLine.MatchString(line):
		return rowMismatch.verdict("a program's NVIDIA library and the kernel module have different versions"), true
	default:
		return Verdict{}, false
	}
	if m := gpuAddress.FindStringSubmatch(line); m != nil {
		v.PCI, _ = Address(m[1])
	}
	return v, true
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
	if p := xidProcess.FindStringSubmatch(detail); p != nil {
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

var address = regexp.MustCompile(`^(?:([0-9a-f]{1,8}):)?([0-9a-f]{2}):([0-9a-f]{2})(?:\.([0-7]))?$`)

// Address normalises a PCI address to the form of nvml.Device.PCI: a domain of eight digits, lower
// case, with a function. The kernel's log has "0000:65:00", lspci "65:00.0".
func Address(s string) (string, bool) {
	m := address.FindStringSubmatch(strings.ToLower(strings.TrimRight(s, ":.")))
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
