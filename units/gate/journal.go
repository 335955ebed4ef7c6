package gate

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// follower counts the engine's log lines by way of journalctl, which is part of systemd; the
// journal's files are no stable interface for others.
//
// It is started only when nothing else has moved for a while: most loads burn CPU time all along,
// and of a hundred gates that wait at the same time each would run a journalctl for nothing.
// Nothing is missed by that, since it begins with the first line of the run.
type follower struct {
	invocation string
	journalctl string // the program
	say        func(...any)

	cmd   *exec.Cmd
	tried bool
	told  bool // that it cannot be followed
	lines atomic.Uint64
	ended atomic.Bool
	done  sync.WaitGroup
}

// patience is the share of the stall time without any other progress after which the log is looked
// at.
const patience = 10

// due reports whether it is time to begin.
func (f *follower) due(idle, stall time.Duration) bool { return !f.tried && idle >= stall/patience }

// start begins to count lines of this run of the unit, without those of the given processes. It
// returns the process id of the helper, 0 when there is none: then CPU time and input decide alone.
func (f *follower) start(not []int) (pid int) {
	f.tried = true
	if f.invocation == "" {
		f.lost("INVOCATION_ID is not set")
		return 0
	}
	cmd := exec.Command(f.journalctl, "--quiet", "--follow", "--no-tail", "--output=json",
		"--output-fields=_PID", "_SYSTEMD_INVOCATION_ID="+f.invocation)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		f.lost(err.Error())
		return 0
	}
	f.cmd = cmd
	f.done.Go(func() {
		f.count(out, append(slices.Clone(not), cmd.Process.Pid))
		f.ended.Store(true)
	})
	return cmd.Process.Pid
}

// lost says once that lines are not counted.
func (f *follower) lost(why string) {
	if !f.told {
		f.told = true
		f.say("the log cannot be followed, so log lines do not count as progress:", why)
	}
}

func (f *follower) count(out io.Reader, not []int) {
	scanner := bufio.NewScanner(out)
	scanner.Buffer(make([]byte, 0, 4096), 1<<20)
	for scanner.Scan() {
		if pid := linePID(scanner.Bytes()); !slices.Contains(not, pid) {
			f.lines.Add(1)
		}
	}
	// A line beyond the buffer ends the scan: take the rest off the pipe, so that journalctl goes
	// on and is ended by us.
	_, _ = io.Copy(io.Discard, out)
}

// linePID reads _PID of one JSON line; 0 when there is none.
func linePID(line []byte) int {
	var fields struct {
		PID string `json:"_PID"`
	}
	if json.Unmarshal(line, &fields) != nil {
		return 0
	}
	pid, _ := strconv.Atoi(fields.PID)
	return pid
}

// seen is the number of lines so far.
func (f *follower) seen() uint64 {
	if f.cmd != nil && f.ended.Load() {
		f.lost("journalctl ended")
	}
	return f.lines.Load()
}

// stop ends the helper and waits for it.
func (f *follower) stop() {
	if f.cmd == nil {
		return
	}
	_ = f.cmd.Process.Kill()
	f.done.Wait()
	_ = f.cmd.Wait()
}
