// Package classify classifies reports about GPUs: driver events, lines of the kernel's and the
// engines' logs, and the facts of a device itself. One table maps a source and its code to a class,
// a scope, an action and a hint; the reference page of GPU errors is generated from it.
//
// It owns the table and the parsers. It is pure: it reads no log, keeps no state (package health
// does) and knows no pool.
package classify

// Class is the severity of a verdict.
type Class string

// The classes, from the least to the most severe.
const (
	// ClassLog: nothing to do. With a Code it explains a failure that is visible elsewhere, such as
	// the end of an engine.
	ClassLog Class = "log"
	// ClassApplication: the process that caused it has ended or is unusable; a new one may use the
	// GPU at once.
	ClassApplication Class = "application"
	// ClassDegraded: the GPU works, with a fault.
	ClassDegraded Class = "degraded"
	// ClassReset: no engine may use the GPU until it was reset or answers again.
	ClassReset Class = "reset"
	// ClassHost: the host must be repaired, usually by a reboot; no engine may use any of its GPUs.
	ClassHost Class = "host"
)

// Rank orders the classes; an unknown class ranks as ClassLog.
func (c Class) Rank() int {
	switch c {
	case ClassApplication:
		return 1
	case ClassDegraded:
		return 2
	case ClassReset:
		return 3
	case ClassHost:
		return 4
	}
	return 0
}

// Scope is the part of the host that a verdict is about.
type Scope string

// The scopes.
const (
	ScopeProcess   Scope = "process"   // the engine that logged it, or the process PID
	ScopePartition Scope = "partition" // the MIG instance of GI and CI
	ScopeGPU       Scope = "gpu"
	ScopeHost      Scope = "host"
)

// Action is what the manager does, or what the operator must do.
type Action string

// The actions.
const (
	ActionNone    Action = "none"
	ActionRestart Action = "restart-engine"
	ActionWatch   Action = "watch" // continue, and watch the GPU
	// restart the engine and continue; the driver's recovery action (field 230) decides on the GPU
	ActionAdvice  Action = "restart-advice"
	ActionReset   Action = "reset-gpu"
	ActionReplace Action = "replace-gpu"
	ActionDriver  Action = "update-driver"
	ActionReboot  Action = "reboot-host"
)

// RestartsEngine reports whether the engines in the verdict's scope are unusable as they run.
func (a Action) RestartsEngine() bool { return a == ActionRestart || a == ActionAdvice }

// Source is where a report came from.
type Source string

// The sources.
const (
	SourceEvent  Source = "nvml"   // a driver event
	SourceKernel Source = "kernel" // a line of the kernel's log
	SourceEngine Source = "engine" // a line of an engine's log
	SourceDevice Source = "device" // the state of the device in a sample
)

// The error codes of verdicts, named as in the registry.
const (
	CodeUnavailable = "GPU_UNAVAILABLE"
	CodeDriver      = "DRIVER_ERROR"
	CodeCUDA        = "CUDA_ERROR"
	CodeCUDAMemory  = "CUDA_OOM"
)

// Verdict is what one event, line or device means.
type Verdict struct {
	Source Source
	Class  Class
	Scope  Scope
	Action Action
	Code   string // "" only for ClassLog
	Kind   string // a label with few values: see the table
	Xid    int    // 0: none
	Device string // UUID of the physical GPU; empty if unknown, or for all GPUs
	PCI    string // as nvml.Device.PCI; the kernel's log has it instead of the UUID
	GI, CI *int   // the MIG instance; nil: the whole GPU
	PID    int    // of the process that caused it, in the host's numbers; 0: unknown
	Text   string // one plain clause: what happened
	Hint   string // what to do
}

// Hearsay reports whether the verdict comes from text alone that a user of the host may have
// brought into the kernel's log.
func (v Verdict) Hearsay() bool { return v.Source == SourceKernel }

// OfOneGPU restricts a verdict to the GPU that it names.
func (v Verdict) OfOneGPU() Verdict {
	if v.Class == ClassHost {
		v.Class = ClassReset
	}
	if v.Scope == ScopeHost {
		v.Scope = ScopeGPU
	}
	return v
}

// verdict returns the verdict of a row.
func (r row) verdict(text string) Verdict {
	return Verdict{Source: r.source, Class: r.class, Scope: r.scope, Action: r.action, Code: r.code, Kind: r.kind,
		Text: text, Hint: r.hint}
}

// in narrows a verdict to a MIG instance. A reset or worse always concerns the whole GPU.
func (v Verdict) in(gi, ci *int) Verdict {
	v.GI, v.CI = gi, ci
	if gi != nil && v.Scope == ScopeGPU && v.Class.Rank() <= ClassDegraded.Rank() {
		v.Scope = ScopePartition
	}
	return v
}
