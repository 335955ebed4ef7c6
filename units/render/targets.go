package render

// targetLines relate the engine to the targets of the host. Without the first, "systemctl isolate"
// of any target would stop it: no target asks for a transient unit.
func targetLines(h Host) []Line {
	const rescue = "rescue and emergency mode end everything but a shell: they stop engines, too"
	lines := []Line{
		inUnit(yes("IgnoreOnIsolate", "no target asks for this unit: systemctl isolate would stop it")),
	}
	survives := h.SoftReboot && h.SurviveFinalKill
	ends := []string{"rescue.target", "emergency.target"}
	if survives {
		const soft = "survive_soft_reboot: a soft-reboot leaves the engine running (systemd-soft-reboot.service(8))"
		const named = "each other way to end the host stops the engine, by its name: the default dependency on " +
			"shutdown.target would include the soft-reboot"
		lines = append(lines,
			inUnit(yes("SurviveFinalKillSignal", soft)),
			inUnit(no("DefaultDependencies", soft)),
			inUnit(list("After", "basic.target", "of the default dependencies")))
		for _, target := range []string{"reboot.target", "kexec.target", "poweroff.target", "halt.target"} {
			lines = append(lines, inUnit(list("Conflicts", target, named)))
		}
	}
	for _, target := range ends {
		lines = append(lines, inUnit(list("Conflicts", target, rescue)))
	}
	if survives {
		ends = append(ends, "shutdown.target")
	}
	for _, target := range ends {
		lines = append(lines, inUnit(list("Before", target, "they wait until the engine has stopped")))
	}
	return lines
}
