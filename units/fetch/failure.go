package fetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// Failure is why a fetch failed, as its last event reports it. It is an error.
type Failure struct {
	Reason  wire.Reason
	Message string
	Hint    string
	Host    string        // host_denied: which one
	Pause   time.Duration // that the other side asked for; 0: none
	Err     error         // the cause; nil if there is none

	again bool // the same request may succeed in a moment
}

func (f *Failure) Error() string {
	if f.Err == nil {
		return f.Message
	}
	return f.Message + ": " + f.Err.Error()
}

func (f *Failure) Unwrap() error { return f.Err }

// Event returns the failure as an event.
func (f *Failure) Event() wire.Event {
	return wire.Event{Kind: wire.Failed, Reason: f.Reason, Message: f.Error(), Hint: f.Hint, Host: f.Host,
		RetryAfterMS: f.Pause.Milliseconds()}
}

// AsFailure returns the Failure in err, or one around it.
func AsFailure(err error) *Failure {
	var f *Failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.Canceled):
		return &Failure{Reason: wire.Interrupted, Message: "interrupted by a signal; what is on disk is kept"}
	}
	return &Failure{Reason: wire.Network, Message: "the fetch failed", Err: err}
}

// onDisk is the failure of a call on the cache.
func onDisk(err error) error {
	var f *Failure
	switch {
	case err == nil || errors.As(err, &f):
		return err
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return &Failure{Reason: wire.NoSpace, Message: "the cache is full", Err: err,
			Hint: "Free some space, or move cache_dir to a larger file system; what is on disk is kept."}
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS):
		return &Failure{Reason: wire.CacheFailed, Message: "the cache cannot be written", Err: err,
			Hint: "Check owner and mode of the artefact's directory."}
	}
	return &Failure{Reason: wire.CacheFailed, Message: "the cache failed", Err: err,
		Hint: "Check the disk of cache_dir."}
}

// badAnswer is an answer that makes no sense.
func badAnswer(host, format string, args ...any) *Failure {
	return &Failure{Reason: wire.BadAnswer, Message: host + " " + fmt.Sprintf(format, args...), again: true,
		Hint: "Try again later; if it stays so, check what is between this host and " + host + "."}
}
