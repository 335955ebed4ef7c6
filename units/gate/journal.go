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
)

// follower counts the engine's log lines by way of journalctl, which is part of systemd; the journal's files are no stable
// interface for others.
type follower struct {
	cmd   *exec.Cmd
	lines atomic.Uint64
	done  sync.WaitGroup
}

// follow counts lines of one invocation of the unit from now on, without those of the given processes.
func follow(invocation string, not []int) (*follower, error) {
	f := &follower{cmd: exec.Command("journalctl", "--quiet", "--follow", "--lines=0", "--output=json",
		"--output-fields=_PID", "_SYSTEMD_INVOCATION_ID="+invocation)}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := f.cmd.Start(); err != nil {
		return nil, err
	}
	f.done.Go(func() { f.count(out, append(slices.Clone(not), f.cmd.Process.Pid)) })
	return f, nil
}

func (f *follower) count(out io.Reader, not []int) {
	scanner := bufio.NewScanner(out)
	scanner.Buffer(make([]byte, 0, 4096), 1<<20)
	for scanner.Scan() {
		if pid := linePID(scanner.Bytes()); !slices.Contains(not, pid) {
			f.lines.Add(1)
		}
	}
	// A line beyond the buffer ends the scan: take the rest off the pipe, so that journalctl goes on and is ended by us.
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

func (f *follower) count64() uint64 {
	if f == nil {
		return 0
	}
	return f.lines.Load()
}

func (f *follower) stop() {
	if f == nil {
		return
	}
	_ = f.cmd.Process.Kill()
	f.done.Wait()
	_ = f.cmd.Wait()
}
