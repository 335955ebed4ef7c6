package registry

import "errors"

// Code is a stable cause that programs may compare; the set is the API's contract.
type Code string

// The causes that last_error may begin with.
const (
	CodeConfigInvalid      Code = "CONFIG_INVALID"
	CodePolicyDenied       Code = "POLICY_DENIED"
	CodeModelNotFound      Code = "MODEL_NOT_FOUND"
	CodeDigestMismatch     Code = "MODEL_DIGEST_MISMATCH"
	CodeProvisionFailed    Code = "PROVISION_FAILED"
	CodeEngineStartFailed  Code = "ENGINE_START_FAILED"
	CodeEngineStartTimeout Code = "ENGINE_START_TIMEOUT"
	CodeEngineStopTimeout  Code = "ENGINE_STOP_TIMEOUT"
	CodeEngineCrashed      Code = "ENGINE_CRASHED"
	CodeEngineExited       Code = "ENGINE_EXITED" // without an error, and without a request to stop
	CodeEngineOOM          Code = "ENGINE_OOM"
	CodePortInUse          Code = "PORT_IN_USE" // of another process
	CodeInsufficientVRAM   Code = "INSUFFICIENT_VRAM"
	CodeInsufficientRAM    Code = "INSUFFICIENT_RAM"
	CodeGPUUnavailable     Code = "GPU_UNAVAILABLE"
	CodeDeviceMaskInvalid  Code = "DEVICE_MASK_INVALID"
	CodeCUDAOOM            Code = "CUDA_OOM"
	CodeCUDAError          Code = "CUDA_ERROR"
	CodeDriverError        Code = "DRIVER_ERROR"
	CodeHealthFailed       Code = "HEALTH_FAILED"
	CodeDrainTimeout       Code = "DRAIN_TIMEOUT"
	CodeBreakerOpen        Code = "BREAKER_OPEN"
	CodeInvalidParams      Code = "INVALID_PARAMS" // of a request
	CodePoolNotFound       Code = "POOL_NOT_FOUND"
	CodePoolExists         Code = "POOL_EXISTS"    // another one, of the id of a preload
	CodePoolFromFile       Code = "POOL_FROM_FILE" // a request is about preloaded pools only
	CodeReloadInProgress   Code = "RELOAD_IN_PROGRESS"
	CodeReloadCancelled    Code = "RELOAD_CANCELLED"
	CodeStateNotSaved      Code = "STATE_NOT_SAVED"
	CodeStateTooLarge      Code = "STATE_TOO_LARGE"   // an engine has more on the disk than it may
	CodeUnitFileMissing    Code = "UNIT_FILE_MISSING" // PID 1 has lost the settings of a running engine's unit
	CodeBenchRefused       Code = "BENCH_REFUSED"     // not now: leases are held, or it does not serve
	CodeBenchUnsupported   Code = "BENCH_UNSUPPORTED" // the engine has no request that can be measured
	CodeBenchFailed        Code = "BENCH_FAILED"      // a benchmark ended without a result
	CodeFleetNotConfigured Code = "FLEET_NOT_CONFIGURED"
	CodeFleetUnavailable   Code = "FLEET_UNAVAILABLE" // etcd, or the program that reads it, does not answer
)

// Failure is what went wrong: a stable code, what happened, and what to do about it. It is an
// error.
type Failure struct {
	Code    Code
	Message string // one plain sentence or clause, without the code
	Hint    string // what to do, a sentence

	Ending *Ending // of a failed run of an engine; nil for other failures
}

// Error returns the code and the message, as last_error shows them.
func (f *Failure) Error() string { return string(f.Code) + ": " + f.Message }

// Fail makes a Failure.
func Fail(code Code, message, hint string) *Failure {
	return &Failure{Code: code, Message: message, Hint: hint}
}

// AsFailure returns the Failure inside err, or one with the fallback code around err's text.
// It returns nil for a nil error.
func AsFailure(err error, fallback Code, hint string) *Failure {
	if err == nil {
		return nil
	}
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return Fail(fallback, err.Error(), hint)
}
