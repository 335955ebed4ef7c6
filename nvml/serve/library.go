package serve

import (
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// Library is NVML as the server needs it; package driver has the real one. Every error is a
// *nvml.Problem. Any method but Call may hang if the driver does. One goroutine calls Open, Sample,
// Watch, Unwatch and Close; another one calls Wait, between Watch and Unwatch.
type Library interface {
	// Open starts a session, unless one is open.
	Open() error
	// Sample reads everything. An error is about the driver as a whole: the session is unusable.
	Sample() (*nvml.Snapshot, error)
	// Close ends the session, if one is open.
	Close()
	// Watch registers for events; earlier events are lost.
	Watch() error
	// Watching reports whether Wait may be called: it is false if the driver has no events.
	Watching() bool
	// Wait returns one event, or nil after timeout.
	Wait(timeout time.Duration) (*nvml.Event, error)
	// Unwatch undoes Watch.
	Unwatch()
	// Call returns the running call, other than Wait, and its start; "": none. It is safe for
	// concurrent use.
	Call() (name string, since time.Time)
}
