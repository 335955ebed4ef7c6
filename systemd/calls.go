package systemd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/godbus/dbus/v5"
)

// jobMode "replace" lets a new job replace a queued one that conflicts with it. With "fail" PID 1
// refuses it.
const (
	jobMode     = "replace"
	jobModeFail = "fail"
)

// unreferenceMost bounds how many of our references to a replaced unit are dropped.
const unreferenceMost = 16

// manager calls a method of PID 1's manager object.
func (c *Client) manager(ctx context.Context, member string, args ...any) ([]any, error) {
	l, err := c.current(member)
	if err != nil {
		return nil, err
	}
	return l.call(ctx, managerPath, managerInterface, member, args...)
}

// job makes a call that returns a job. It waits for the job's end from before the call.
func (c *Client) job(ctx context.Context, unit, kind, member string, args ...any) (*Job, error) {
	l, epoch, err := c.expectJob(member)
	if err != nil {
		return nil, err
	}
	body, err := l.call(ctx, managerPath, managerInterface, member, args...)
	var path dbus.ObjectPath
	if err := store(body, err, &path); err != nil {
		l.jobs.forget()
		return nil, fmt.Errorf("%s: %w", unit, err)
	}
	return l.jobs.claim(epoch, path, unit, kind), nil
}

// Auxiliary is a unit that is created together with another, and is not started.
type Auxiliary struct {
	Name       string
	Properties []Property
}

// StartTransient creates a unit with the properties and starts it. PID 1 checks all properties
// before it creates anything. A failed or stopped unit of the same name is cleared first, once, and
// one whose file was deleted, too; if another unit has the name, or that of an auxiliary unit, the
// error is ErrUnitExists.
func (c *Client) StartTransient(ctx context.Context, unit string, props []Property, with ...Auxiliary) (*Job, error) {
	wire, err := wireProperties(props)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", unit, err)
	}
	type auxiliary struct {
		Name       string
		Properties []wireProperty
	}
	beside := make([]auxiliary, len(with))
	for i, a := range with {
		beside[i].Name = a.Name
		if beside[i].Properties, err = wireProperties(a.Properties); err != nil {
			return nil, fmt.Errorf("%s: %w", a.Name, err)
		}
	}
	start := func() (*Job, error) {
		return c.job(ctx, unit, "start", "StartTransientUnit", unit, jobMode, wire, beside)
	}
	job, err := start()
	if !errors.Is(err, ErrUnitExists) && !errors.Is(err, errBusy) {
		return job, err
	}
	if cleared := c.Clear(ctx, unit); cleared != nil {
		return nil, errors.Join(err, cleared)
	}
	return start()
}

// Clear makes PID 1 unload a unit that has ended; after nil it may be gone. It does not touch a
// running unit, because ResetFailed would reset its restart counter. It returns when the updates
// that are older than that were delivered.
func (c *Client) Clear(ctx context.Context, unit string) error {
	st, err := c.Unit(ctx, unit)
	if errors.Is(err, ErrNoSuchUnit) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.ActiveState != "failed" && st.ActiveState != "inactive" || st.JobID != 0 {
		return fmt.Errorf("%s is %s (%s)", unit, st.ActiveState, st.SubState)
	}
	if err := c.ResetFailed(ctx, unit); err != nil && !errors.Is(err, ErrNoSuchUnit) {
		return err
	}
	// PID 1 does not collect a referenced unit: drop our own references.
	for range unreferenceMost {
		if c.Unref(ctx, unit) != nil {
			break
		}
	}
	l, err := c.current("Unref")
	if err != nil {
		return err
	}
	return l.pass(ctx, "Unref")
}

// Listed is a unit as a list shows it.
type Listed struct {
	Name        string
	LoadState   string
	ActiveState string
}

// List returns the loaded units whose names match a pattern (glob(7)).
func (c *Client) List(ctx context.Context, pattern string) ([]Listed, error) {
	body, err := c.manager(ctx, "ListUnitsByPatterns", []string{}, []string{pattern})
	rows, err := listedRows(body, err)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", pattern, err)
	}
	units := make([]Listed, len(rows))
	for i, r := range rows {
		units[i] = Listed{r.Name, r.Load, r.Active}
	}
	return units, nil
}

// Start starts a loaded unit.
func (c *Client) Start(ctx context.Context, unit string) (*Job, error) {
	return c.job(ctx, unit, "start", "StartUnit", unit, jobMode)
}

// Stop stops a unit; one that is not loaded is ErrNoSuchUnit.
func (c *Client) Stop(ctx context.Context, unit string) (*Job, error) {
	return c.job(ctx, unit, "stop", "StopUnit", unit, jobMode)
}

// StopWaiting stops a unit that waits for its restart. If PID 1 has begun the restart, the error is
// ErrJobExists and the restart goes on: its job exists until the unit is active.
func (c *Client) StopWaiting(ctx context.Context, unit string) (*Job, error) {
	return c.job(ctx, unit, "stop", "StopUnit", unit, jobModeFail)
}

// Restart stops a unit if it runs, and starts it.
func (c *Client) Restart(ctx context.Context, unit string) (*Job, error) {
	return c.job(ctx, unit, "restart", "RestartUnit", unit, jobMode)
}

// TryRestart restarts a unit that runs, and does nothing about one that does not.
func (c *Client) TryRestart(ctx context.Context, unit string) (*Job, error) {
	return c.job(ctx, unit, "restart", "TryRestartUnit", unit, jobMode)
}

