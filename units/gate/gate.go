// Package gate decides, inside an engine's own unit, whether the engine may start and whether it is
// ready. Before the start, as ExecStartPre=, it has the engine's memory promised. After it, as
// ExecStartPost=, it watches the main process, the endpoint, the unit's control group and its log:
// the unit is active when it succeeds. It needs no manager.
//
// A load may take as long as it moves: only one that shows no log line, no CPU time and no input
// for a while is stalled. It owns that rule and the exit statuses. It must not know pools, units or
// D-Bus.
package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	engines "github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
)

// Options of one gate.
type Options struct {
	// the health endpoint, http://127.0.0.1:PORT/PATH, grpc://127.0.0.1:PORT/SERVICE or
	// tcp://127.0.0.1:PORT
	URL    string
	Body   string        // what the body of an HTTP answer must match, in base64; empty: any will do
	Expect int           // the status that means healthy
	Stall  time.Duration // without progress, until the load counts as stalled
	Log    *log.Logger   // for a person, in the engine's own log
	Engine string        // the kind, as in a pool file
	GPU    bool          // the engine was given a GPU, and is not ready without it

	// MainPID and Invocation are MAINPID and INVOCATION_ID of systemd.exec(5).
	MainPID    int
	Invocation string

	logWithin time.Duration // in place of the constant; 0: that
}

// errGone says that the main process ended before it could be watched.
var errGone = errors.New("the engine's main process has ended")

// FromEnvironment fills in what PID 1 tells a command of a unit.
func (o *Options) FromEnvironment() error {
	pid, err := strconv.Atoi(os.Getenv("MAINPID"))
	if err != nil || pid <= 0 {
		return errors.New("MAINPID is not set: pool-gate is run by PID 1 as ExecStartPost= of an engine's unit")
	}
	o.MainPID, o.Invocation = pid, os.Getenv("INVOCATION_ID")
	return nil
}

// Run waits for a verdict and returns the exit status for it. It gives up its privileges first.
func Run(ctx context.Context, o Options) int {
	at, err := parseEndpoint(o.URL, o.Body)
	if err != nil {
		o.Log.Println(err)
		return exit.Usage
	}
	w, err := watch(o.MainPID)
	if errors.Is(err, errGone) {
		o.Log.Println("the engine ended before it listened")
		return exit.EngineGone
	}
	if err == nil {
		defer w.close()
		if o.GPU {
			w.stream = journalStream(w.pidfd, journalSocket)
		}
		err = dropPrivileges()
	}
	if err != nil {
		o.Log.Println(err)
		return exit.Failed
	}
	lines := &follower{invocation: o.Invocation, journalctl: "journalctl", say: o.Log.Println}
	defer lines.stop()
	return o.wait(ctx, at, w, lines)
}

// answered says that the engine answers, and makes sure that it does not do so on the CPU.
func (o Options) answered(ctx context.Context, s Sample, w *watched, journalctl string) int {
	text := "the engine answers after " + s.At.Round(time.Millisecond).String()
	if !o.GPU {
		o.Log.Println(text)
		return exit.Ready
	}
	g := &gpuLog{fallbacks: engines.Fallbacks(o.Engine), invocation: o.Invocation, journalctl: journalctl,
		stream: w.stream,
		within: cmp.Or(o.logWithin, logWithin), log: o.Log}
	if why := g.fallback(ctx, text); why != "" {
		o.Log.Println("the engine was given a GPU and runs without it: " + why)
		return exit.NoGPU
	}
	return exit.Ready
}

// wait looks at the engine until there is a verdict.
func (o Options) wait(ctx context.Context, at endpoint, w *watched, lines *follower) int {
	began, told, gone := time.Now(), report{}, false
	judge := NewJudge(o.Stall)
	for ctx.Err() == nil {
		s := Sample{At: time.Since(began), Gone: gone, Lines: lines.seen()}
		if !gone {
			s.Answer = at.ask(w.uid, o.Expect)
			if s.Answer == Silent || s.Answer == Loading { // any other answer decides by itself
				w.counters(&s)
			}
		}
		switch v := judge.Next(s); v {
		case Wait:
		case Ready:
			return o.answered(ctx, s, w, lines.journalctl)
		default:
			return o.failed(v, s, at)
		}
		if lines.due(judge.Idle(s), o.Stall) {
			if pid := lines.start(w.not); pid != 0 {
				w.exclude(pid)
			}
		}
		if text := told.next(s, judge.Idle(s)); text != "" {
			o.Log.Println(text)
		}
		var err error
		if gone, err = w.sleep(Pause(s.At)); err != nil {
			o.Log.Println(err)
			return exit.Failed
		}
	}
	o.Log.Println("told to end before the engine was ready")
	return exit.Failed
}

// failed says what the verdict was, in one line.
func (o Options) failed(v Verdict, s Sample, at endpoint) int {
	switch v {
	case EngineGone:
		o.Log.Printf("the engine ended after %s, before it was ready", s.At.Round(time.Millisecond))
		return exit.EngineGone
	case ForeignPort:
		o.Log.Printf("port %d is held by another user's process, not by the engine; ss -ltnp 'sport = :%d' shows it",
			at.port, at.port)
		return exit.ForeignPort
	}
	o.Log.Printf("the load stalled: no log line, no CPU time and no input for %s (%s in all)", o.Stall, used(s))
	return exit.Stalled
}

// Usage is what the command prints for a wrong command line.
func Usage() string {
	return fmt.Sprintf(`usage: pool-gate --url http://127.0.0.1:PORT/PATH|grpc://127.0.0.1:PORT/SERVICE|tcp://127.0.0.1:PORT [--body BASE64] --expect STATUS --stall DURATION [--engine KIND --gpu]
       pool-gate memory [--need DEVICE=BYTES[,…]] [--host BYTES] [--memory-max BYTES] [--wait DURATION] [--socket PATH]
       pool-gate release [--socket PATH]

Run by PID 1 in an engine's unit: as ExecStartPost=, and as ExecStartPre= and a second ExecStartPost= for its memory. Exit status: %d ready,
%d engine gone, %d stalled, %d port held by another process, %d too little GPU memory, %d too little main memory, %d no GPU in use.`,
		exit.Ready, exit.EngineGone, exit.Stalled, exit.ForeignPort, exit.InsufficientVRAM, exit.InsufficientRAM,
		exit.NoGPU)
}
