package gate

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// userHz is the unit of the CPU times in /proc/PID/stat, in ticks a second: 100 on every
// architecture that Linux runs Go on (proc_pid_stat(5), sysconf(_SC_CLK_TCK)).
const userHz = 100

// counters reads what the engine has used so far. A counter that the kernel does not have stays
// zero; the others decide then.
func (w *watched) counters(s *Sample) {
	var own time.Duration
	for _, pid := range w.excluded {
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
	s.Read, s.Written = w.groupIO()
}

// processes returns the engine's processes, or the main process if the cgroup cannot be read.
func (w *watched) processes() []int {
	data, err := os.ReadFile(filepath.Join(w.cgroup, "cgroup.procs"))
	if w.cgroup == "" || err != nil {
		return []int{w.pid}
	}
	var pids []int
	for _, field := range strings.Fields(string(data)) {
		pid, err := strconv.Atoi(field)
		if err == nil && !slices.Contains(w.excluded, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// left is how many processes the engine has besides its main process, which has ended.
func (w *watched) left() int {
	if w.cgroup == "" {
		return 0
	}
	return len(slices.DeleteFunc(w.processes(), func(pid int) bool { return pid == w.pid }))
}

// groupCPU reads usage_usec of cpu.stat (cgroup-v2 document), which every cgroup has, even without
// the cpu controller.
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

// groupIO reads rbytes and wbytes of io.stat; a cgroup without the io controller has no such file.
func (w *watched) groupIO() (read, written uint64) {
	if w.cgroup == "" {
		return 0, 0
	}
	data, err := os.ReadFile(filepath.Join(w.cgroup, "io.stat"))
	if err != nil {
		return 0, 0
	}
	return parseIOStat(string(data))
}

func parseIOStat(text string) (read, written uint64) {
	for _, field := range strings.Fields(text) {
		for key, sum := range map[string]*uint64{"rbytes=": &read, "wbytes=": &written} {
			if value, ok := strings.CutPrefix(field, key); ok {
				n, _ := strconv.ParseUint(value, 10, 64)
				*sum += n
			}
		}
	}
	return read, written
}

// usage is what one process has used so far, and its resident memory in bytes.
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

// parseProcStat reads majflt, utime, stime and rss: fields 12, 14, 15 and 24 of proc_pid_stat(5).
// The name in field 2 may hold anything, so counting begins after its closing parenthesis, at field
// 3.
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
