package render

// HostOf detects the features of PID 1 from the properties of its service units
// (systemd.Features.Has): a distribution may backport a feature to an older version.
func HostOf(has func(property string) bool) Host {
	return Host{
		// A property that is new in 257 indicates that transient units keep their flags: 252 has
		// ExecStartEx too, but loses it. Versions between the two were not tested.
		ExecFlags:       has("ExtraFileDescriptors"),
		RestartSteps:    has("RestartSteps"),
		RestartMaxDelay: has("RestartMaxDelayUSec"),
		RandomizedDelay: has("RestartRandomizedDelayUSec"),

		SurviveFinalKill: has("SurviveFinalKillSignal"),

		TemporaryInMemory: has("PrivateTmpEx"),
		DirectoryQuota:    has("StateDirectoryQuota"),
	}
}
