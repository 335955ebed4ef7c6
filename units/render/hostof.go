package render

// HostOf reads the facts about PID 1 out of the names of the properties that its service units have
// (systemd.Features.Has): a distribution may carry a feature back to an older version.
func HostOf(has func(property string) bool) Host {
	return Host{
		// The property that 257 brought stands for a transient unit that keeps its flags: 252 has
		// ExecStartEx too, and loses it. Between the two, nothing was tried.
		ExecFlags:       has("ExtraFileDescriptors"),
		RestartSteps:    has("RestartSteps"),
		RestartMaxDelay: has("RestartMaxDelayUSec"),
		RandomizedDelay: has("RestartRandomizedDelayUSec"),
	}
}
