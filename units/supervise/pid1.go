package supervise

import (
	"context"
	"errors"
	"syscall"

	"github.com/pool-managerd/pool-managerd/systemd"
)

// Systemd is the real PID 1: the few shapes that the supervisor needs around systemd's client.
type Systemd struct {
	Client *systemd.Client
}

// Run implements PID1.
func (c Systemd) Run(ctx context.Context, deliver func(systemd.Update)) error {
	return c.Client.Run(ctx, deliver)
}

// Start implements PID1.
func (c Systemd) Start(ctx context.Context, unit string, props []systemd.Property) (func(context.Context) error, error) {
	job, err := c.Client.StartTransient(ctx, unit, props)
	if err != nil {
		return nil, err
	}
	return job.Wait, nil
}

// Stop implements PID1. A unit that is gone already is stopped.
func (c Systemd) Stop(ctx context.Context, unit string) error {
	job, err := c.Client.Stop(ctx, unit)
	if errors.Is(err, systemd.ErrNoSuchUnit) {
		return nil
	}
	if err != nil {
		return err
	}
	return job.Wait(ctx)
}

// Clear implements PID1.
func (c Systemd) Clear(ctx context.Context, unit string) error { return c.Client.Clear(ctx, unit) }

// Adopt implements PID1.
func (c Systemd) Adopt(ctx context.Context, unit string) error { return c.Client.Ref(ctx, unit) }

// SetProperties implements PID1.
func (c Systemd) SetProperties(ctx context.Context, unit string, props []systemd.Property) error {
	return c.Client.SetProperties(ctx, unit, props)
}

// Hasten implements PID1: a start job for a unit that waits for its restart starts it at once.
func (c Systemd) Hasten(ctx context.Context, unit string) error {
	_, err := c.Client.Start(ctx, unit)
	return err
}

// Kill implements PID1.
func (c Systemd) Kill(ctx context.Context, unit string) error {
	return c.Client.Kill(ctx, unit, "all", syscall.SIGKILL)
}

// ResetCounters implements PID1.
func (c Systemd) ResetCounters(ctx context.Context, unit string) error {
	return c.Client.ResetFailed(ctx, unit)
}

// Unit implements PID1. A unit that PID 1 does not know is a status that is not loaded, not an error.
func (c Systemd) Unit(ctx context.Context, unit string) (systemd.Status, error) {
	st, err := c.Client.Unit(ctx, unit)
	if errors.Is(err, systemd.ErrNoSuchUnit) {
		return systemd.Status{Name: unit}, nil
	}
	return st, err
}
