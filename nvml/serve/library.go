package serve

import (
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// Library is NVML as the server needs it; package driver has the real one. Every error is a
// *nvml.Problem. Any method but Call may hang for as long as the driver likes. One goroutine calls
// Open, Sample, Watch, Unwatch and Close; another one calls Wait, between Watch and Unwatch.
type Library interface {
	// Open starts a session, and does nothing in one.
	Open() error
	// Sample reads everything. Its error is about the driver as a whole: the session is unusable
	// use.
	Sample() (*nvml.Snapshot, error)
	// Close ends the session, and does nothing without one.
	Close()
	// Watch registers for events; what happened before is lost.
	Watch() error
	// Watching reports whether Wait may be called: false also where the driver has no events.
	Watching() bool
	// Wait returns one event, or nil after timeout.
	Wait(timeout time.Duration) (*nvml.Event, error)
	// Unwatch undoes Watch, and does nothing without it.
	Unwatch()
	// Call names the call that runs now other than Wait, and since when; "" for none. Any goroutine
	// may ask.
	Call() (name string, since time.Time)
}
