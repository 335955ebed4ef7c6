// Package health tracks how far each GPU may be used, from verdicts and from the facts of each
// sample.
//
// It owns the states and the rules by which a GPU gets worse and better again: verdicts only make
// it worse, and only a clean re-probe makes it better. It is pure: no clock, no goroutine, no I/O;
// the owner of a Tracker calls it from one goroutine. It must not know pools, nor decide what is
// done to engines. Nothing is kept over a restart of the daemon: what still is wrong, the next
// sample or the kernel's log of this boot says again.
package health

import (
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// Health is how far a GPU may be used; the registry's words.
type Health string

// The healths, from the best to the worst.
const (
	OK       Health = "healthy"
	Unknown  Health = "unknown"     // never seen, or its facts are old: engines go on
	Degraded Health = "degraded"    // it works, and something is wrong with it: engines go on
	Reset    Health = "needs-reset" // no engine may use it until it was reset
	Lost     Health = "lost"        // it does not answer, or is gone
	Host     Health = "host"        // the host must be fixed first
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

// of is the health that a verdict leads to; OK for one that says nothing of the GPU.
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
	// cleanProbes and cleanSpan: so many samples in a row without a fault, the first and the last
	// at least so far apart. A GPU that is about to fail answers one sample well; a second error
	// comes within seconds as a rule.
	cleanProbes = 3
	cleanSpan   = 5 * time.Second
	// quiet is how long nothing may have been said against a GPU that was only reported, so that
	// the word stays visible to someone who looks.
	quiet = 10 * time.Minute
	// unknownAfter is the age from which facts no longer say anything of a GPU's health; shorter
	// gaps come with each restart of the helper.
	unknownAfter = 30 * time.Second
)

// State is one GPU's, or one MIG partition's.
type State struct {
	Health Health
	Since  time.Time         // when Health was entered
	Cause  *classify.Verdict // why; nil where nothing is known against it
}

// Change is a GPU that got another health.
type Change struct {
	Device   string // UUID of the GPU
	From, To Health
	Cause    *classify.Verdict // of To; nil where To is OK
}

// Noted is what became of a verdict.
type Noted struct {
	Verdict classify.Verdict // with Device filled in where its PCI address was known
	// Fresh: not a second report of the same fault from another source (the driver reports an Xid
	// as an event and in the kernel's log). Only fresh ones are counted.
	Fresh   bool
	Changes []Change
}
