package gate

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// overflowID is the uid of `nobody` and the gid of `nogroup` on Linux.
const overflowID = 65534

// dropPrivileges changes to an unprivileged user that may read the journal, before the process
// connects to the engine. A process that is not root keeps its user.
//
// saved becomes its saved user: overflowID, or the engine's user, which connects to a unix socket
// of the engine (dialUnix) and gives no other right. The engine may signal the gate then, and so
// fail its own start; it may not trace it or write to its memory, for which all three user ids
// would have to be its own (ptrace(2)), and the programs that the gate executes have no saved user
// but their own.
func dropPrivileges(saved int) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var groups []int
	if g, err := user.LookupGroup("systemd-journal"); err == nil {
		if gid, err := strconv.Atoi(g.Gid); err == nil {
			groups = append(groups, gid)
		}
	}
	// The functions of package syscall apply to all threads of the process.
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(overflowID, overflowID, overflowID); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	if err := syscall.Setresuid(overflowID, overflowID, saved); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 &&
		errno != syscall.ENOTSUP {
		return fmt.Errorf("no_new_privs: %w", errno)
	}
	return nil
}
