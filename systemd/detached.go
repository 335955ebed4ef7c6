package systemd

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// detachedTries bounds how often a unit is looked for again that ended between the look and the
// call.
const detachedTries = 5

// RunDetached runs a transient unit of Type=oneshot that this process may leave: when ctx or the
// process ends, the unit goes on. A unit of that name that runs already, for a former manager, is
// joined and none is started. fresh is called before a start, and not before a join. It returns the
// unit's last status when it has ended, however that was. ErrDisconnected: PID 1 went away
// meanwhile; call it again.
func (c *Client) RunDetached(ctx context.Context, unit string, props []Property, fresh func() error) (Status, error) {
	job, err := c.startDetached(ctx, unit, props, fresh)
	if err != nil {
		return Status{}, err
	}
	defer c.endHelper(ctx, unit, false)
	err = job.Wait(ctx)
	var ended *JobError
	if errors.As(err, &ended) {
		err = nil // the status says how
	}
	if err != nil {
		return Status{}, err
	}
	return c.Unit(ctx, unit)
}

// startDetached returns the start job of the unit, new or found.
func (c *Client) startDetached(ctx context.Context, unit string, props []Property, fresh func() error) (*Job, error) {
	props = slices.Concat(props, []Property{{Name: "AddRef", Value: true}}) // its status stays readable
	var err error
	for range detachedTries {
		var there []Listed
		if there, err = c.List(ctx, unit); err != nil {
			return nil, err
		}
		var job *Job
		if slices.ContainsFunc(there, running) {
			job, err = c.joinStart(ctx, unit)
		} else {
			if err := fresh(); err != nil {
				return nil, err
			}
			job, err = c.StartTransient(ctx, unit, props)
		}
		if !errors.Is(err, ErrUnitExists) && !errors.Is(err, ErrNoSuchUnit) {
			return job, err
		}
	}
	return nil, fmt.Errorf("%s comes and goes: %w", unit, err)
}

func running(u Listed) bool {
	return !slices.Contains([]string{"inactive", "failed"}, u.ActiveState)
}

// joinStart returns the start job of a unit that is being started: PID 1 merges a second one into
// it.
func (c *Client) joinStart(ctx context.Context, unit string) (*Job, error) {
	if err := c.Ref(ctx, unit); err != nil {
		return nil, err
	}
	job, err := c.Start(ctx, unit)
	if err != nil {
		c.endHelper(ctx, unit, false)
	}
	return job, err
}
