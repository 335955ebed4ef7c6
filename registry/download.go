package registry

import "time"

// Download is a model that is downloaded without a pool that waits for it: an operator asked for
// it, or pools will change to it later.
type Download struct {
	Model    string   // reference
	Pools    []string // whose prefetch names it
	By       string   // who asked for it; empty: no one did
	State    DownloadState
	Progress *Staging // nil: nothing is known yet
	Path     string   // where it is, once it is there
	Failure  *Failure // why it ended, or is tried again
	Changed  time.Time
}

// DownloadState is how far a download is.
type DownloadState string

// The states. The last three are final.
const (
	DownloadQueued    DownloadState = "queued"  // others go first
	DownloadRunning   DownloadState = "running" // it makes progress, or waits for its next attempt
	DownloadDone      DownloadState = "done"
	DownloadFailed    DownloadState = "failed"    // asking again is useless without a change
	DownloadCancelled DownloadState = "cancelled" // what is on disk is kept
)

// Ended reports whether nothing is done about it any longer.
func (s DownloadState) Ended() bool {
	return s == DownloadDone || s == DownloadFailed || s == DownloadCancelled
}
