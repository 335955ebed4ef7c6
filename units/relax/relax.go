// Package relax is the one table of what may be relaxed of an engine's sandbox: by the engine's
// adapter, or by [sandbox] allow of a pool file.
//
// It owns the names, the unit lines that each changes, its cost in exposure, and how its absence
// shows in an engine's log (symptom.go). It is pure: it renders no unit, reads no log, and knows no
// engine by name.
package relax

import "slices"

// The names of relaxations, as a pool file has them.
const (
	Netlink       = "netlink"
	JIT           = "jit"
	ShmExec       = "dev-shm-exec"
	Proc          = "proc"
	Affinity      = "affinity"
	NUMA          = "numa"
	Priority      = "priority"
	Mlock         = "mlock"
	HostAddress   = "host-address"
	UnifiedMemory = "unified-memory"
)

// Relaxation is one part of the sandbox that can be relaxed.
type Relaxation struct {
	Name  string
	Lines []string // of the unit with it, in the syntax of unit files; "KEY+=VALUE": VALUE is added
	// Cost is what it adds to the exposure that `systemd-analyze security` reports for an engine on
	// the CPU, where it is the only relaxation.
	Cost  string
	Why   string   // a clause: what it is for and what it permits
	Calls []string // system calls of @resources that it permits
	// Denied is what a process cannot do without it, for "the sandbox forbids it …".
	Denied string
	// Instead is a sentence about what does the same without the relaxation; "": nothing does.
	Instead string
}

// Table returns every relaxation, in the order of the documentation.
func Table() []Relaxation {
	return []Relaxation{
		{Name: Netlink, Lines: []string{"RestrictAddressFamilies+=AF_NETLINK"}, Cost: "0.0",
			Why: "the process may read the host's network interfaces and routes (getifaddrs), which " +
				"torch.distributed does to choose an address. Without a capability it changes none of them",
			Denied: "to use netlink, the list of network interfaces"},
		{Name: JIT, Lines: []string{"MemoryDenyWriteExecute=no"}, Cost: "0.0",
			Why:    "the process may execute code that it generated: compilers at run time, JavaScript, closures of libffi",
			Denied: "to execute code that it generates"},
		{Name: ShmExec, Lines: []string{"TemporaryFileSystem=/dev/shm:… without noexec"}, Cost: "0.0",
			Why:    "a file in /dev/shm may be mapped as code",
			Denied: "to execute a file of /dev/shm"},
		{Name: Proc, Lines: []string{"ProcSubset=all"}, Cost: "0.0",
			Why: "the process may read the figures of the host in /proc: meminfo, stat, cpuinfo, driver; and its " +
				"control groups. Other processes stay hidden",
			Denied: "to read the host's figures in /proc"},
		{Name: Affinity, Lines: []string{"SystemCallFilter+=sched_setaffinity"}, Cost: "0.1",
			Why:    "threads may be pinned to CPUs, of those that [limits] cpus leaves",
			Calls:  []string{"sched_setaffinity"},
			Denied: "to pin threads to CPUs", Instead: "[limits] cpus = \"0-3\" restricts the engine to CPUs without that call."},
		{Name: NUMA, Lines: []string{"SystemCallFilter+=mbind set_mempolicy migrate_pages move_pages"}, Cost: "0.1",
			Why:    "the process may choose the NUMA node of its own memory",
			Calls:  []string{"mbind", "set_mempolicy", "migrate_pages", "move_pages"},
			Denied: "to choose NUMA nodes", Instead: "[limits] numa_policy and numa_nodes place the memory of the whole engine."},
		{Name: Priority, Lines: []string{
			"SystemCallFilter+=setpriority sched_setscheduler sched_setparam sched_setattr ioprio_set"}, Cost: "0.1",
			Why:    "the process may lower its own priority; no real-time priority, and not above [limits] nice",
			Calls:  []string{"setpriority", "sched_setscheduler", "sched_setparam", "sched_setattr", "ioprio_set"},
			Denied: "to change its priority", Instead: "[limits] nice sets the priority of the whole engine."},
		{Name: Mlock, Lines: []string{"LimitMEMLOCK=infinity"}, Cost: "0.0",
			Why:    "memory may be locked without a bound but [limits] memory_max; [limits] memlock sets one",
			Denied: "to lock memory beyond 8 MiB", Instead: "[limits] memlock = \"16G\" sets a bound."},
		{Name: HostAddress, Lines: []string{"IPAddressAllow+=127.0.1.1"}, Cost: "0.0",
			Why: "processes of one engine may find each other by the host's name, which Debian and Ubuntu give " +
				"this address",
			Denied: "to use 127.0.1.1"},
		{Name: UnifiedMemory, Lines: []string{"Environment=GGML_CUDA_ENABLE_UNIFIED_MEMORY=…"}, Cost: "0.0",
			Why: "CUDA may move what does not fit into the GPU's memory to the host's, where it is slow, " +
				"instead of failing",
			Denied: "to use CUDA's unified memory"},
	}
}

// Names returns the names of Table.
func Names() []string {
	var names []string
	for _, r := range Table() {
		names = append(names, r.Name)
	}
	return names
}

// Find returns a relaxation by its name.
func Find(name string) (Relaxation, bool) {
	all := Table()
	i := slices.IndexFunc(all, func(r Relaxation) bool { return r.Name == name })
	if i < 0 {
		return Relaxation{}, false
	}
	return all[i], true
}

// UnifiedMemoryVariables are variables of an engine's environment that turn on CUDA's unified
// memory, whatever their value: "0" too.
func UnifiedMemoryVariables() []string { return []string{"GGML_CUDA_ENABLE_UNIFIED_MEMORY"} }
