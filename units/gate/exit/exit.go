// Package exit names the exit statuses of pool-gate, which the manager reads back from PID 1 to
// tell why a start failed.
//
// It owns the numbers, and by what the gate's lines are told from its engine's, and nothing else,
// so that the manager knows them without the gate's own code, which executes journalctl.
package exit

// Exit statuses.
const (
	Ready       = 0
	Failed      = 1 // the gate itself could not work
	Usage       = 2
	EngineGone  = 3 // the engine's main process ended while it loaded
	Stalled     = 4 // the load made no progress for too long
	ForeignPort = 5 // another process listens on the engine's port

	InsufficientVRAM = 6 // the step before the engine: a GPU has too little free memory
	InsufficientRAM  = 7 // the host has
	NoGPU            = 8 // the engine has GPUs and runs on the CPU
)

// Says begins each line of the gate's in the journal, where it stands among its engine's: PID 1
// gives the lines of a unit one identifier.
const Says = "pool-gate: "
