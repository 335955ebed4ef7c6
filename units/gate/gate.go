// Package gate decides, inside an engine's own unit, whether the engine may start and whether it is
// ready. Before the start, as ExecStartPre=, it reserves the engine's memory. After it, as
// ExecStartPost=, it watches the main process, the endpoint, the unit's control group and its log:
// the unit becomes active when it succeeds. It works without the manager.
//
// A load may take any time while it makes progress, or up to a deadline. It is stalled if there was
// no log line, no CPU time and no input for a while, those that the gate's own requests cause left
// out. The package owns that rule. It must not know pools, units or D-Bus.
package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	engines "github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
)

// Options of one gate.
type Options struct {
	// the health endpoint, http://127.0.0.1:PORT/PATH, grpc://127.0.0.1:PORT/SERVICE or
	// tcp://127.0.0.1:PORT
	URL    string
	Unix   string        // the engine's unix socket, which is asked instead of the port; empty: none
	Body   string        // regular expression for the HTTP body, in base64; empty: any body
	Expect int           // the status that means healthy
	Stall  time.Duration // time without progress after which the load is stalled
	// Deadline is the longest time that the load may take, with progress or without; 0: any time.
	Deadline time.Duration
	Log      *log.Logger // goes to the unit's log
	Engine   string      // the kind of engine, as in a pool file
	Key      bool        // the engine asks for the key that is a credential of the unit
	// GPU: the engine was given a GPU, and its log decides whether it uses it. Units of former
	// versions have it; those of this one run the step GPU.
	GPU bool
	// Monitor: the main process is podman's monitor, and the engine its child.
	Monitor bool

	// MainPID and Invocation are MAINPID and INVOCATION_ID of systemd.exec(5).
	MainPID    int
	Invocation string

	logWithin time.Duration // overrides the constant in tests; 0: the constant
	group     string        // overrides the gate's own control group in tests
}

// errGone: the main process ended before it could be watched.
var errGone = errors.New("the engine's main process has ended")

// FromEnvironment reads the variables that PID 1 sets for a command of a unit.
func (o *Options) FromEnvironment() error {
	pid, err := strconv.Atoi(os.Getenv("MAINPID"))
	if err != nil || pid <= 0 {
		return errors.New("MAINPID is not set: pool-gate runs as ExecStartPost= of an engine's unit")
	}
	o.MainPID, o.Invocation = pid, os.Getenv("INVOCATION_ID")
	return nil
}

// Run drops its privileges, waits for a verdict and returns the exit status for it.
func Run(ctx context.Context, o Options) int {
	at, err := parseEndpoint(o.URL, o.Unix, o.Body)
	if err != nil {
		o.Log.Println(err)
		return exit.Usage
	}
	w, err := o.watch()
	if errors.Is(err, errGone) {
		if at.strangers() {
			return o.failed(ForeignPort, Sample{}, at, heard{})
		}
		w = &watched{cgroup: cmp.Or(o.group, strings.TrimSuffix(cgroupOf(os.Getpid()), "/.control"))}
		w.exclude(os.Getpid())
		return o.gone("the engine ended before it listened", w)
	}
	if err == nil {
		defer w.close()
		if o.Key {
			at.key, err = Key(o.MainPID)
			if gone, _ := w.sleep(0); err != nil && gone {
				return o.gone("the engine ended before it listened", w)
			}
		}
	}
	if err == nil {
		if o.GPU {
			w.stream = journalStream(w.pidfd, journalSocket)
		}
		saved := overflowID
		if o.Unix != "" {
			saved = w.uid
		}
		err = dropPrivileges(saved)
	}
	if err != nil {
		o.Log.Println(err)
		return exit.Failed
	}
	lines := &follower{invocation: o.Invocation, journalctl: "journalctl", log: o.Log.Println}
	defer lines.stop()
	return o.wait(ctx, at, w, lines)
}

// answered logs that the engine answers, and checks that it does not run on the CPU.
func (o Options) answered(ctx context.Context, s Sample, w *watched, journalctl string) int {
	text := "the engine answers after " + s.At.Round(time.Millisecond).String()
	if !o.GPU {
		o.Log.Println(text)
		return exit.Ready
	}
	g := &gpuLog{kind: o.Engine, fallbacks: engines.Fallbacks(o.Engine), invocation: o.Invocation,
		journalctl: journalctl, stream: w.stream, within: cmp.Or(o.logWithin, logWithin), log: o.Log}
	found := g.search(ctx, text)
	if why := cmp.Or(found.onCPU, found.none()); why != "" {
		o.Log.Println("the engine was given a GPU and runs without it: " + why)
		return exit.NoGPU
	}
	return exit.Ready
}

