package config

import (
	"slices"

	"github.com/pool-managerd/pool-managerd/cgroups"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/disk"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

func sandboxKeys() []strict.Key[pool.Sandbox] {
	return []strict.Key[pool.Sandbox]{
		{Path: "shm", Default: "`memory_max`, else half of the host's memory",
			Type: strict.ToSize(1<<20, 1<<50, func(s *pool.Sandbox) *uint64 {
				return &s.ShmBytes
			}),
			Doc: "Size of the engine's own `/dev/shm`, by which the processes of an engine pass tensors to each " +
				"other. What is in it counts as the engine's memory."},
		{Path: "allow", Default: "[]",
			Type: strict.ToList(strict.OneOf(relax.Names()), relaxation, func(s *pool.Sandbox) *[]string {
				return &s.Allow
			}),
			Doc: "What to relax of the sandbox beyond what the engine's kind needs by itself; " +
				"[the sandbox](../sandbox.md#what-a-pool-file-may-relax) has what each permits and costs. " +
				"`[policy] allowed_relaxations` of the host may refuse it."},
		{Path: "network",
			Default: "`\"none\"` where the engine is known to serve on a unix socket, else `\"loopback\"`",
			Type: strict.ToWord([]string{pool.NetworkNone, pool.NetworkLoopback}, func(s *pool.Sandbox) *string {
				return &s.Network
			}),
			Doc: "What the engine reaches. `none`: nothing, not even its own host; it serves on a unix socket, and " +
				"PID 1 forwards its port there. `loopback`: 127.0.0.1 and ::1 of the host, as any local user. " +
				"See [the sandbox](../sandbox.md#the-network)."},
	}
}

// relaxation is the check of a name of a relaxation.
func relaxation(s string) string {
	if slices.Contains(relax.Names(), s) {
		return ""
	}
	return "is no relaxation of the sandbox"
}

// processKeys are of [limits], and belong to the process itself: only a new one takes a change.
func processKeys() []strict.Key[pool.Process] {
	return []strict.Key[pool.Process]{
		{Path: "memlock", Default: "PID 1's, 8M", Type: strict.ToSize(1<<16, 1<<50, func(p *pool.Process) *uint64 { return &p.MemlockBytes }),
			Doc: "Memory that the engine may lock (`--mlock` and pinned buffers). A change of this key and of the four below needs a new process."},
		{Path: "nofile", Default: "65536", Type: strict.ToInt(1024, 1<<30, func(p *pool.Process) *uint64 { return &p.OpenFiles }),
			Doc: "Open files and connections of each process."},
		{Path: "nice", Default: "the kernel's, 0", Type: strict.ToInt(-20, 19, func(p *pool.Process) *int { return &p.Nice }),
			Doc: "Priority of the CPU: 19 is the lowest, -20 the highest."},
		{Path: "numa_policy", Default: "the kernel's", Type: strict.ToWord([]string{pool.NUMABind, pool.NUMAInterleave, pool.NUMAPreferred, pool.NUMALocal}, func(p *pool.Process) *string { return &p.NUMAPolicy }),
			Doc: "Where the engine's memory comes from: `bind` and `interleave` take it from `numa_nodes` alone, `preferred` from them first, `local` from the node of the CPU that asks. PID 1 forgets it at a daemon-reload, but for the nodes of `bind`: an engine that crashes after one runs without it until the manager starts it."},
		{Path: "numa_nodes", Default: "none", Type: strict.ToString("string", `a list of NUMA nodes, as "0-1"`, nodeList, func(p *pool.Process) *string { return &p.NUMANodes }),
			Doc: "The nodes of `numa_policy`; `numactl --hardware` shows them."},
	}
}

// stateKey bounds the disk. It is a key of [limits], of which neither the unit's cgroup nor its
// process knows: a change applies at once.
func stateKey() strict.Key[pool.Pool] {
	size := strict.ToSize(1<<20, 1<<50, func(p *pool.Pool) *uint64 { return &p.StateMaxBytes })
	set := size.Set
	size.Allowed += ", or \"none\""
	size.Set = func(p *pool.Pool, v *strict.Value, at strict.At) {
		if v.Kind == strict.String && v.Str == "none" || v.Kind == strict.Integer && v.Int == 0 {
			p.StateMaxBytes = disk.Off
			return
		}
		set(p, v, at)
	}
	return strict.Key[pool.Pool]{Path: "limits.state_max", Type: size,
		Default: "a quarter of the file system, at most 32G",
		Doc: "What each replica may have on the disk, in its state and its cache directory together; `\"none\"` " +
			"or 0: anything. It is counted every five minutes, and sooner where a file system loses space fast. " +
			"An engine with more goes on, with `STATE_TOO_LARGE` as its error; at twice of it, or where the file " +
			"system is nearly full, it is stopped until it is within the bound. systemd from 258 on enforces it " +
			"for each of the two directories where the file system has project quotas. " +
			"See [disk space](../sandbox.md#disk-space)."}
}

// maxNode is the highest number of a NUMA node that a kernel can have.
const maxNode = 1023

func nodeList(s string) string {
	mask, err := cgroups.Mask(s)
	if err != nil || len(mask) > maxNode/8+1 {
		return "is not a list of NUMA nodes"
	}
	if len(mask) == 0 {
		return "is empty"
	}
	return ""
}

// nodesFit checks that policy and nodes go together, in a pool file and in [defaults], whose keys
// begin with prefix.
func nodesFit(p *pool.Process, r *strict.Report, prefix string) {
	policy, nodes := prefix+"limits.numa_policy", prefix+"limits.numa_nodes"
	if r.Failed(policy, nodes) {
		return
	}
	switch need := p.NUMAPolicy == pool.NUMABind || p.NUMAPolicy == pool.NUMAInterleave; {
	case need && p.NUMANodes == "":
		r.Rule(policy+" is \""+p.NUMAPolicy+"\" without nodes", "", `Add numa_nodes = "0".`, policy)
	case p.NUMANodes != "" && (p.NUMAPolicy == "" || p.NUMAPolicy == pool.NUMALocal):
		r.Rule(nodes+" has no effect without a policy for them", "",
			`Add numa_policy = "bind", or remove the nodes.`, nodes, policy)
	}
}
