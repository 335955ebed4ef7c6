package gate

// Exit statuses of pool-gate. The manager reads them back from PID 1 to tell why a start failed.
const (
	ExitReady       = 0
	ExitFailed      = 1 // the gate itself could not work
	ExitUsage       = 2
	ExitEngineGone  = 3 // the engine's main process ended while it loaded
	ExitStalled     = 4 // the load made no progress for too long
	ExitForeignPort = 5 // another process listens on the engine's port
)