// wait samples the engine until there is a verdict.
func (o Options) wait(ctx context.Context, at endpoint, w *watched, lines *follower) int {
	began, reports, gone := time.Now(), report{}, false
	decider := NewDecider(o.Stall, o.Deadline)
	lines.requests.echoes = Echo(o.Stall)
	var newest heard
	for ctx.Err() == nil {
		s := Sample{At: time.Since(began), Gone: gone, Lines: lines.seen()}
		if !gone {
			w.counters(&s)
			if decider.Due(s.At) {
				newest = lines.requests.time(func() heard { return at.ask(w.uid, o.Expect) })
				s.Answer, s.Asked, s.Reached = newest.answer, time.Since(began), newest.reached
			}
		}
		switch v := decider.Next(s); v {
		case Wait:
		case Ready:
			return o.answered(ctx, s, w, lines.journalctl)
		case EngineGone:
			if at.listener(w.uid) == Foreign { // which is why it could not listen
				return o.failed(ForeignPort, s, at, heard{})
			}
			return o.gone(fmt.Sprintf("the engine ended after %s, before it was ready", s.At.Round(time.Millisecond)),
				w)
		default:
			return o.failed(v, s, at, newest.or(at, w.uid, true))
		}
		if lines.due(decider.Idle(s), o.Stall) {
			if pid := lines.start(w.excluded); pid != 0 {
				w.exclude(pid)
			}
		}
		heardNow := func() string { return newest.or(at, w.uid, false).text }
		if text := reports.next(s, decider.Idle(s), heardNow); text != "" {
			o.Log.Println(text)
		}
		var err error
		if gone, err = w.sleep(decider.Pause(time.Since(began))); err != nil {
			o.Log.Println(err)
			return exit.Failed
		}
	}
	o.Log.Println("terminated before the engine was ready")
	return exit.Failed
}

// gone logs that the main process ended, and whether it left others running: a script that starts
// the server in the background does.
func (o Options) gone(text string, w *watched) int {
	left := w.left()
	if left == 0 || o.Monitor { // which outlives the engine by a moment
		o.Log.Println(text)
		return exit.EngineGone
	}
	o.Log.Printf("%s; processes that it started and that still run: %d", text, left)
	return exit.Background
}

// failed logs the verdict in one line and returns its exit status.
func (o Options) failed(v Verdict, s Sample, at endpoint, newest heard) int {
	if v == ForeignPort {
		o.Log.Printf("port %d is in use by another user's process, not by the engine; see ss -ltnp 'sport = :%d'",
			at.port, at.port)
		return exit.ForeignPort
	}
	status, text := exit.Stalled, fmt.Sprintf("the load stalled: no log line, no CPU time and no input for %s", o.Stall)
	if v == Late {
		status, text = exit.Late, "the load took longer than its deadline of "+o.Deadline.String()
	}
	text += " (in total: " + used(s) + ")"
	if newest.text != "" {
		text += exit.HeardSeparator + newest.text
	}
	o.Log.Println(text)
	return exit.With(status, newest.what)
}

// Usage is the text for an invalid command line.
func Usage() string {
	return fmt.Sprintf(`usage: pool-gate --url http://127.0.0.1:PORT/PATH|grpc://127.0.0.1:PORT/SERVICE|tcp://127.0.0.1:PORT [--unix PATH] [--key] [--monitor] [--body BASE64] --expect STATUS --stall DURATION [--deadline DURATION] [--engine KIND --gpu]
       pool-gate memory [--need DEVICE=BYTES[,…]] [--host BYTES [--mapped BYTES] [--warn]] [--memory-max BYTES] [--wait DURATION] [--socket PATH]
       pool-gate gpu --devices UUID[,…] --engine KIND [--proof all|any|off] [--layers N] [--draft-layers N] [--whole] [--wait DURATION] [--socket PATH]
       pool-gate release [--socket PATH]
       pool-gate exec --key VARIABLE -- PROGRAM [ARGUMENT…]
       pool-gate seccomp --out PATH [--allow CALL[,…]] [--netlink]
       pool-gate places --root DIRECTORY PATH…
       pool-gate docker run --client PATH --name NAME --root DIRECTORY --gate PATH --unit UNIT [--sealed] [--group NAME]… -- [OPTION…] -- PROGRAM [ARGUMENT…]
       pool-gate docker attach|remove --client PATH --name NAME
       pool-gate docker enter --unit UNIT [--sealed] -- PROGRAM [ARGUMENT…]
       pool-gate disk DIRECTORY…

PID 1 runs it in an engine's unit: as ExecStartPost=, for its memory and its GPUs as ExecStartPre= and a second ExecStartPost=,
and as ExecStart= to execute an engine that takes its key as a variable. Exit status: %d ready,
%d engine gone, %d engine gone with processes left behind, %d stalled, %d deadline passed (with what the engine answered: above 20, above 40), %d port in use by another process, %d too little GPU memory, %d too little main memory, %d no GPU in use, %d no memory of a GPU held, %d a part of the model on the CPU.`,
		exit.Ready, exit.EngineGone, exit.Background, exit.Stalled, exit.Late, exit.ForeignPort, exit.InsufficientVRAM,
		exit.InsufficientRAM, exit.NoGPU, exit.HoldsNoGPU, exit.PartOnCPU)
}
