package gate

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// watched is the engine's main process and its control group.
type watched struct {
	pid      int
	uid      int
	pidfd    int
	stream   int    // a duplicate of the engine's connection to the journal; -1: none
	cgroup   string // a directory; empty if not found
	excluded []int  // processes in the cgroup that are the gate's, not the engine's
}

// watch opens the main process. Everything after it works without privileges.
func watch(pid int) (*watched, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	w := &watched{pid: pid, pidfd: fd, stream: -1}
	if w.uid, err = userOf(pid); err != nil {
		unix.Close(fd)
		return nil, errGone
	}
	w.cgroup = cgroupOf(pid)
	w.exclude(os.Getpid())
	return w, nil
}

// watch opens the engine's process: the main process, or its child.
func (o Options) watch() (*watched, error) {
	if !o.Monitor {
		return watch(o.MainPID)
	}
	for _, pid := range (&watched{cgroup: cgroupOf(o.MainPID)}).processes() {
		if parentOf(pid) == o.MainPID {
			return watch(pid)
		}
	}
	return nil, errGone
}

// parentOf reads the parent of a process; 0: it has ended.
func parentOf(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if f := strings.Fields(string(line)); len(f) == 2 && f[0] == "PPid:" {
			parent, _ := strconv.Atoi(f[1]) // the kernel writes a number
			return parent
		}
	}
	return 0
}

// exclude leaves a process of the gate out of the engine's counters. PID 1 runs commands like this
// one in the unit's own cgroup (seen on 252, 257 and 262), or, where a unit has Delegate=, in a
// cgroup ".control" below it (systemd.resource-control(5)).
func (w *watched) exclude(pid int) {
	if own := cgroupOf(pid); own == w.cgroup || strings.HasPrefix(own, w.cgroup+"/") {
		w.excluded = append(w.excluded, pid)
	}
}

func (w *watched) close() {
	unix.Close(w.pidfd)
	if w.stream >= 0 {
		unix.Close(w.stream)
	}
}

// sleep waits for d, or until the engine ends; gone reports whether it has ended. ppoll(2) takes
// the wait in nanoseconds: poll(2) would round a wait below a millisecond to none.
func (w *watched) sleep(d time.Duration) (gone bool, err error) {
	until := time.Now().Add(d)
	for {
		left := unix.NsecToTimespec(int64(max(time.Until(until), 0)))
		n, err := unix.Ppoll([]unix.PollFd{{Fd: int32(w.pidfd), Events: unix.POLLIN}}, &left, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("ppoll: %w", err)
		}
		return n > 0, nil
	}
}

// userOf reads the effective user id (proc_pid_status(5)).
func userOf(pid int) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		if f := strings.Fields(string(line)); len(f) > 2 && f[0] == "Uid:" {
			return strconv.Atoi(f[2])
		}
	}
	return 0, errors.New("no Uid line")
}

// cgroupOf finds the process's directory in the unified hierarchy, which a hybrid host mounts one
// level deeper.
func cgroupOf(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
			dir := filepath.Join(mount, path)
			if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
				return dir
			}
		}
	}
	return ""
}
