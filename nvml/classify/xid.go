package classify

import (
	"strconv"
	"strings"
)

// xidRow classifies a group of Xids.
type xidRow struct {
	codes  []int
	class  Class
	scope  Scope
	action Action
	code   string
	hint   string
}

const (
	hintApplication = "the engine is restarted; if it happens again with this model, look for a fault of the " +
		"engine or of its CUDA version"
	hintNVLink = "see nvidia-smi nvlink --status and the log of the fabric manager"
)

// xidRows classify each Xid, after NVIDIA's Xid catalogue
// (docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html, table "Xids", column "Resolution
// Bucket (Immediate Action)"). A comment explains each deviation. A code that is in no row, because
// the catalogue calls it unused or gives it no bucket, is unknownXid.
var xidRows = []xidRow{
	{seq("8 11 13 25 31-32 39-41 60 68-72 75-77 80 82-86 88-89 96-105 126-135 139"),
		ClassApplication, ScopeProcess, ActionRestart, CodeCUDA, hintApplication},
	{seq("14 37-38 43-44 66-67 92-93 106-108 121 137 141 152-153 157 160-161"),
		ClassLog, ScopeGPU, ActionNone, "", ""},
	// 45 (WORKFLOW_XID_45) is the clean-up after another error, which was reported before it and is
	// classified by itself.
	{seq("45 171-172"), ClassLog, ScopeProcess, ActionNone, CodeCUDA, "see the Xid that came with this one: it names the cause"},
	// The catalogues disagree on 94 (RESTART_APP here, elsewhere a reset) and 109 (RESET_GPU here,
	// elsewhere the application): the engine is dead, the GPU may be healthy. The driver's own
	// advice decides.
	{seq("94 109"), ClassDegraded, ScopeGPU, ActionAdvice, CodeCUDA,
		"the engine is restarted; the GPU is disabled only if the driver then asks for a reset (recovery action)"},
	// They also disagree on 63 (IGNORE here): a bad row will be replaced at the next reset. An
	// engine that lost data got 94 or 95.
	{seq("63"), ClassDegraded, ScopeGPU, ActionWatch, CodeDriver, "reset the GPU when it is idle, so that the bad row is replaced"},
	{seq("46 62 64 95 110 119-120 136 140 143 155-156 158"), ClassReset, ScopeGPU, ActionReset, CodeUnavailable, hintReset},
	// WORKFLOW_XID_48: with 94 the error was contained, with 95 or alone it was not. Since this is
	// unknown, the GPU is disabled; if the driver reports its recovery action, "none" enables it
	// again within seconds. 171 and 172 come with it and only name the memory.
	{seq("48"), ClassReset, ScopeGPU, ActionReset, CodeUnavailable, hintReset + "; uncorrectable errors that come back ask for a new GPU"},
	{seq("79"), ClassHost, ScopeHost, ActionReboot, CodeUnavailable, hintReboot},
	// WORKFLOW_NVLINK_ERR and WORKFLOW_NVLINK5_ERR: anything from a lost link of one engine to a
	// reset, depending on a detail that Xid 154 sums up.
	{seq("74 144-150"), ClassDegraded, ScopeGPU, ActionAdvice, CodeDriver, hintNVLink},
	// CHECK_MECHANICALS, and UPDATE_SWFW below
	{seq("54"), ClassDegraded, ScopeGPU, ActionWatch, CodeDriver, "the auxiliary power of the GPU is missing: check its cables"},
	{seq("78"), ClassDegraded, ScopeGPU, ActionDriver, CodeDriver, "update the driver, or the vGPU software"},
	// 154 reports a change of the recovery action; its text names it (see recoveryOf).
	// Without the text the next sample shows it.
	{seq("154"), ClassDegraded, ScopeGPU, ActionWatch, CodeDriver, "see the driver's recovery action: nvidia-smi -q"},
}

// unknownXid classifies a code that the table does not have, of a newer driver for example.
var unknownXid = xidRow{nil, ClassDegraded, ScopeGPU, ActionWatch, CodeDriver,
	"look the Xid up at docs.nvidia.com/deploy/xid-errors"}

