package gate

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// nobody is the user and group of that name on every Linux (nobody, nogroup).
const nobody = 65534

// dropPrivileges makes the process a nobody who may read the journal, before it speaks to the
// engine. A process that is not root keeps what it has.
func dropPrivileges() error {
	if os.Geteuid() != 0 {
		return nil
	}
	var groups []int
	if g, err := user.LookupGroup("systemd-journal"); err == nil {
		if gid, err := strconv.Atoi(g.Gid); err == nil {
			groups = append(groups, gid)
		}
	}
	// The syscall package's setters act on all threads of the process.
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(nobody, nobody, nobody); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	if err := syscall.Setresuid(nobody, nobody, nobody); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 &&
		errno != syscall.ENOTSUP {
		return fmt.Errorf("no_new_privs: %w", errno)
	}
	return nil
}
