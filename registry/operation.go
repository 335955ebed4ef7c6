package registry

import "time"

// Drain is a drain by an operator: the pool is drained and stopped, and not started until it is
// resumed.
type Drain struct {
	Since   time.Time
	Until   time.Time // its deadline
	Restart bool      // it is started again once it has stopped
}

// Override is a model that an operator has a pool serve in place of its file's.
type Override struct {
	ModelID string
	Digest  string
	Since   time.Time
}

// Reload is a reload in progress.
type Reload struct {
	ModelID string // of the new version
	Phase   string // as docs/reference/reload.md lists them
	Since   time.Time
	Back    bool // it failed, and is being rolled back
}