// xidNames describe the codes in a few words; the kernel's line has the details.
var xidNames = map[int]string{
	8: "the GPU stopped processing", 13: "an exception of the graphics engine", 31: "a memory page fault", 32: "a corrupted push buffer",
	38: "a firmware error", 43: "the GPU stopped processing for a process", 45: "a channel was removed after an earlier error",
	46: "the GPU stopped", 48: "an uncorrectable double bit ECC error", 54: "auxiliary power is missing", 61: "a fault of the GPU's microcontroller",
	62: "the GPU's microcontroller halted", 63: "a memory row is to be remapped", 64: "a memory row could not be remapped",
	68: "an exception of the video decoder", 69: "an exception of the graphics engine class", 74: "an NVLink error",
	78: "a vGPU could not start", 79: "the GPU has fallen off the bus", 92: "a high rate of single bit ECC errors", 94: "a contained memory error",
	95: "an uncontained memory error", 109: "a context switch timed out", 110: "a security fault",
	119: "the GPU's system processor (GSP) timed out", 120: "a fault of the GPU's system processor (GSP)", 121: "an error of the chip-to-chip link",
	136: "an NVLink could not be trained", 137: "an NVLink access without permission", 140: "an unrecovered ECC error", 143: "the GPU could not start",
	108: "an NVLink address was not translated", 144: "an NVLink error", 145: "an NVLink error", 146: "an NVLink error", 147: "an NVLink error", 148: "an NVLink error", 149: "an NVLink error",
	150: "an NVLink error", 151: "a key could not be rotated", 155: "an NVLink error", 156: "a resource of the GPU was retired",
	157: "a resource of the GPU could not be retired", 160: "a channel was retired", 161: "a channel could not be retired",
	167: "a fatal timeout on the PCIe bus", 171: "an uncorrectable error in DRAM", 172: "an uncorrectable error in SRAM", 154: "the driver's recovery action has changed", 158: "a fatal timeout in the GPU",
}

// classifyXid returns the verdict of an Xid; detail is the rest of the kernel's line, or empty.
func classifyXid(source Source, xid int, detail string) Verdict {
	if r, ok := recoveryOf(xid, detail); ok {
		v := r.verdict(xidText(xid, detail))
		v.Source, v.Xid = source, xid
		return v
	}
	r := unknownXid
	for _, c := range xidRows {
		if contains(c.codes, xid) {
			r = c
			break
		}
	}
	return Verdict{Source: source, Class: r.class, Scope: r.scope, Action: r.action, Code: r.code, Kind: "xid",
		Xid:  xid,
		Text: xidText(xid, detail), Hint: r.hint}
}

func xidText(xid int, detail string) string {
	text := "Xid " + strconv.Itoa(xid)
	if name := xidNames[xid]; name != "" {
		text += ", " + name
	}
	if detail != "" {
		text += " (" + detail + ")"
	}
	return text
}

// recoveryOf reads the new action from the text of Xid 154: "GPU recovery action changed from 0x0
// (None) to 0x1 (GPU Reset Required)".
func recoveryOf(xid int, detail string) (row, bool) {
	if xid != 154 {
		return row{}, false
	}
	// The name of a process may come before it, and hold the same words.
	const change = "GPU recovery action changed from 0x"
	_, to, ok := strings.Cut(detail[max(strings.LastIndex(detail, change), 0):], " to 0x")
	if !ok || to == "" {
		return row{}, false
	}
	n, err := strconv.ParseUint(to[:1], 16, 8)
	if err != nil || len(to) > 1 && to[1] != ' ' {
		return row{}, false
	}
	return recoveryRow(int(n))
}

// seq expands "8 11 31-32". It is only called with constants; a test of the table finds what does
// not parse.
func seq(s string) []int {
	var codes []int
	for _, f := range strings.Fields(s) {
		first, last, isRange := strings.Cut(f, "-")
		from, _ := strconv.Atoi(first)
		to := from
		if isRange {
			to, _ = strconv.Atoi(last)
		}
		for n := from; n <= to; n++ {
			codes = append(codes, n)
		}
	}
	return codes
}

func contains(codes []int, n int) bool {
	for _, c := range codes {
		if c == n {
			return true
		}
	}
	return false
}
