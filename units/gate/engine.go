package gate

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// userHz is the unit of the CPU times in /proc/PID/stat, in ticks a second: 100 on every architecture
// that Linux runs Go on (proc_pid_stat(5), sysconf(_SC_CLK_TCK)).
const userHz = 100

// watched is the engine's process and control group, as the gate sees them.
type watched struct {
	pid    int
	uid    int
	pidfd  int
	cgroup string // a directory; empty where it was not found
	not    []int  // processes of the unit that are not the engine: the gate's own
}

// watch opens the main process. Nothing it needs later wants privileges.
func watch(pid int) (*watched, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	w := &watched{pid: pid, pidfd: fd, not: []int{os.Getpid()}}
	if w.uid, err = userOf(pid); err != nil {
		unix.Close(fd)
		return nil, errGone
	}
	w.cgroup = cgroupOf(pid)
	return w, nil
}

func (w *watched) close() { unix.Close(w.pidfd) }

// sleep waits, but not longer than the engine lives; gone says that it has ended.
func (w *watched) sleep(d time.Duration) (gone bool, err error) {
	until := time.Now().Add(d)
	for {
		left := time.Until(until)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.pidfd), Events: unix.POLLIN}}, int(max(left, 0).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("poll: %w", err)
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

// cgroupOf finds the process's directory in the unified hierarchy, which a hybrid host mounts one level deeper.
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

// counters reads what the engine has used so far. What the kernel does not tell is left at zero: then
// the other counters decide.
func (w *watched) counters(s *Sample) {
	var own time.Duration
	for _, pid := range w.not {
		own += procStat(pid).cpu
	}
	processes := w.processes()
	var sum time.Duration
	for _, pid := range processes {
		used := procStat(pid)
		sum += used.cpu
		s.Faults += used.faults
		s.Memory += used.memory
	}
	s.CPU = sum
	if total, ok := w.groupCPU(); ok {
		s.CPU = max(total-own, 0)
	}
	s.IO = w.groupIO()
}

// processes are the engine's, or its main one where the group cannot be read.
func (w *watched) processes() []int {
	data, err := os.ReadFile(filepath.Join(w.cgroup, "cgroup.procs"))
	if w.cgroup == "" || err != nil {
		return []int{w.pid}
	}
	var pids []int
	for _, field := range strings.Fields(string(data)) {
		pid, err := strconv.Atoi(field)
		if err == nil && !slices.Contains(w.not, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// groupCPU reads usage_usec of cpu.stat (cgroup-v2 document), which every group has, also without the cpu controller.
func (w *watched) groupCPU() (time.Duration, bool) {
	if w.cgroup == "" {
		return 0, false
	}
	data, err := os.ReadFile(filepath.Join(w.cgroup, "cpu.stat"))
	if err != nil {
		return 0, false
	}
	return parseCPUStat(string(data))
}

func parseCPUStat(text string) (time.Duration, bool) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "usage_usec "); ok {
			usec, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return time.Duration(usec) * time.Microsecond, err == nil
		}
	}
	return 0, false
}

// groupIO reads rbytes and wbytes of io.stat; a group without the io controller has none.
func (w *watched) groupIO() uint64 {
	if w.cgroup == "" {
		return 0
	}
	data, err := os.ReadFile(filepath.Join(w.cgroup, "io.stat"))
	if err != nil {
		return 0
	}
	return parseIOStat(string(data))
}

func parseIOStat(text string) uint64 {
	var sum uint64
	for _, field := range strings.Fields(text) {
		for _, key := range []string{"rbytes=", "wbytes="} {
			if value, ok := strings.CutPrefix(field, key); ok {
				n, _ := strconv.ParseUint(value, 10, 64)
				sum += n
			}
		}
	}
	return sum
}

// usage is what one process has used so far, and the memory that it has now, in bytes.
type usage struct {
	cpu    time.Duration
	faults uint64
	memory uint64
}

func procStat(pid int) usage {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}
	}
	return parseProcStat(string(data))
}

// parseProcStat reads majflt, utime, stime and rss: fields 12, 14, 15 and 24 of proc_pid_stat(5). The name in field 2 may hold
// anything, so that counting begins behind its closing parenthesis, at field 3.
func parseProcStat(text string) usage {
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return usage{}
	}
	f := strings.Fields(text[end+1:])
	if len(f) < 22 {
		return usage{}
	}
	faults, _ := strconv.ParseUint(f[9], 10, 64)
	utime, _ := strconv.ParseUint(f[11], 10, 32)
	stime, _ := strconv.ParseUint(f[12], 10, 32)
	pages, _ := strconv.ParseUint(f[21], 10, 32)
	return usage{time.Duration(utime+stime) * (time.Second / userHz), faults, pages * uint64(os.Getpagesize())}
}
