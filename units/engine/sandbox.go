package engine

import (
	"slices"

	"github.com/pool-managerd/pool-managerd/units/relax"
)

// Relaxation is a part of the sandbox that an engine cannot work under.
type Relaxation struct {
	Name string // of relax.Table
	Why  string // a sentence for the administrator
}

// cudaRelaxations are the lines that the CUDA user-space driver may not work under. On an H100 with
// driver 580 it needed none of them, for PTX that it compiles either (docs/sandbox.md). JIT stays
// relaxed for drivers that were not tried: an engine that cannot start there would not show why.
func cudaRelaxations(at Instance) []Relaxation {
	if !at.GPU() {
		return nil
	}
	return []Relaxation{
		{relax.JIT, "the CUDA driver compiles PTX at run time, and drivers before 580 were not tried without this"},
	}
}

// pythonRelaxations are the lines that PyTorch cannot work under, on a CPU and on a GPU.
func pythonRelaxations() []Relaxation {
	const policy = "PyTorch pins its workers and sets their memory policy"
	return []Relaxation{
		{relax.Netlink, "torch.distributed lists the network interfaces by a netlink socket, on one GPU too"},
		{relax.JIT, "PyTorch and Triton compile kernels at run time, and libffi makes its closures executable"},
		{relax.ShmExec, "the same"},
		{relax.Affinity, policy},
		{relax.NUMA, policy},
		{relax.Priority, "ZeroMQ sets the scheduling of its threads, and ends the process where it may not"},
		{relax.HostAddress, "the processes of PyTorch find each other by the host's name, which Debian and Ubuntu give this address"},
		{relax.Proc, "psutil reads /proc/meminfo and /proc/stat and fails without them"},
	}
}

// vllmRelaxations are those of PyTorch without what vLLM was seen to work without, on a CPU and in
// its parts on a GPU (docs/sandbox.md). Without numa it binds no memory to the node of its threads,
// and goes on; jit is for numba, which compiles its n-gram speculation, and was not tried.
func vllmRelaxations() []Relaxation {
	return slices.DeleteFunc(pythonRelaxations(), func(r Relaxation) bool { return r.Name == relax.ShmExec })
}
