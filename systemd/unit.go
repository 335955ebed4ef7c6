// Package systemd is PID 1 as this program uses it: a thin client on the message bus that starts,
// stops and watches units by signals, the sockets that PID 1 passes to a service, its
// notifications, and the journal.
//
// It owns D-Bus: no other package imports godbus. It must not know pools, engines or GPUs.
package systemd

import (
	"slices"
	"time"
)

// Property is one property of a transient unit, named as in org.freedesktop.systemd1(5). Value
// has the Go type of the property's D-Bus signature: string (s), bool (b), int32 (i), uint32 (u),
// int64 (x), uint64 (t), float64 (d), []string (as), []byte (ay), [][]byte (aay: LogExtraFields),
// *os.File (h), a SetFilter, an ExitStatusSet, or a slice of one of the structs in this package.
// Any other type is refused before anything is sent.
type Property struct {
	Name  string
	Value any
}

// ExecCommand is an element of ExecStartEx, ExecStartPostEx, …: a(sasas) on the bus. Flags are
// those of systemd's exec_command_flags: "ignore-failure", "privileged", "no-setuid",
// "no-env-expand".
type ExecCommand struct {
	Path  string
	Args  []string // with argv[0]
	Flags []string
}

// AddressPrefix is an element of IPAddressAllow and IPAddressDeny: a(iayu) on the bus.
type AddressPrefix struct {
	Family  int32 // AF_INET or AF_INET6
	Address []byte
	Prefix  uint32
}

// BindMount is an element of BindReadOnlyPaths and BindPaths: a(ssbt) on the bus.
type BindMount struct {
	Source        string
	Destination   string
	IgnoreMissing bool
	Flags         uint64 // 0, or MS_REC
}

// PathOptions is an element of TemporaryFileSystem: a(ss) on the bus.
type PathOptions struct {
	Path    string
	Options string
}

// SetFilter is the value of SystemCallFilter and RestrictAddressFamilies and others: (bas) on the
// bus.
type SetFilter struct {
	Allow   bool
	Members []string
}

// ExitStatusSet is the value of SuccessExitStatus and RestartPreventExitStatus: (aiai) on the bus.
type ExitStatusSet struct {
	Statuses []int32
	Signals  []int32
}

// DevicePermission is an element of DeviceAllow: a(ss) on the bus.
type DevicePermission struct {
	Path        string
	Permissions string
}

// Status is PID 1's state of one unit. It is a value; an update carries a new one.
type Status struct {
	Name        string
	Position    Position // in an answer of Client.Unit: what is newer may be missing. Zero in an update
	LoadState   string   // "loaded", "not-found", …
	ActiveState string   // "active", "activating", "deactivating", "inactive", "failed", "reloading"
	// SubState is "running", "start-post", "auto-restart", … Below systemd 254, an update shows
	// "failed-before-auto-restart" in place of "failed", and "dead-before-auto-restart" in place of
	// "dead", until it is known that PID 1 will not restart the unit: each end on the way to a
	// restart passes one of them there.
	SubState string
	Result   string // "success", "exit-code", "signal", "core-dump", "oom-kill", "timeout", "start-limit-hit", …

	MainPID        int
	ExecMainCode   int // CLD_EXITED 1, CLD_KILLED 2, CLD_DUMPED 3 of the last main process; 0: none ended
	ExecMainStatus int // exit status or signal number
	NRestarts      int
	InvocationID   string // 32 hex digits; empty before the first start
	ControlGroup   string

	ActiveEnter   time.Time // CLOCK_REALTIME of the last change to active; zero: never
	InactiveEnter time.Time

	StateChange time.Time // CLOCK_REALTIME of the last change of ActiveState or SubState

	// CLOCK_REALTIME of the start and the end of the last main process (ExecMainStartTimestamp,
	// ExecMainExitTimestamp). MainExited is zero while it runs; both are zero when a start ended
	// before there was one.
	MainStarted time.Time
	MainExited  time.Time

	// Of the last main process, by CLOCK_MONOTONIC: how long it ran (zero while it does); whether
	// its run came as far as "active"; and whether it ended while its unit was active, before PID 1
	// began to stop it: by itself, or by a signal from elsewhere.
	MainRan    time.Duration
	WasActive  bool
	EndedFirst bool

	// How the ExecStartPost command that ended last ended, in the unit's last start: a CLD_ code (1
	// exited, 2 killed, 3 dumped; 0: none ended) and the exit status or the signal. PID 1 does not
	// signal these two; they are read again when the unit fails, stops or waits for a restart.
	PostCode   int
	PostStatus int

	// How the ExecStartPre command that ended last ended, in the same way, and as current. When one
	// fails, neither the main process nor an ExecStartPost command is started, and their codes are
	// 0 (seen on 252, 257 and 262).
	PreCode   int
	PreStatus int

	// Restart delays in µs: RestartSec, and the one that the next restart waits. Zero where PID 1
	// has no such property. RestartUSecNext is not signalled either: it is as current as PostCode.
	RestartUSec     uint64
	RestartUSecNext uint64

	LogFields map[string]string // LogExtraFields
	JobID     uint32            // a queued or running job of the unit; 0: none

	// Properties holds further properties by name, as godbus decodes them: those of Options.Keep in
	// an update, all of them in the answer of Client.Unit. It is not modified after delivery.
	Properties map[string]any
}

// Running reports whether the unit has a main process that PID 1 regards as started.
func (s Status) Running() bool {
	return s.MainPID > 0 && (s.ActiveState == "active" || s.ActiveState == "activating" || s.ActiveState == "reloading")
}

// FailedInStop reports whether a unit failed in a stop: it was active, PID 1 began to stop it while
// its process ran, and does not start it again. The process took too long, or ended with an error.
func (s Status) FailedInStop() bool {
	return s.ActiveState == "failed" && s.WasActive && s.MainRan > 0 && !s.EndedFirst &&
		slices.Contains([]string{"timeout", "exit-code", "signal", "core-dump"}, s.Result)
}

// Loaded reports whether PID 1 knows the unit at all.
func (s Status) Loaded() bool { return s.LoadState != "" && !onlyName(s.LoadState, s.ActiveState) }

// Bare reports whether PID 1 knows the unit without its settings: its file was deleted or masked,
// and PID 1 reloaded. It stops such a unit when asked to, and does not restart it. Its properties,
// LogFields too, are the defaults then, and its limits are no longer in force (seen on 252, 257 and
// 262).
func (s Status) Bare() bool { return s.Loaded() && s.LoadState != "loaded" }
