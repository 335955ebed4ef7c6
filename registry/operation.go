package registry

import "time"

// Drain is what an operator asked for: the pool is emptied and stopped, and not started until it is resumed.
type Drain struct {
	Since   time.Time
	Until   time.Time // its deadline
	Restart bool      // it is started again once it has stopped
}

// Override is what an operator asks a pool to serve in place of what its file says.
type Override struct {
	ModelID string
	Digest  string
	Since   time.Time
}

// Reload is a pool on its way to another version.
type Reload struct {
	ModelID string // of the version that it goes to
	Phase   string // as docs/reference/reload.md lists them
	Since   time.Time
	Back    bool // it failed, and goes back to the former version
}
