package classify

// row is a row of the table, except for Xids, which are in xid.go.
type row struct {
	source Source
	kind   string
	when   string // in words, for the printed table
	class  Class
	scope  Scope
	action Action
	code   string
	hint   string
}

const (
	// nvidia-smi refuses while any program, such as pool-gpu, has the GPU open.
	hintReset = "reset the GPU (stop pool-gpu.socket, nvidia-smi --gpu-reset -i UUID, start it again: see " +
		"pool-gpu(8)), or reboot the host"
	hintReboot = "reboot the host; if it happens again, check power, riser and seating of the GPU, then replace it"
)

// The rows. NVML's names are those of nvml.h.
var (
	rowECC = row{SourceEvent, "ecc-double-bit", "nvmlEventTypeDoubleBitEccError", ClassReset, ScopeGPU, ActionReset,
		CodeUnavailable,
		hintReset + "; if uncorrectable errors recur, replace the GPU"}
	rowUnavailable = row{SourceEvent, "gpu-unavailable", "nvmlEventTypeGpuUnavailableError", ClassReset, ScopeGPU,
		ActionReset, CodeUnavailable, hintReset}
	rowMissed = row{SourceEvent, "missed",
		"the wait for events failed; the kernel's log and the next sample show what was missed",
		ClassLog, ScopeHost, ActionNone, "", "see the log of pool-gpu.service"}
	rowUnknownEvent = row{SourceEvent, "unknown", "an event of an unknown kind", ClassDegraded,
		ScopeGPU, ActionWatch, CodeDriver,
		"see the kernel's log: journalctl -k -g '^NVRM'"}

	rowRecoveryNone = row{SourceDevice, "recovery-none", "recovery action 0, none", ClassLog, ScopeGPU, ActionNone,
		"", ""}
	rowRecoveryReset = row{SourceDevice, "recovery-reset", "recovery action 1, reset", ClassReset, ScopeGPU,
		ActionReset, CodeUnavailable, hintReset}
	rowRecoveryReboot = row{SourceDevice, "recovery-reboot", "recovery action 2, reboot", ClassHost, ScopeHost,
		ActionReboot, CodeUnavailable, hintReboot}
	rowRecoveryP2P = row{SourceDevice, "recovery-drain-p2p", "recovery action 3, drain P2P", ClassDegraded, ScopeGPU,
		ActionWatch, CodeDriver,
		"stop the engines that span several GPUs over NVLink, then reset the GPU"}
	rowRecoveryDrain = row{SourceDevice, "recovery-drain-reset", "recovery action 4, drain and reset", ClassReset,
		ScopeGPU, ActionReset, CodeUnavailable, hintReset}

	rowRecoveryOther = row{SourceDevice, "recovery-other", "another recovery action", ClassDegraded, ScopeGPU,
		ActionWatch, CodeDriver,
		"see `GPU Recovery Action` in nvidia-smi -q"}

	rowLost = row{SourceDevice, "lost", "NVML returns GPU_IS_LOST (15)", ClassReset, ScopeGPU, ActionReboot,
		CodeUnavailable, hintReboot}
	rowResetRequired = row{SourceDevice, "reset-required", "NVML returns RESET_REQUIRED (16)", ClassReset, ScopeGPU,
		ActionReset, CodeUnavailable, hintReset}
	rowNoAnswer = row{SourceDevice, "no-answer", "NVML returns another error for the whole GPU", ClassDegraded,
		ScopeGPU, ActionWatch, CodeDriver,
		"see nvidia-smi -q and the kernel's log"}
	rowRemapFailed = row{SourceDevice, "row-remap-failed", "row remapping has failed", ClassDegraded, ScopeGPU,
		ActionReplace, CodeDriver,
		"replace the GPU: its memory has no spare rows left"}
	rowRemapPending = row{SourceDevice, "row-remap-pending", "row remapping is pending", ClassDegraded, ScopeGPU,
		ActionReset, CodeDriver,
		"reset the GPU when it is idle, so that the bad row is replaced"}

	// The kernel's log alone: of the one GPU that the line names, and only where NVML does not
	// answer for it (package health).
	rowOffBus = row{SourceKernel, "off-bus", "`has fallen off the bus`, without an Xid", ClassReset, ScopeGPU,
		ActionReboot, CodeUnavailable, hintReboot}
	rowInit = row{SourceKernel, "init-failed", "`RmInitAdapter failed!`", ClassReset, ScopeGPU, ActionReset,
		CodeUnavailable,
		"the driver could not initialise the GPU: see the lines before this one in the kernel's log, reset the GPU " +
			"or reboot the host"}
	// Any program with an old library causes this line, a container for example, so it disables no
	// GPU.
	rowMismatch = row{SourceKernel, "api-mismatch", "`NVRM: API mismatch`", ClassLog, ScopeHost, ActionDriver,
		CodeDriver,
		"the NVIDIA library of a program and the kernel module have different versions; after a driver upgrade load " +
			"the new module, or reboot"}
	// It names no GPU; what it does to the GPUs behind the switch, NVML reports of each.
	rowSXidFatal = row{SourceKernel, "sxid-fatal", "`SXid (`, with `Fatal`", ClassLog, ScopeHost, ActionReboot,
		CodeUnavailable,
		"an NVSwitch has failed: reset all GPUs and switches together, or reboot the host"}
	rowSXid = row{SourceKernel, "sxid", "`SXid (`, other", ClassLog, ScopeHost, ActionNone, CodeDriver,
		"see the log of the fabric manager"}
)
