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

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// follower counts the engine's log lines by running journalctl; the format of the journal's files
// is not a stable interface. Lines within the echo of a request of the gate do not count: the
// engine may have an access log, in any form.
//
// It starts only when no other counter has changed for a while: most loads use CPU time
// continuously, and a hundred waiting gates would each run a journalctl for nothing. It misses no
// line, since journalctl begins with the first line of the run.
type follower struct {
	invocation string
	journalctl string // the program
	log        func(...any)
	requests   requests

	cmd    *exec.Cmd
	tried  bool
	warned bool // that lines are not counted
	lines  atomic.Uint64
	ended  atomic.Bool
	done   sync.WaitGroup
}

// inSlice matches lines of engines. The invocation alone is no proof: journald reads that of a unit
// of a user's own manager from a link below /run/user, which the user may point at any invocation
// (client_context_read_invocation_id in journald-context.c).
const inSlice = "_SYSTEMD_SLICE=" + pool.Slice

// patience: after one tenth of the stall time without other progress, the log is followed.
const patience = 10

// due reports whether to start journalctl.
func (f *follower) due(idle, stall time.Duration) bool { return !f.tried && idle >= stall/patience }

// start begins to count lines of this run of the unit, except those of the excluded processes. It
// returns the process id of journalctl, or 0 if it could not start.
func (f *follower) start(exclude []int) (pid int) {
	f.tried = true
	if f.invocation == "" {
		f.warn("INVOCATION_ID is not set")
		return 0
	}
	cmd := exec.Command(f.journalctl, "--quiet", "--follow", "--no-tail", "--output=json",
		"--output-fields=_PID", inSlice, "_SYSTEMD_INVOCATION_ID="+f.invocation)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		f.warn(err.Error())
		return 0
	}
	f.cmd = cmd
	f.done.Go(func() {
		f.count(out, append(slices.Clone(exclude), cmd.Process.Pid))
		f.ended.Store(true)
	})
	return cmd.Process.Pid
}

// warn logs once that lines are not counted.
func (f *follower) warn(why string) {
	if !f.warned {
		f.warned = true
		f.log("could not follow the log; log lines do not count as progress:", why)
	}
}

func (f *follower) count(out io.Reader, exclude []int) {
	scanner := bufio.NewScanner(out)
	scanner.Buffer(make([]byte, 0, 4096), 1<<20)
	for scanner.Scan() {
		if pid, at := lineOrigin(scanner.Bytes()); !slices.Contains(exclude, pid) && !f.requests.echo(at) {
			f.lines.Add(1)
		}
	}
	// A line longer than the buffer ends the scan: drain the pipe, so that journalctl does not
	// block.
	_, _ = io.Copy(io.Discard, out)
}

// lineOrigin returns _PID of one JSON line, or 0, and when the journal received it, since the start
// of the host (CLOCK_MONOTONIC); now, where the line does not have it.
func lineOrigin(line []byte) (pid int, at time.Duration) {
	var fields struct {
		PID string `json:"_PID"`
		At  string `json:"__MONOTONIC_TIMESTAMP"`
	}
	if json.Unmarshal(line, &fields) != nil {
		return 0, monotonic()
	}
	pid, _ = strconv.Atoi(fields.PID)
	usec, err := strconv.ParseInt(fields.At, 10, 64)
	if err != nil {
		return pid, monotonic()
	}
	return pid, time.Duration(usec) * time.Microsecond
}

// seen returns the number of lines so far.
func (f *follower) seen() uint64 {
	if f.cmd != nil && f.ended.Load() {
		f.warn("journalctl ended")
	}
	return f.lines.Load()
}

// stop kills journalctl and waits for it.
func (f *follower) stop() {
	if f.cmd == nil {
		return
	}
	_ = f.cmd.Process.Kill()
	f.done.Wait()
	_ = f.cmd.Wait()
}
