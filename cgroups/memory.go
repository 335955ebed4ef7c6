package cgroups

// Memory is the contents of memory.current, memory.peak and memory.events (cgroup-v2.rst, "Memory
// Interface Files").
type Memory struct {
	CurrentBytes uint64
	PeakBytes    *uint64 // nil before Linux 5.19
	// OOMKills counts processes that the kernel killed because the cgroup, or one above it, ran out
	// of memory; nil where memory.events has no oom_kill.
	OOMKills *uint64
}

// readMemory leaves Memory nil where the controller is off: the host boots with
// cgroup_disable=memory or on cgroup v1, PID 1 has no controller to hand out (a container without
// delegation), or MemoryAccounting= is off.
func readMemory(r *reader, u *Usage) error {
	const why = "the memory controller is not enabled for this cgroup"
	current, err := r.single("memory.current", why)
	if err != nil || current == nil {
		return err
	}
	m := Memory{CurrentBytes: *current}
	if m.PeakBytes, err = r.single("memory.peak", "the kernel is older than 5.19"); err != nil {
		return err
	}
	events, err := r.keyed("memory.events", why)
	if err != nil {
		return err
	}
	if kills, ok := events["oom_kill"]; ok {
		m.OOMKills = &kills
	}
	u.Memory = &m
	return nil
}
