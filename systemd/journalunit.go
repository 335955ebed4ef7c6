package systemd

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// cldExited is CLD_EXITED of waitid(2): a process ended by itself.
const cldExited = 1

// journalMemory is far above what journalctl needs (seen: 5 MB). The files that it maps count, and
// are released under pressure.
const journalMemory = 256 << 20

// journalProperties fence journalctl in, which parses what any local user may log: it may read the
// journal and nothing else.
//
// It needs /proc as it is: each line that mounts it again shows, in a container, the host's boot
// id, and journalctl --follow of 252 then waits for entries of a boot that never was (seen there
// under systemd-nspawn). A user without capabilities writes none of it in any case, and has no one
// to pass on what it reads.
func journalProperties(argv []string) []Property {
	h := Helper{
		Description: "Journal entries for the inference pool manager", Argv: argv, Groups: []string{"systemd-journal"},
		Memory: journalMemory, Tasks: 8, Home: "yes", Needs: Needs{Proc: true},
	}
	// journalctl ends with 1 when its reader is gone, and when --grep found nothing: no failure for
	// PID 1's log.
	return append(h.Properties(), Property{Name: "SuccessExitStatus", Value: ExitStatusSet{Statuses: []int32{1}}})
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
