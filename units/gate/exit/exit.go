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

	Background = 9 // as EngineGone, and processes that it had started still run

	HoldsNoGPU = 12 // NVML lists no process of the engine on a GPU that it was given
	PartOnCPU  = 13 // the engine left layers to the CPU, which the host's policy forbids

	NotExecuted = 203 // the engine could not be executed: PID 1's own status for it (systemd.exec(5))
)

// LogPrefix begins each line that the gate logs. The engine's lines have the same identifier in the
// journal.
const LogPrefix = "pool-gate: "
