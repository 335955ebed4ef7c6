package main

import (
	"context"
	"errors"
	"syscall"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// pid1 implements supervise.PID1 with systemd's client.
type pid1 struct {
	client *systemd.Client
}

// Run implements supervise.PID1.
func (c pid1) Run(ctx context.Context, deliver func(systemd.Update)) error {
	return c.client.Run(ctx, deliver)
}

// Start implements supervise.PID1.
func (c pid1) Start(ctx context.Context, unit string, props []systemd.Property) (func(context.Context) error, error) {
	job, err := c.client.StartTransient(ctx, unit, props)
	if err != nil {
		return nil, err
	}
	return job.Wait, nil
}

// Stop implements supervise.PID1. A unit that is gone already is stopped, and one that is frozen is
// thawed first.
func (c pid1) Stop(ctx context.Context, unit string) error {
	return c.thawed(ctx, unit, func() error {
		job, err := c.client.Stop(ctx, unit)
		return stopped(ctx, job, err)
	})
}

// StopWaiting implements supervise.PID1.
func (c pid1) StopWaiting(ctx context.Context, unit string) error {
	return c.thawed(ctx, unit, func() error {
		job, err := c.client.StopWaiting(ctx, unit)
		return stopped(ctx, job, err)
	})
}

// thawed stops a unit, again after it was thawed where PID 1 refuses because it is frozen.
func (c pid1) thawed(ctx context.Context, unit string, stop func() error) error {
	err := stop()
	if !errors.Is(err, systemd.ErrFrozen) {
		return err
	}
	if thawErr := c.client.Thaw(ctx, unit); thawErr != nil {
		return errors.Join(err, thawErr)
	}
	return stop()
}

// stopped waits for a stop job.
func stopped(ctx context.Context, job *systemd.Job, err error) error {
	if errors.Is(err, systemd.ErrNoSuchUnit) {
		return nil
	}
	if err != nil {
		return err
	}
	return job.Wait(ctx)
}

// Clear implements supervise.PID1.
func (c pid1) Clear(ctx context.Context, unit string) error { return c.client.Clear(ctx, unit) }

// Adopt implements supervise.PID1.
func (c pid1) Adopt(ctx context.Context, unit string) error { return c.client.Ref(ctx, unit) }

// SetProperties implements supervise.PID1.
func (c pid1) SetProperties(ctx context.Context, unit string, props []systemd.Property) error {
	return c.client.SetProperties(ctx, unit, props)
}

// Kill implements supervise.PID1.
func (c pid1) Kill(ctx context.Context, unit string) error {
	return c.client.Kill(ctx, unit, "all", syscall.SIGKILL)
}

// ResetCounters implements supervise.PID1.
func (c pid1) ResetCounters(ctx context.Context, unit string) error {
	return c.client.ResetFailed(ctx, unit)
}

// Unit implements supervise.PID1. A unit that PID 1 does not know has the status "not loaded"; it
// is not an error.
func (c pid1) Unit(ctx context.Context, unit string) (systemd.Status, error) {
	st, err := c.client.Unit(ctx, unit)
	if errors.Is(err, systemd.ErrNoSuchUnit) {
		return systemd.Status{Name: unit, Position: st.Position}, nil
	}
	return st, err
}

// HoldPort implements supervise.PID1. A socket whose file was deleted before PID 1 reloaded is
// stopped first: PID 1 gives no unit that runs another file, and would not stop it after it tried.
func (c pid1) HoldPort(ctx context.Context, p *render.Port) error {
	there, err := c.client.List(ctx, p.Socket.Name)
	for _, u := range there {
		if held, ok := pool.ParsePort(u.Name); ok && u.LoadState != "loaded" {
			err = errors.Join(err, c.ReleasePort(ctx, held))
		}
	}
	if err != nil {
		return err
	}
	job, err := c.client.StartTransient(ctx, p.Socket.Name, p.Socket.Properties(),
		systemd.Auxiliary{Name: p.Service.Name, Properties: p.Service.Properties()})
	if err == nil {
		return job.Wait(ctx)
	}
	if !errors.Is(err, systemd.ErrUnitExists) {
		return err
	}
	there, listed := c.client.List(ctx, p.Socket.Name)
	for _, u := range there {
		if u.ActiveState == "active" {
			return nil
		}
	}
	return errors.Join(err, listed)
}

// HeldPorts implements supervise.PID1.
func (c pid1) HeldPorts(ctx context.Context) ([]pool.Port, error) {
	units, err := c.client.List(ctx, pool.PortPattern)
	var held []pool.Port
	for _, u := range units {
		if p, ok := pool.ParsePort(u.Name); ok {
			held = append(held, p)
		}
	}
	return held, err
}

// ReleasePort implements supervise.PID1. The service ends with the socket; its name is free for the
// next only when it has ended.
func (c pid1) ReleasePort(ctx context.Context, p pool.Port) error {
	return errors.Join(c.Stop(ctx, p.Socket()), c.Stop(ctx, p.Service()))
}
