// Package nvml describes this host's NVIDIA GPUs as plain data: devices, MIG partitions, memory,
// processes and health events, and the interface by which the daemon follows them.
//
// NVML itself runs in a separate process, pool-gpu: a faulty driver hangs in calls that nothing can
// interrupt, and a missing symbol ends the process. This package owns the types and the daemon's
// side. It must not link NVML, and knows neither pools nor systemd.
package nvml

import "time"

// Snapshot is everything that the helper knew at one moment. A value from a Source is shared: do
// not modify it.
type Snapshot struct {
	Taken time.Time `json:"taken"`
	// Session changes after the driver was unavailable and with each new helper process: a fault of
	// an earlier session may be over.
	Session string   `json:"session,omitempty"`
	Driver  Driver   `json:"driver"`
	Devices []Device `json:"devices,omitempty"` // by Index
}

// Driver is the NVIDIA driver of this host.
type Driver struct {
	Version string   `json:"version,omitempty"` // nvmlSystemGetDriverVersion, "550.54.14"
	CUDA    string   `json:"cuda,omitempty"`    // the newest CUDA version that it supports, "12.4"
	Library string   `json:"library,omitempty"` // nvmlSystemGetNVMLVersion
	Problem *Problem `json:"problem,omitempty"` // nil: it works
	// Missing are the NVML functions that this library lacks; what they would report is absent.
	Missing []string `json:"missing,omitempty"`
	// NodeFaults are the device nodes that engines need and could not use. They are no fault of the
	// driver's: what has them open goes on.
	NodeFaults []NodeFault `json:"node_faults,omitempty"`
}

// The device nodes that every CUDA program opens.
const (
	ControlNode = "/dev/nvidiactl"
	MemoryNode  = "/dev/nvidia-uvm" // unified memory; the driver does not make it at boot by itself
)

// NodeFault is a device node that does not exist, or that engines may not open.
type NodeFault struct {
	Path    string `json:"path"`
	Missing bool   `json:"missing,omitempty"`
	Mode    uint32 `json:"mode,omitempty"` // its permissions where it is not missing, 0600
}

// ProblemKind is why a driver, or one device, cannot be read.
type ProblemKind string

// The kinds. Codes are those of nvmlReturn_t.
const (
	ProblemNoLibrary ProblemKind = "no-library" // 12: no libnvidia-ml.so.1, so no driver is installed
	ProblemNoDriver  ProblemKind = "no-driver"  // 9: the kernel module is not loaded
	// 18, 54: the library and the kernel module have different versions
	ProblemMismatch     ProblemKind = "mismatch"
	ProblemNoPermission ProblemKind = "no-permission"  // 4
	ProblemLost         ProblemKind = "lost"           // 15: the GPU has fallen off the bus
	ProblemReset        ProblemKind = "reset-required" // 16
	ProblemHung         ProblemKind = "hung"           // a call has not returned for a long time
	ProblemHelper       ProblemKind = "no-helper"      // pool-gpu itself does not answer
	ProblemOther        ProblemKind = "error"          // any other return code
)

// Problem is why facts are missing: Kind is for programs, Text for people.
type Problem struct {
	Kind ProblemKind `json:"kind"`
	Code int         `json:"code,omitempty"` // nvmlReturn_t; 0: none
	Call string      `json:"call,omitempty"` // the NVML call that failed or hangs
	Text string      `json:"text"`           // one clause without a full stop
}

// Error implements error.
func (p *Problem) Error() string { return p.Text }

// Device is one physical GPU. What it does not support (NVML's NOT_SUPPORTED) is nil or empty,
// never 0.
type Device struct {
	UUID  string `json:"uuid"`            // "GPU-…", full
	Index int    `json:"index"`           // NVML's number, which may change at a reboot
	PCI   string `json:"pci"`             // "00000000:65:00.0", the domain eight digits wide, lower case
	Minor *int   `json:"minor,omitempty"` // of /dev/nvidia<minor>
	Name  string `json:"name,omitempty"`
	// Problem is set if this GPU does not answer; the other fields are then the last known ones, or
	// empty.
	Problem *Problem `json:"problem,omitempty"`

	ComputeCapability string   `json:"compute_capability,omitempty"` // "8.6"
	Memory            *Memory  `json:"memory,omitempty"`
	UtilizationPct    *int     `json:"utilization_percent,omitempty"`
	TemperatureC      *int     `json:"temperature_celsius,omitempty"`
	PowerState        *int     `json:"power_state,omitempty"` // 0 is the fastest (P0), 15 the slowest
	PowerMilliwatts   *int     `json:"power_milliwatts,omitempty"`
	ECC               *ECC     `json:"ecc,omitempty"`
	Remap             *Remap   `json:"row_remap,omitempty"`
	Recovery          Recovery `json:"recovery_action,omitempty"` // field 230; empty: unknown

	MIG        *bool       `json:"mig,omitempty"` // whether MIG mode is on; nil: the GPU has no MIG mode
	Partitions []Partition `json:"partitions,omitempty"`
	Processes  []Process   `json:"processes,omitempty"`
	// Listed reports that the driver lists the processes with a compute context; without it an
	// empty list means nothing.
	Listed bool `json:"processes_listed,omitempty"`
	// Nodes are the device files of this GPU alone, "/dev/nvidia0".
	Nodes []string `json:"nodes,omitempty"`
}