// ResetFailed takes a unit out of "failed" and resets its start limit and its restart counter, also
// those of an active unit. PID 1 sends no signal for it, so the unit is read again and an update
// follows.
func (c *Client) ResetFailed(ctx context.Context, unit string) error {
	_, err := c.manager(ctx, "ResetFailedUnit", unit)
	c.touch(unit)
	return err
}

// Ref keeps a unit loaded as long as this connection lives, or until Unref. References are counted.
func (c *Client) Ref(ctx context.Context, unit string) error {
	_, err := c.manager(ctx, "RefUnit", unit)
	return err
}

// Unref drops one Ref, or the AddRef of a transient unit.
func (c *Client) Unref(ctx context.Context, unit string) error {
	_, err := c.manager(ctx, "UnrefUnit", unit)
	return err
}

// SetProperties changes properties of a loaded unit until the next boot. PID 1 takes resource
// control properties and Description only.
func (c *Client) SetProperties(ctx context.Context, unit string, props []Property) error {
	wire, err := wireProperties(props)
	if err != nil {
		return fmt.Errorf("%s: %w", unit, err)
	}
	const runtime = true
	_, err = c.manager(ctx, "SetUnitProperties", unit, runtime, wire)
	c.touch(unit)
	return err
}

// Thaw undoes systemctl freeze. It is an error for a unit that is not active.
func (c *Client) Thaw(ctx context.Context, unit string) error {
	_, err := c.manager(ctx, "ThawUnit", unit)
	return err
}

// Kill sends a signal to a unit's processes; who is "main", "control" or "all". A frozen unit is
// thawed before: PID 1 neither restarts, stops nor thaws one whose process was killed while it was
// frozen, also after a daemon-reexec (seen on 257 and 262).
func (c *Client) Kill(ctx context.Context, unit string, who string, sig syscall.Signal) error {
	if err := c.Thaw(ctx, unit); errors.Is(err, ErrDisconnected) {
		return err // any other is of a unit that cannot be thawed, or need not
	}
	_, err := c.manager(ctx, "KillUnit", unit, who, int32(sig))
	return err
}

// unitTries bounds the reads of a unit that changes during each.
const unitTries = 4

// Unit reads one unit's status. It returns when the updates that are older were delivered; a newer
// one may be delivered before the caller has the answer, which its Position then shows, also with
// ErrNoSuchUnit. So it must not be called by the consumer of the updates.
//
// It queries each property in a call of its own, all at once: GetAll takes PID 1 ten times as long,
// see statusProperties. No answer of PID 1 shows a unit as failed that it restarts, so nothing
// needs to be confirmed here.
func (c *Client) Unit(ctx context.Context, unit string) (Status, error) {
	l, err := c.current("GetUnit")
	if err != nil {
		return Status{}, fmt.Errorf("%s: %w", unit, err)
	}
	st, err := l.unit(ctx, unit, append([]string{}, c.options.Keep...))
	if err == nil || errors.Is(err, ErrNoSuchUnit) {
		if late := l.pass(ctx, "GetUnit"); late != nil {
			err = late
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", unit, err)
	}
	return st, err
}

func (l *link) unit(ctx context.Context, unit string, keep []string) (Status, error) {
	// Querying the properties of a unit that is not loaded would load it. GetUnit does not.
	there, err := l.callAll(ctx, managerPath, managerInterface, "GetUnit", [][]any{{unit}})
	if err == nil {
		err = there[0].err
	}
	if err != nil {
		st := Status{Name: unit}
		if there != nil {
			st.Position = l.positionOf(there[0].seq)
		}
		return st, err
	}
	for range unitTries {
		var r reading
		values, at, err := l.read(ctx, unit, keep, &r)
		if err != nil {
			return Status{}, err
		}
		st := values.status(unit, keep)
		st.Position = l.positionOf(at)
		if !st.Loaded() {
			return Status{Name: unit, Position: st.Position}, ErrNoSuchUnit
		}
		if !r.torn {
			return st, nil
		}
	}
	return Status{}, fmt.Errorf("it changed during each of %d reads", unitTries)
}

// read asks for each property of a status, which is as old as the first answer. The properties that
// identify a run are queried twice, and compared in r.
func (l *link) read(ctx context.Context, unit string, keep []string, r *reading) (properties, dbus.Sequence, error) {
	names := slices.Concat(statusProperties(), runProperties(), keep, []string{"LoadState"})
	names = slices.DeleteFunc(names, func(name string) bool { return l.interfaces[name] == "" })
	calls := make([][]any, len(names))
	for i, name := range names {
		calls[i] = []any{l.interfaces[name], name}
	}
	answers, err := l.callAll(ctx, unitPath(unit), propsInterface, "Get", calls)
	if err != nil {
		return nil, 0, err
	}
	values := make(properties, len(names))
	for i, name := range names {
		var value dbus.Variant
		switch err := store(answers[i].body, answers[i].err, &value); {
		case absent(answers[i].err): // unknown to this PID 1, or the unit is gone
		case err != nil:
			return nil, 0, err
		default:
			values[name] = compact(name, value.Value())
			r.compare(name, value.Value())
		}
	}
	return values, answers[0].seq, nil
}

// touch makes the session read a watched unit again.
func (c *Client) touch(unit string) {
	if l, err := c.current(""); err == nil {
		l.touched.push(unit)
	}
}
