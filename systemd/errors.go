package systemd

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

var (
	// ErrDisconnected means that the bus or PID 1 went away before it answered, or that there is no
	// connection now. The result is unknown: the call may have been executed. Read the state (the
	// next Synced update has it) before trying again.
	ErrDisconnected = errors.New("no answer from PID 1: connection lost")

	// ErrNoSuchUnit means that PID 1 has no such unit loaded.
	ErrNoSuchUnit = errors.New("no such unit")

	// ErrUnitExists means that a unit of this name is loaded and is not a failed one to be
	// replaced.
	ErrUnitExists = errors.New("the unit exists already")

	// ErrNotReferenced means that this connection has no reference to drop.
	ErrNotReferenced = errors.New("the unit is not referenced by this connection")

	// ErrJobExists means that another job of the unit is queued or runs, and goes on.
	ErrJobExists = errors.New("the unit has another job")

	// ErrFrozen means that the unit is frozen (systemctl freeze): PID 1 does not stop or start it.
	ErrFrozen = errors.New("the unit is frozen")

	// errBusy means that a unit of this name runs or has failed, and lacks its file: PID 1 does not
	// let it change its slice.
	errBusy = errors.New("the unit has not ended, and its file is gone")

	// ErrAccessDenied means that the bus, PID 1 or polkit refuses this caller.
	ErrAccessDenied = errors.New("access denied by PID 1 or the message bus")
)

// CallError is an error message that answered a method call.
type CallError struct {
	Method string // the member that was called, "StartTransientUnit"
	Name   string // the D-Bus error name, "org.freedesktop.systemd1.NoSuchUnit"
	Text   string // the peer's message, possibly empty
}

func (e *CallError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("%s: %s", e.Method, e.Name)
	}
	return fmt.Sprintf("%s: %s (%s)", e.Method, e.Text, e.Name)
}

// Is classifies by the error's name, never by its text, which is translated and reworded.
func (e *CallError) Is(target error) bool {
	switch e.Name {
	case "org.freedesktop.systemd1.NoSuchUnit":
		return target == ErrNoSuchUnit
	case "org.freedesktop.systemd1.NotReferenced":
		return target == ErrNotReferenced
	case "org.freedesktop.systemd1.UnitExists":
		return target == ErrUnitExists
	case "System.Error.EBUSY", "org.freedesktop.systemd1.LoadFailed":
		return target == errBusy
	case "org.freedesktop.systemd1.TransactionIsDestructive":
		return target == ErrJobExists
	case "org.freedesktop.DBus.Error.AccessDenied",
		"org.freedesktop.DBus.Error.AuthFailed",
		"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired":
		return target == ErrAccessDenied
	// dbus-daemon's answers for a peer that is gone: while PID 1 reexecutes, the name has no owner,
	// and calls that it had not answered end in NoReply.
	case "org.freedesktop.DBus.Error.NoReply",
		"org.freedesktop.DBus.Error.Disconnected",
		"org.freedesktop.DBus.Error.NameHasNoOwner",
		"org.freedesktop.DBus.Error.ServiceUnknown":
		return target == ErrDisconnected
	}
	return false
}

// absent reports whether an answer means that the unit, or this property of it, does not exist.
func absent(err error) bool {
	var e *CallError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Name {
	case "org.freedesktop.systemd1.NoSuchUnit",
		"org.freedesktop.DBus.Error.UnknownObject",
		"org.freedesktop.DBus.Error.UnknownInterface",
		"org.freedesktop.DBus.Error.UnknownProperty":
		return true
	}
	return false
}

// callFailed converts godbus's error of a finished call into one of this package.
func callFailed(method string, err error) error {
	if err == nil {
		return nil
	}
	var remote dbus.Error
	if errors.As(err, &remote) {
		text := ""
		if len(remote.Body) > 0 {
			text, _ = remote.Body[0].(string)
		}
		return &CallError{Method: method, Name: remote.Name, Text: text}
	}
	// A value that cannot be put on the wire (invalid UTF-8, a NUL byte) never left this process.
	var format dbus.FormatError
	var invalid dbus.InvalidMessageError
	if errors.As(err, &format) || errors.As(err, &invalid) {
		return fmt.Errorf("%s: not sent: %w", method, err)
	}
	return fmt.Errorf("%s: %w: %w", method, ErrDisconnected, err)
}

// callEnded is the error of a caller whose context ended first. The call continues: its result is
// unknown, as with ErrDisconnected.
func callEnded(ctx context.Context, method string) error {
	return fmt.Errorf("%s: no answer yet: %w", method, context.Cause(ctx))
}

// JobError is a job that ended with another result than "done".
type JobError struct {
	Unit   string
	Type   string // "start", "stop", "restart"
	Result string // "failed", "timeout", "canceled", "dependency", "skipped", …
}

func (e *JobError) Error() string {
	return fmt.Sprintf("%s job of %s ended as %q", e.Type, e.Unit, e.Result)
}

// Is classifies by the result.
func (e *JobError) Is(target error) bool { return e.Result == "frozen" && target == ErrFrozen }
