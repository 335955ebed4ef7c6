package wire

import (
	"errors"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
)

// Operation is what became of an operator's request within the time that its caller waited.
type Operation struct {
	Done  bool    `json:"done"`  // it is over; else it goes on
	Error *string `json:"error"` // why it failed; null: it did not, or it is not over
}

// Ended reports whether an operation on a pool is over, by the pool's status after the request was
// saved, and why it failed.
type Ended func(Pool) (over bool, failure error)

// lost are the states that a pool leaves only when someone changes something.
var lost = []registry.State{registry.StateFailed, registry.StateInvalid, registry.StateRefused}

// Served ends a resume, a restart and a reset: the pool serves. One that waits for its backoff or
// for memory may still become ready; one that has failed counts as an error.
func Served(p Pool) (bool, error) {
	switch {
	case p.Drain != nil && !p.Drain.Restart:
		return true, errors.New("it was drained meanwhile")
	case p.Drain != nil:
		return false, nil
	case slices.Contains(lost, registry.State(p.State)):
		why := "it is " + p.State
		if p.LastError != nil {
			why += ": " + *p.LastError
		}
		return true, errors.New(why)
	}
	return p.Ready, nil
}

// Drained ends a drain: nothing of the pool runs. A pool that the policy refuses, or whose file is
// wrong, does not become stopped.
func Drained(p Pool) (bool, error) {
	switch {
	case p.State == string(registry.StateRefused), p.State == string(registry.StateInvalid):
		return !p.Live, nil
	case p.Drain == nil:
		return true, errors.New("it was resumed meanwhile")
	case p.State != string(registry.StateStopped):
		return false, nil
	case p.LastError != nil && strings.HasPrefix(*p.LastError, string(registry.CodeDrainTimeout)):
		return true, errors.New(*p.LastError)
	}
	return true, nil // drained, even with another error
}

// Reloaded ends a reload, done or rolled back.
func Reloaded(p Pool) (bool, error) {
	switch {
	case p.Reload != nil:
		return false, nil
	case p.LastError != nil && p.Ready:
		return true, errors.New("the former version serves: " + *p.LastError)
	}
	return Served(p)
}

// Gone ends a removal, which is over when there is no pool.
func Gone(Pool) (bool, error) { return false, nil }