// Memory of a GPU or partition, in bytes. Used does not include Reserved if the driver reports
// both.
type Memory struct {
	Total    uint64  `json:"total_bytes"`
	Free     uint64  `json:"free_bytes"`
	Used     uint64  `json:"used_bytes"`
	Reserved *uint64 `json:"reserved_bytes,omitempty"` // nvmlDeviceGetMemoryInfo_v2
}

// ECC is the error correction of a GPU's memory, with the counters since the driver was loaded
// (volatile).
type ECC struct {
	Enabled       bool    `json:"enabled"`
	Corrected     *uint64 `json:"corrected,omitempty"`
	Uncorrectable *uint64 `json:"uncorrectable,omitempty"`
}

// Remap is the row remapping of nvmlDeviceGetRemappedRows.
type Remap struct {
	Corrected     int  `json:"corrected"`
	Uncorrectable int  `json:"uncorrectable"`
	Pending       bool `json:"pending"` // done at the next reset
	Failed        bool `json:"failed"`  // the GPU must be replaced
}

// Recovery is the action that the driver advises (NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, field 230).
type Recovery string

// The recovery actions, NVML_GPU_RECOVERY_ACTION_*.
const (
	RecoveryNone          Recovery = "none"
	RecoveryReset         Recovery = "reset"
	RecoveryReboot        Recovery = "reboot"
	RecoveryDrainP2P      Recovery = "drain-p2p"
	RecoveryDrainAndReset Recovery = "drain-and-reset"
)

// Partition is one MIG device.
type Partition struct {
	UUID      string    `json:"uuid"` // "MIG-…"
	GI        int       `json:"gi"`   // GPU instance id
	CI        int       `json:"ci"`   // compute instance id
	Profile   string    `json:"profile,omitempty"`
	Memory    *Memory   `json:"memory,omitempty"`
	Processes []Process `json:"processes,omitempty"`
	Listed    bool      `json:"processes_listed,omitempty"` // as of a Device
	// Nodes are the device files that it needs: its GPU's, and its own two below /dev/nvidia-caps.
	Nodes []string `json:"nodes,omitempty"`
}

// Legacy is the partition's name in the form that drivers before 470 use:
// "MIG-GPU-<uuid>/<gi>/<ci>".
func (p Partition) Legacy(parent string) string {
	return "MIG-" + parent + "/" + itoa(p.GI) + "/" + itoa(p.CI)
}

// Process is a process that uses memory of a GPU.
type Process struct {
	PID  int     `json:"pid"`
	Unit string  `json:"unit,omitempty"`       // the systemd unit of its control group; empty: none
	Used *uint64 `json:"used_bytes,omitempty"` // nil: unknown
}

// EventKind is what a driver event is about.
type EventKind string

// The kinds.
const (
	EventXid         EventKind = "xid"                     // nvmlEventTypeXidCriticalError
	EventECCDouble   EventKind = "ecc-double-bit"          // nvmlEventTypeDoubleBitEccError
	EventUnavailable EventKind = "gpu-unavailable"         // nvmlEventTypeGpuUnavailableError
	EventRecovery    EventKind = "recovery-action-changed" // nvmlEventTypeGpuRecoveryAction
	EventMissed      EventKind = "missed"                  // the waiter failed; events may have been missed
)

// Event is one event of the driver. NVML does not record events before the helper registers.
type Event struct {
	At     time.Time `json:"at"`
	Kind   EventKind `json:"kind"`
	Device string    `json:"device,omitempty"` // UUID of the physical GPU; empty: all of them
	GI     *int      `json:"gi,omitempty"`     // of the MIG instance; nil: the whole GPU, so every partition of it
	CI     *int      `json:"ci,omitempty"`
	Code   int       `json:"code,omitempty"` // the Xid, or the recovery action's number
	Text   string    `json:"text,omitempty"`
}
