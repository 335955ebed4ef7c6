// Package classify classifies reports about GPUs: driver events, lines of the kernel's and the
// engines' logs, and the facts of a device itself. One table leads from a source and its code to a
// class, a scope, an action and a hint; the reference page of GPU errors is printed from it.
//
// It owns the table and the parsers. It is pure: it reads no log, keeps no state (package health
// does) and knows no pool.
package classify

// Class is what must happen, from the least to the most.
type Class string

// The classes.
const (
	// ClassLog: nothing must be done. Where it has a Code it explains a failure that shows itself,
	// an engine's end for example.
	ClassLog Class = "log"
	// ClassApplication: the process that caused it is useless or ended; a new one may use the GPU
	// at once.
	ClassApplication Class = "application"
	// ClassDegraded: the GPU goes on working, and something is wrong with it.
	ClassDegraded Class = "degraded"
	// ClassReset: no engine may use the GPU until it was reset, or answers again.
	ClassReset Class = "reset"
	// ClassHost: the host must be fixed, by a reboot as a rule; no engine may use any of its GPUs.
	ClassHost Class = "host"
)

// Rank orders the classes; an unknown one is as harmless as ClassLog.
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

// Scope is how much of the host a verdict holds for.
type Scope string

// The scopes.
const (
	ScopeProcess   Scope = "process"   // the engine that said it, or that PID names
	ScopePartition Scope = "partition" // the MIG instance of GI and CI
	ScopeGPU       Scope = "gpu"
	ScopeHost      Scope = "host"
)

// Action is what is done, or asked of the operator.
type Action string

// The actions.
const (
	ActionNone    Action = "none"
	ActionRestart Action = "restart-engine"
	ActionWatch   Action = "watch" // go on, and look at the GPU
	// restart the engine, go on, and let the driver's recovery action (field 230) decide
	ActionAdvice  Action = "restart-advice"
	ActionReset   Action = "reset-gpu"
	ActionReplace Action = "replace-gpu"
	ActionDriver  Action = "update-driver"
	ActionReboot  Action = "reboot-host"
)

// RestartsEngine reports whether the engines in the verdict's scope are unusable as they run.
func (a Action) RestartsEngine() bool { return a == ActionRestart || a == ActionAdvice }

// Source is who said it.
type Source string

// The sources.
const (
	SourceEvent  Source = "nvml"   // a driver event
	SourceKernel Source = "kernel" // a line of the kernel's log
	SourceEngine Source = "engine" // a line of an engine's log
	SourceDevice Source = "device" // the facts of the device, at a sample
)

// The codes that verdicts carry; the registry's names.
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
	Kind   string // a label of few values: see the table
	Xid    int    // 0: none
	Device string // UUID of the physical GPU; empty where the source does not tell, or it is all of them
	PCI    string // as nvml.Device.PCI; the kernel's log has it instead of the UUID
	GI, CI *int   // the MIG instance; nil: the whole GPU
	PID    int    // of the process that caused it, in the host's numbers; 0: unknown
	Text   string // one plain clause: what happened
	Hint   string // what to do
}

// verdict makes one from its row.
func (r row) verdict(text string) Verdict {
	return Verdict{Source: r.source, Class: r.class, Scope: r.scope, Action: r.action, Code: r.code, Kind: r.kind,
		Text: text, Hint: r.hint}
}

// in narrows a verdict to a MIG instance. A reset, and worse, is of the whole GPU whichever
// instance it was seen in.
func (v Verdict) in(gi, ci *int) Verdict {
	v.GI, v.CI = gi, ci
	if gi != nil && v.Scope == ScopeGPU && v.Class.Rank() <= ClassDegraded.Rank() {
		v.Scope = ScopePartition
	}
	return v
}
