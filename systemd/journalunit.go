package systemd

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// cldExited is CLD_EXITED of waitid(2): a process ended by itself.
const cldExited = 1

// journalMemory is far above what journalctl needs (seen: 5 MB). The files that it maps count, and
// are given back under pressure.
const journalMemory = 256 << 20

// journalCommand is the row that executes journalctl.
func journalCommand(argv []string) Property {
	return Property{Name: "ExecStartEx", Value: []ExecCommand{{Path: argv[0], Args: argv,
		Flags: []string{"no-env-expand"}}}}
}

// journalProperties fence journalctl in: a user of its own that may read the journal and nothing
// else, no network, no capability, nothing to write to. It parses what any local user may log.
// Names and values are those of systemd.exec(5) and systemd.resource-control(5).
//
// Not among them are ProtectProc, ProtectKernelTunables, ProtectControlGroups and ProcSubset: each
// mounts /proc anew, which in a container shows the host's boot id, and journalctl --follow of 252
// then waits for entries of a boot that never was (seen there under systemd-nspawn). A user without
// capabilities writes none of it in any case, and has nobody to tell what it reads.
func journalProperties() []Property {
	return []Property{
		{Name: "Description", Value: "Journal entries for the inference pool manager"},
		{Name: "DynamicUser", Value: true},
		{Name: "SupplementaryGroups", Value: []string{"systemd-journal"}},
		{Name: "NoNewPrivileges", Value: true},
		{Name: "CapabilityBoundingSet", Value: uint64(0)},
		{Name: "AmbientCapabilities", Value: uint64(0)},
		{Name: "ProtectSystem", Value: "strict"},
		{Name: "ProtectHome", Value: "yes"},
		{Name: "PrivateTmp", Value: true},
		{Name: "PrivateDevices", Value: true},
		{Name: "PrivateNetwork", Value: true},
		{Name: "PrivateUsers", Value: true},
		{Name: "RestrictAddressFamilies", Value: SetFilter{Allow: true, Members: []string{"AF_UNIX"}}},
		{Name: "ProtectKernelModules", Value: true},
		{Name: "ProtectKernelLogs", Value: true},
		{Name: "ProtectClock", Value: true},
		{Name: "ProtectHostname", Value: true},
		{Name: "RestrictNamespaces", Value: uint64(0)},
		{Name: "RestrictRealtime", Value: true},
		{Name: "RestrictSUIDSGID", Value: true},
		{Name: "LockPersonality", Value: true},
		{Name: "MemoryDenyWriteExecute", Value: true},
		{Name: "SystemCallArchitectures", Value: []string{"native"}},
		{Name: "SystemCallFilter", Value: SetFilter{Allow: true, Members: []string{"@system-service"}}},
		{Name: "SystemCallFilter", Value: SetFilter{Members: []string{"@privileged", "@resources"}}},
		{Name: "SystemCallErrorNumber", Value: int32(unix.EPERM)},
		{Name: "KeyringMode", Value: "private"},
		{Name: "UMask", Value: uint32(0o077)},
		{Name: "LimitCORE", Value: uint64(0)},
		{Name: "MemoryMax", Value: uint64(journalMemory)},
		{Name: "TasksMax", Value: uint64(8)},
		// journalctl ends with 1 when its reader is gone, and when --grep found nothing: no failure
		// for PID 1's log.
		{Name: "SuccessExitStatus", Value: ExitStatusSet{Statuses: []int32{1}}},
		// It may fail as often as the caller likes, whose own backoff decides.
		{Name: "StartLimitIntervalUSec", Value: uint64(0)},
	}
}

// complained reports whether journalctl's output holds words beside entries.
func complained(out string) bool { return lastWords(out) != "" }

// lastWords is the last line of an output that is no entry.
func lastWords(out string) string {
	last := ""
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '{' {
			last = line
		}
	}
	return last
}

// ended says how a unit's process ended, and its last words.
func ended(st Status, out string) string {
	text := "no exit status is known"
	switch {
	case st.ExecMainCode == cldExited && st.ExecMainStatus >= 200:
		text = fmt.Sprintf("PID 1 could not execute it (status %d of systemd.exec(5))", st.ExecMainStatus)
	case st.ExecMainCode == cldExited:
		text = fmt.Sprintf("exit status %d", st.ExecMainStatus)
	case st.ExecMainCode != 0:
		text = "signal " + unix.SignalName(unix.Signal(st.ExecMainStatus))
	}
	if words := lastWords(out); words != "" {
		text += ": " + words
	}
	return text
}
