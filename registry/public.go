package registry

import "slices"

// publicHint is the hint of a failure whose details are not shown.
const publicHint = "Callers that may read the journal see the details: root, and members of pool-managerd or " +
	"systemd-journal."

// ownWords are the codes whose messages are made of the manager's own words and figures. Those of
// the others may quote an engine's log, a file or a program.
func ownWords() []Code {
	return []Code{CodeInsufficientVRAM, CodeInsufficientRAM, CodeDeviceMaskInvalid, CodeDrainTimeout, CodeEngineStopTimeout,
		CodeReloadInProgress, CodeReloadCancelled, CodeBenchRefused, CodeBenchUnsupported, CodeFleetNotConfigured}
}

// sentences say in general what failed.
func sentences() map[Code]string {
	return map[Code]string{
		CodeConfigInvalid:      "the configuration is invalid",
		CodePolicyDenied:       "the host's policy refuses the pool",
		CodeModelNotFound:      "the model does not exist or cannot be read",
		CodeDigestMismatch:     "the model is not the one that its digest names",
		CodeProvisionFailed:    "the engine could not be prepared",
		CodeEngineStartFailed:  "the engine could not be started",
		CodeEngineStartTimeout: "the engine did not start in time",
		CodeEngineStopTimeout:  "the engine did not stop in time",
		CodeEngineCrashed:      "the engine ended with an error",
		CodeEngineOOM:          "the kernel killed the engine for its memory",
		CodeInsufficientVRAM:   "a GPU has too little free memory",
		CodeInsufficientRAM:    "the host has too little free memory",
		CodeGPUUnavailable:     "a GPU may not be used",
		CodeDeviceMaskInvalid:  "the device mask is invalid",
		CodeCUDAOOM:            "the engine ran out of GPU memory",
		CodeCUDAError:          "a CUDA call of the engine failed",
		CodeDriverError:        "the GPU's driver reports an error",
		CodeHealthFailed:       "the engine does not answer its health probe",
		CodeDrainTimeout:       "the drain did not end in time",
		CodeBreakerOpen:        "the engine failed too often",
		CodeStateNotSaved:      "it could not be saved",
		CodeBenchFailed:        "the benchmark ended without a result",
		CodeFleetUnavailable:   "the pools of all hosts cannot be read",
	}
}

// Public returns a failure for callers that may not read the journal: the code and a sentence,
// without what an engine, a file or a program wrote.
func (f *Failure) Public() *Failure {
	if f == nil || f.Ending == nil && slices.Contains(ownWords(), f.Code) {
		return f
	}
	sentence := sentences()[f.Code]
	if sentence == "" {
		sentence = "the request or the engine failed"
	}
	out := Fail(f.Code, sentence, publicHint)
	if f.Ending != nil {
		ending := *f.Ending
		ending.Lines, ending.NoLines = nil, "they are shown to callers that may read the journal"
		out.Ending = &ending
	}
	return out
}

// Public returns the pool for callers that may not read the journal.
func (p *Pool) Public() *Pool {
	out := *p
	out.LastError = p.LastError.Public()
	out.Replicas = slices.Clone(p.Replicas)
	for i := range out.Replicas {
		r := &out.Replicas[i]
		r.LastError = r.LastError.Public()
	}
	return &out
}

// Public returns the problem for callers that may not read the journal: a file's text may hold
// secrets.
func (p Problem) Public() Problem {
	p.Text, p.Hint = sentences()[CodeConfigInvalid], publicHint
	return p
}

// Public returns the event for callers that may not read the journal.
func (e *Event) Public() *Event {
	if e.Failure == nil {
		return e
	}
	out := *e
	out.Failure = e.Failure.Public()
	if out.Failure != e.Failure && !e.OfDevice() {
		out.Cause = out.Failure.Message
	}
	return &out
}
