// Package health tracks how far each GPU may be used, from verdicts and from the facts of each
// sample.
//
// It owns the states and the rules that change them: verdicts only make a GPU's health worse, and
// only a clean re-probe makes it better. A verdict that is text alone has no effect while NVML
// answers for the GPU (hints.go). It is pure: no clock, no goroutine, no I/O; the owner of a
// Tracker calls it from one goroutine. It must not know pools, nor decide what happens to engines.
// Nothing is kept over a restart of the daemon: the next sample and the kernel's log of this boot
// report what is still wrong.
package health

import (
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// Health is a GPU's health, named as in the registry.
type Health string

// The states of health, from the best to the worst.
const (
	OK       Health = "healthy"
	Unknown  Health = "unknown"     // never seen, or its facts are old: engines continue
	Degraded Health = "degraded"    // it works, with a fault: engines continue
	Reset    Health = "needs-reset" // no engine may use it until it was reset
	Lost     Health = "lost"        // it does not answer, or has disappeared
	Host     Health = "host"        // the host must be repaired first
)

// Usable reports whether engines may use the GPU.
func (h Health) Usable() bool { return h.rank() <= Degraded.rank() }

func (h Health) rank() int {
	switch h {
	case OK:
		return 0
	case Degraded:
		return 2
	case Reset:
		return 3
	case Lost:
		return 4
	case Host:
		return 5
	}
	return 1 // Unknown
}

// of returns the health that a verdict leads to; OK if it is not about the GPU.
func of(v classify.Verdict) Health {
	switch v.Class {
	case classify.ClassDegraded:
		return Degraded
	case classify.ClassReset:
		if v.Kind == "lost" {
			return Lost
		}
		return Reset
	case classify.ClassHost:
		return Host
	}
	return OK
}

// The bounds of a clean re-probe.
const (
	// A clean re-probe is cleanProbes samples in a row without a fault, the first and the last at
	// least cleanSpan apart. A failing GPU may answer one sample well; a second error usually
	// follows within seconds.
	cleanProbes = 3
	cleanSpan   = 5 * time.Second
	// quiet is the time without another report after which a degraded GPU is healthy again: the
	// state stays visible to operators for so long.
	quiet = 10 * time.Minute
	// unknownAfter is the age from which facts say nothing about a GPU's health; each restart of
	// the helper causes shorter gaps.
	unknownAfter = 30 * time.Second
)

// State is the health of one GPU or MIG partition.
type State struct {
	Health Health
	Since  time.Time         // when Health was entered
	Cause  *classify.Verdict // why; nil: no known fault
}

// Change is a change of a GPU's health.
type Change struct {
	Device   string // UUID of the GPU
	From, To Health
	Cause    *classify.Verdict // of To; nil: To is OK
}

// Noted is the result of recording a verdict.
type Noted struct {
	Verdict classify.Verdict // with Device filled in if its PCI address is known
	// Fresh: not a second report of the same fault from another source (the driver reports an Xid
	// as an event and in the kernel's log). Only fresh ones are counted.
	Fresh   bool
	Changes []Change
	// Asks: it is text alone and changes nothing yet; NVML should be asked now.
	Asks bool
}
