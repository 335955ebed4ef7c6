// Package exit names the exit statuses of pool-gate, from which the manager learns why a start
// failed.
//
// It owns these numbers and the prefix of the gate's log lines. It is a package of its own so that
// the manager does not import the gate's code, which executes journalctl.
package exit

// Exit statuses.
const (
	Ready       = 0
	Failed      = 1 // the gate itself failed
	Usage       = 2
	EngineGone  = 3 // the engine's main process ended while it loaded
	Stalled     = 4 // the load made no progress for too long
	ForeignPort = 5 // another process listens on the engine's port

	InsufficientVRAM = 6 // the step before the engine: a GPU has too little free memory
	InsufficientRAM  = 7 // the host has too little free main memory
	NoGPU            = 8 // the engine was given a GPU and runs on the CPU

	Background = 9  // as EngineGone, and processes that it had started still run
	Late       = 10 // the load took longer than its deadline

	HoldsNoGPU = 12 // NVML lists no process of the engine on a GPU that it was given
	PartOnCPU  = 13 // the engine left layers to the CPU, which the host's policy forbids
	NoNode     = 14 // the step before the engine: a device node of a GPU does not exist

	NotExecuted = 203 // the engine could not be executed: PID 1's own status for it (systemd.exec(5))
)

// Heard is what an engine that did not become ready answered last, as far as it explains that. It
// is part of the exit status, so that it is known without the journal.
type Heard int

// What was heard.
const (
	Nothing      Heard = iota // nothing that explains it
	NotFound                  // status 404
	Unauthorized              // status 401 or 403
	Redirect                  // a redirect
	OtherStatus               // another status that is not that of an engine that loads
	OtherBody                 // the expected status, and not the expected body
	TLS                       // it speaks TLS
	NotHTTP                   // an answer that is not HTTP
	Mute                      // it accepts connections, and does not answer
	Elsewhere                 // it listens on other addresses only
	Unfinished                // the expected status, and an answer without a proper end
	lastHeard
)

// The statuses of Stalled and Late with something heard begin at these.
const (
	stalledHeard = 20
	lateHeard    = 40
)

// With returns the exit status for Stalled or Late with what was heard.
func With(status int, heard Heard) int {
	switch {
	case heard <= Nothing || heard >= lastHeard:
		return status
	case status == Stalled:
		return stalledHeard + int(heard)
	case status == Late:
		return lateHeard + int(heard)
	}
	return status
}

// Parse returns the two parts of an exit status.
func Parse(status int) (base int, heard Heard) {
	for _, s := range []struct{ base, first int }{{Stalled, stalledHeard}, {Late, lateHeard}} {
		if h := Heard(status - s.first); h > Nothing && h < lastHeard {
			return s.base, h
		}
	}
	return status, Nothing
}

// LogPrefix begins each line that the gate logs. The engine's lines have the same identifier in the
// journal.
const LogPrefix = "pool-gate: "

// HeardSeparator is before the gate's words for what it heard, at the end of a line.
const HeardSeparator = "; seen: "
