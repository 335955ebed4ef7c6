package engine

// Relaxation is a line of the sandbox that an engine cannot work under.
type Relaxation struct {
	Line SandboxLine
	Why  string // a sentence for the administrator
}

// SandboxLine names what may be relaxed, by its key in a unit file.
type SandboxLine string

// The lines that an adapter may relax.
const (
	// WriteExecute turns MemoryDenyWriteExecute= off.
	WriteExecute SandboxLine = "MemoryDenyWriteExecute"
	// ResourceCalls lets the system call group @resources (scheduling, affinity, memory policy)
	// pass.
	ResourceCalls SandboxLine = "SystemCallFilter=@resources"
	// HostAddress lets it use 127.0.1.1 too.
	HostAddress SandboxLine = "IPAddressAllow=127.0.1.1"
	// WholeProc shows the files of /proc that are no processes (ProcSubset=all).
	WholeProc SandboxLine = "ProcSubset"
)

// cudaRelaxations are the lines that the CUDA user-space driver cannot work under. They follow from
// documentation; none was measured on a GPU yet.
func cudaRelaxations(at Instance) []Relaxation {
	if !at.GPU() {
		return nil
	}
	return []Relaxation{
		{WriteExecute, "the CUDA driver compiles PTX at run time and makes the result executable"},
		{ResourceCalls, "the CUDA driver pins its threads and sets a memory policy (sched_setaffinity, mbind)"},
		{WholeProc, "the CUDA driver reads /proc/driver/nvidia and /proc/devices to find its nodes"},
	}
}

// pythonRelaxations are the lines that PyTorch cannot work under, on a CPU and on a GPU.
func pythonRelaxations() []Relaxation {
	return []Relaxation{
		{WriteExecute, "PyTorch and Triton compile kernels at run time, and libffi makes its closures executable"},
		{ResourceCalls, "PyTorch pins its workers and sets their priority and memory policy"},
		{HostAddress, "the processes of PyTorch find each other by the host's name, which Debian and Ubuntu give this address"},
		{WholeProc, "psutil reads /proc/meminfo and /proc/stat and fails without them"},
	}
}
