package gate

import (
	"cmp"
	"context"
	"errors"
	"log"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/client"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
	engines "github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/memory/ram"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// GPUOptions are the options of GPU.
type GPUOptions struct {
	Devices []string       // UUIDs of the engine's GPUs and MIG partitions
	Proof   string         // pool.ProofAll, ProofAny or ProofOff
	Engine  string         // the kind of engine, as in a pool file
	Layers  engines.Layers // what the pool's arguments have the engine put on its GPUs
	Whole   bool           // fewer layers than that are refused
	Wait    time.Duration  // how long the engine may take to hold memory after it answers
	Socket  string         // pool-gpu's
	Log     *log.Logger

	// MainPID and Invocation are as in Options.
	MainPID    int
	Invocation string

	journalctl string        // overrides the program in tests
	logWithin  time.Duration // overrides the constant in tests; 0: the constant
}

// The times of the proof.
const (
	proveWithin = 2 * time.Second        // bounds one question
	proveAgain  = 500 * time.Millisecond // between two
	// doubtWait is how long a list of processes that is not to be believed is asked for again: one
	// that has just ended is on it for a moment.
	doubtWait = 2 * time.Second
)

// proof is the answer to whether the engine holds memory of its GPUs.
type proof struct {
	holds   string // which memory; "": not proven
	lacks   string // a clause: on which devices there is none
	unknown string // a clause: why that is unknown
	final   bool   // asking again changes nothing
}

// GPU runs as an ExecStartPost= after the readiness gate of an engine that was given GPUs, as root,
// since only root may use pool-gpu's socket. It returns ready if NVML lists processes of the unit
// with memory on them. The engine's log only explains why there are none; it decides where NVML
// cannot tell. It ends the reservation of memory, too: the engine has what it needs.
func GPU(ctx context.Context, o GPUOptions) int {
	return o.run(ctx, func() error { return dropPrivileges(overflowID) })
}

// run calls unprivileged before it reads the log.
func (o GPUOptions) run(ctx context.Context, unprivileged func() error) int {
	w, err := watch(o.MainPID)
	switch {
	case errors.Is(err, errGone):
		o.Log.Println("the engine ended after it had answered")
		return exit.EngineGone
	case err != nil:
		o.Log.Println(err)
		return exit.Failed
	}
	defer w.close()
	w.stream = journalStream(w.pidfd, journalSocket)
	var p proof
	if o.Proof != pool.ProofOff {
		var gone bool
		if p, gone, err = o.prove(ctx, w); gone || err != nil {
			o.Log.Println(cmp.Or(err, errors.New("the engine ended after it had answered")))
			return exit.EngineGone
		}
	}
	if p.lacks == "" {
		Release(ctx, o.Socket, o.Log)
	}
	if err := unprivileged(); err != nil {
		o.Log.Println(err)
		return exit.Failed
	}
	return o.verdict(ctx, p, w.stream)
}

// prove asks until there is an answer, or the engine ends.
func (o GPUOptions) prove(ctx context.Context, w *watched) (p proof, gone bool, err error) {
	began := time.Now()
	for {
		p = o.ask(ctx)
		waited := time.Since(began)
		switch {
		case ctx.Err() != nil:
			return p, false, errors.New("terminated while the engine's GPU memory was looked for")
		case p.holds != "", p.final, p.unknown != "" && waited >= doubtWait, waited+proveAgain > o.Wait:
			return p, false, nil
		}
		if gone, err = w.sleep(proveAgain); gone || err != nil {
			return p, gone, err
		}
	}
}

// ask asks pool-gpu once.
func (o GPUOptions) ask(ctx context.Context) proof {
	ctx, cancel := context.WithTimeout(ctx, proveWithin)
	defer cancel()
	reply, err := client.Ask(ctx, o.Socket, wire.Request{Op: wire.OpHeld, Devices: o.Devices})
	if err != nil {
		return proof{unknown: err.Error(), final: true}
	}
	return proofOf(reply.Held, o.Proof == pool.ProofAny)
}

// proofOf reads an answer; enough is one device, or all of them. A device that certainly has no
// process counts before one of which nothing is known, unless one is enough.
func proofOf(held []wire.Held, one bool) proof {
	var holds, lacks, unknown []string
	for _, h := range held {
		switch {
		case h.Processes > 0 && h.Used != nil:
			holds = append(holds, ram.Size(*h.Used)+" of "+h.Device)
		case h.Processes > 0:
			holds = append(holds, "memory of "+h.Device)
		case h.Unknown != "":
			unknown = append(unknown, h.Device+": "+h.Unknown)
		default:
			lacks = append(lacks, h.Device)
		}
	}
	text := strings.Join(holds, ", ")
	switch {
	case len(holds) == len(held), one && len(holds) > 0:
		return proof{holds: text}
	case len(lacks) > 0 && (!one || len(unknown) == 0):
		p := proof{lacks: "NVML lists no process of this unit with memory of " + strings.Join(lacks, ", ")}
		if text != "" {
			p.lacks += " (it holds " + text + ")"
		}
		return p
	}
	return proof{unknown: strings.Join(unknown, "; ")}
}

// verdict returns the exit status for a proof, and reads the log where it has a part in that.
func (o GPUOptions) verdict(ctx context.Context, p proof, stream int) int {
	g := &gpuLog{kind: o.Engine, invocation: o.Invocation, journalctl: cmp.Or(o.journalctl, "journalctl"),
		stream: stream, within: cmp.Or(o.logWithin, logWithin), log: o.Log}
	switch {
	case p.lacks != "":
		g.fallbacks = engines.Fallbacks(o.Engine)
		found := g.search(ctx, "looking for the reason in the engine's log: "+p.lacks)
		o.Log.Println("the engine was given a GPU that it does not use: " + p.lacks +
			prefixed("; ", cmp.Or(found.onCPU, found.none())))
		return exit.HoldsNoGPU
	case p.unknown != "":
		g.fallbacks = engines.Fallbacks(o.Engine)
		found := g.search(ctx, "could not check whether the engine holds GPU memory, its log decides: "+p.unknown)
		if found.onCPU != "" {
			o.Log.Println("the engine was given a GPU and runs without it: " + found.onCPU)
			return exit.NoGPU
		}
		return o.layers(found)
	}
	text := "the use of the GPU is not checked, as the pool's file asks"
	if p.holds != "" {
		text = "the engine holds GPU memory: " + p.holds
	}
	if !engines.Offloads(o.Engine) || p.holds == "" && !o.Whole {
		o.Log.Println(text)
		return exit.Ready
	}
	return o.layers(g.search(ctx, text))
}

// layers returns the exit status for the layers that the log reports. No layer at all where the
// pool asks for some is a fallback, even of an engine that holds a CUDA context.
func (o GPUOptions) layers(found logged) int {
	if why := found.none(); why != "" && o.Layers.Model > 0 && o.Proof != pool.ProofOff {
		o.Log.Println("the engine was given a GPU and runs without it: " + why)
		return exit.NoGPU
	}
	for i, offload := range found.models {
		if o.Layers.Satisfied(i, offload) {
			continue
		}
		if o.Whole {
			o.Log.Println("the engine left a part of the model to the CPU, which [policy] vram_only forbids: " +
				found.layers())
			return exit.PartOnCPU
		}
		o.Log.Println("the engine left a part of the model to the CPU: " + found.layers())
		break
	}
	return exit.Ready
}

// prefixed returns a text behind a prefix, "" for none.
func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
