package restarts

import "github.com/pool-managerd/pool-managerd/registry"

// Class is the kind of a failure, as the backoff and the advice need it. It is a closed list, so that it can be a metric's label.
type Class string

// The classes.
const (
	Crash   Class = "crash"    // it exited, or a signal ended it
	OOM     Class = "oom"      // the host's memory or the cgroup's was used up
	CUDAOOM Class = "cuda_oom" // a GPU's memory was used up
	CUDA    Class = "cuda"     // an error of CUDA
	Driver  Class = "driver"   // the driver or the GPU is not in order
	Memory  Class = "memory"   // too little was free for a start
	Load    Class = "load"     // the load stalled
	Launch  Class = "start"    // it ended before it was ready
	Halt    Class = "stop"     // it did not end by itself when it was stopped
	Health  Class = "health"   // it ran and did not answer
	Model   Class = "model"    // the model or the engine could not be had
	Config  Class = "config"   // what was written cannot run
	Unknown Class = "unknown"  // nobody knows, or it is no end of a run
)

// classes has the class of each code.
func classes() map[registry.Code]Class {
	return map[registry.Code]Class{
		registry.CodeEngineCrashed:      Crash,
		registry.CodeEngineOOM:          OOM,
		registry.CodeCUDAOOM:            CUDAOOM,
		registry.CodeCUDAError:          CUDA,
		registry.CodeDriverError:        Driver,
		registry.CodeGPUUnavailable:     Driver,
		registry.CodeInsufficientVRAM:   Memory,
		registry.CodeInsufficientRAM:    Memory,
		registry.CodeEngineStartFailed:  Launch,
		registry.CodeEngineStartTimeout: Load,
		registry.CodeEngineStopTimeout:  Halt,
		registry.CodeHealthFailed:       Health,
		registry.CodeModelNotFound:      Model,
		registry.CodeDigestMismatch:     Model,
		registry.CodeProvisionFailed:    Model,
		registry.CodeConfigInvalid:      Config,
		registry.CodePolicyDenied:       Config,
		registry.CodeDeviceMaskInvalid:  Config,

		// No run ends with one of these: they tell of requests, and of what the manager did itself.
		registry.CodeDrainTimeout:     Unknown,
		registry.CodeBreakerOpen:      Unknown,
		registry.CodeInvalidParams:    Unknown,
		registry.CodePoolNotFound:     Unknown,
		registry.CodeReloadInProgress: Unknown,
		registry.CodeReloadCancelled:  Unknown,
		registry.CodeStateNotSaved:    Unknown,
	}
}

// ClassOf returns the class of a failure's code; Unknown for one that is not in the list.
func ClassOf(c registry.Code) Class {
	if class, ok := classes()[c]; ok {
		return class
	}
	return Unknown
}

// slow reports whether the class waits longer: a driver needs time to recover and to give memory back.
func (c Class) slow() bool { return c == CUDA || c == Driver }

// counted is the class whose failures the breaker counts together with those of c. Whether an engine that
// ends by itself had come as far as ready is a matter of milliseconds.
func (c Class) counted() Class {
	if c == Launch {
		return Crash
	}
	return c
}

// Advice is what to do about failures of the class, a sentence for an operator.
func (c Class) Advice() string {
	switch c {
	case Crash:
		return "The engine ends by itself: see its log for the last lines before each end, and whether another version of it does better."
	case OOM:
		return "The engine needs more host memory than it has: lower ctx, slots or the model's size, or raise limits.memory_max."
	case CUDAOOM:
		return "The engine needs more GPU memory than there is: lower ctx, slots or the layers on the GPU, or take a smaller quantization; `poolctl fit MODEL` shows what fits."
	case Memory:
		return "Too little memory is free: lower ctx or slots, stop another pool, or give this one another GPU; `poolctl fit MODEL` shows what fits."
	case CUDA:
		return "CUDA reports errors: see `poolctl devices`, and whether the engine was built for this GPU and driver."
	case Driver:
		return "The GPU or its driver is not in order: see `poolctl devices` and the kernel's log; a reset of the GPU or a reboot may be needed."
	case Load:
		return "Loads make no progress: see the engine's log and the disk under the model; raise health.start_timeout if the load is only slow."
	case Launch:
		return "The engine ends before it is ready: see its log for a flag, a model or a port that it does not take."
	case Health:
		return "The engine runs and does not answer: see its log, lower slots, or raise health.timeout if it is only slow."
	case Halt:
		return "The engine does not end when it is asked to: see its log for requests that never finish."
	case Model:
		return "The model or the engine cannot be had: see that its path and digest are right and the disk has room."
	case Config:
		return "The pool cannot run as it is written: correct its file and run `poolctl check`."
	}
	return "Nothing tells why: see the engine's log."
}
