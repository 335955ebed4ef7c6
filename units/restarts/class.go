package restarts

import "github.com/pool-managerd/pool-managerd/registry"

// Class is the kind of a failure, for the backoff and the advice. It is a closed list, so that it
// can be a metric's label.
type Class string

// The classes.
const (
	Crash   Class = "crash"    // it exited, or a signal ended it
	OOM     Class = "oom"      // the host's memory or the cgroup's was used up
	CUDAOOM Class = "cuda_oom" // a GPU's memory was used up
	CUDA    Class = "cuda"     // an error of CUDA
	Driver  Class = "driver"   // the driver or the GPU has a fault
	Memory  Class = "memory"   // too little was free for a start
	Load    Class = "load"     // the load stalled
	Launch  Class = "start"    // it ended before it was ready
	Halt    Class = "stop"     // it did not end by itself when it was stopped
	Health  Class = "health"   // it ran and did not answer
	Model   Class = "model"    // the model or the engine was not available
	Config  Class = "config"   // the configuration is not usable
	Unknown Class = "unknown"  // not known, or not the end of a run
)

// Classes returns every class that the end of a run can have.
func Classes() []Class {
	return []Class{Crash, OOM, CUDAOOM, CUDA, Driver, Memory, Load, Launch, Halt, Health, Model, Config}
}

// classes has the class of each code.
func classes() map[registry.Code]Class {
	return map[registry.Code]Class{
		registry.CodeEngineCrashed:      Crash,
		registry.CodeEngineExited:       Crash,
		registry.CodeEngineOOM:          OOM,
		registry.CodeCUDAOOM:            CUDAOOM,
		registry.CodeCUDAError:          CUDA,
		registry.CodeDriverError:        Driver,
		registry.CodeGPUUnavailable:     Driver,
		registry.CodeInsufficientVRAM:   Memory,
		registry.CodeInsufficientRAM:    Memory,
		registry.CodeEngineStartFailed:  Launch,
		registry.CodePortInUse:          Launch,
		registry.CodeEngineStartTimeout: Load,
		registry.CodeEngineStopTimeout:  Halt,
		registry.CodeHealthFailed:       Health,
		registry.CodeModelNotFound:      Model,
		registry.CodeDigestMismatch:     Model,
		registry.CodeProvisionFailed:    Model,
		registry.CodeConfigInvalid:      Config,
		registry.CodePolicyDenied:       Config,
		registry.CodeDeviceMaskInvalid:  Config,

		// No run ends with one of these: they are of requests, and of the manager's own actions.
		registry.CodeDrainTimeout:     Unknown,
		registry.CodeBreakerOpen:      Unknown,
		registry.CodeInvalidParams:    Unknown,
		registry.CodePoolNotFound:     Unknown,
		registry.CodePoolExists:       Unknown,
		registry.CodePoolFromFile:     Unknown,
		registry.CodeReloadInProgress: Unknown,
		registry.CodeReloadCancelled:  Unknown,
		registry.CodeStateNotSaved:    Unknown,
		registry.CodeStateTooLarge:    Unknown,
		registry.CodeUnitFileMissing:  Unknown,
		registry.CodeBenchRefused:     Unknown,
		registry.CodeBenchUnsupported: Unknown,
		registry.CodeBenchFailed:      Unknown,

		registry.CodeFleetNotConfigured: Unknown, // of other hosts
		registry.CodeFleetUnavailable:   Unknown,
	}
}

// ClassOf returns the class of a failure's code; Unknown for one that is not in the list.
func ClassOf(c registry.Code) Class {
	if class, ok := classes()[c]; ok {
		return class
	}
	return Unknown
}

// slow reports whether the class waits longer: a driver needs time to recover and to release
// memory.
func (c Class) slow() bool { return c == CUDA || c == Driver }

// counted is the class under which the breaker counts failures of c. Whether an engine that ends by
// itself was ready before may depend on milliseconds.
func (c Class) counted() Class {
	if c == Launch {
		return Crash
	}
	return c
}

// ByItself reports whether the process ended by itself, for a reason that only its log may show.
func (c Class) ByItself() bool { return c == Crash || c == Launch }

// Advice is what to do about failures of the class, a sentence for an operator.
func (c Class) Advice() string {
	switch c {
	case Crash:
		return "The engine ends by itself: see the last lines of its log before each end, or try another version."
	case OOM:
		return "The engine runs out of host memory: lower ctx, slots or the size of the model, or raise " +
			"limits.memory_max."
	case CUDAOOM:
		return "The engine runs out of GPU memory: lower ctx, slots or the layers on the GPU, or use a " +
			"smaller quantization; `poolctl fit MODEL` shows what fits."
	case Memory:
		return "Too little memory is free: lower ctx or slots, stop another pool, or give this one another GPU; " +
			"`poolctl fit MODEL` shows what fits."
	case CUDA:
		return "CUDA reports errors: see `poolctl devices`, and whether the engine was built for this GPU and driver."
	case Driver:
		return "The GPU or its driver has a fault: see `poolctl devices` and the kernel's log; a reset of the GPU or " +
			"a reboot may be needed."
	case Load:
		return "The model's load makes no progress: see the engine's log and the model's disk; raise " +
			"health.start_timeout if the load is only slow."
	case Launch:
		return "The engine ends before it is ready: see its log for a rejected flag, model or port."
	case Health:
		return "The engine runs but does not answer: see its log, lower slots, or raise health.timeout if it is only " +
			"slow."
	case Halt:
		return "The engine does not stop on request: see its log for requests that never finish."
	case Model:
		return "The model or the engine is not available: check its path, its digest and the free disk space."
	case Config:
		return "The pool file is not usable: correct it and run `poolctl check`."
	}
	return "The cause is unknown: see the engine's log."
}
