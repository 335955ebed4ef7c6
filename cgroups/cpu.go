package cgroups

// CPU is what cpu.stat says, in microseconds (cgroup-v2.rst, "CPU Interface Files").
type CPU struct {
	UsageUSec  uint64
	UserUSec   uint64
	SystemUSec uint64
	// Throttled is how often, and ThrottledUSec how long, the quota stopped the cgroup; nil where the
	// cpu controller is off.
	Throttled     *uint64
	ThrottledUSec *uint64
}

// readCPU leaves CPU nil on cgroup v1 and before Linux 4.15. The three times are there without the
// cpu controller.
func readCPU(r *reader, u *Usage) error {
	const file = "cpu.stat"
	values, err := r.keyed(file, "the cgroup is not on the v2 tree")
	if err != nil || values == nil {
		return err
	}
	usage, ok := values["usage_usec"]
	if !ok {
		return parseError(file, "no usage_usec")
	}
	u.CPU = &CPU{
		UsageUSec: usage, UserUSec: values["user_usec"], SystemUSec: values["system_usec"],
		Throttled: pick(values, "nr_throttled"), ThrottledUSec: pick(values, "throttled_usec"),
	}
	return nil
}
