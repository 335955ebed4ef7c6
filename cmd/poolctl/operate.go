package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// operateOptions are the flags of the commands that change a pool.
type operateOptions struct {
	deadline time.Duration
	model    string
	digest   string
	forget   bool
	wait     bool
	// already reports whether a pool is in the requested state before the request; nil: unknown. If
	// it is, there is nothing to wait for, and the result of an earlier call is not reported again.
	already func(wire.Pool) bool
}

// waitFlag adds --wait, which lets a command wait until its request is done.
func (o *operateOptions) waitFlag(cmd *cobra.Command, until string) {
	cmd.Flags().BoolVarP(&o.wait, "wait", "w", false, "wait until "+until+"; exit with status 1 if that fails")
}

func (o *operateOptions) deadlineFlag(cmd *cobra.Command, what string) {
	cmd.Flags().DurationVar(&o.deadline, "deadline", 0, what+", `30s` for example (default the pool's own)")
}

// deadlineMS returns the deadline, nil if none was given.
func (o *operateOptions) deadlineMS(cmd *cobra.Command) (*int64, error) {
	if !cmd.Flags().Changed("deadline") {
		return nil, nil
	}
	if o.deadline < 0 {
		return nil, usage("--deadline is %s; it is a time from now", o.deadline)
	}
	ms := o.deadline.Milliseconds()
	return &ms, nil
}

func newResume(a *app) *cobra.Command {
	var o operateOptions
	cmd := &cobra.Command{
		Use:   "resume POOL",
		Short: "End a drain, and start what was stopped",
		Long: `Resume a pool: a drain in progress ends and the engine keeps running; a pool that was stopped, by a drain or by systemctl
stop, is started again.`,
		Args:              onePool,
		ValidArgsFunction: a.completePool,
	}
	o.waitFlag(cmd, "the pool is ready")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.operating(cmd, args[0], "resume", nil, o, "is ready", ready)
	}
	return cmd
}

func newRestart(a *app) *cobra.Command {
	var o operateOptions
	cmd := &cobra.Command{
		Use:   "restart POOL",
		Short: "Drain a pool, and start it again with new processes",
		Long: `Restart a pool: it is drained as by poolctl drain, with the pool's own deadline, and started again. To change to another
version without an interruption, use poolctl reload.`,
		Args:              onePool,
		ValidArgsFunction: a.completePool,
	}
	o.waitFlag(cmd, "the pool is ready again")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.operating(cmd, args[0], "restart", nil, o, "is ready again", ready)
	}
	return cmd
}

func newReset(a *app) *cobra.Command {
	var o operateOptions
	cmd := &cobra.Command{
		Use:   "reset POOL",
		Short: "Clear a pool's failures, close its breaker, and start now what waits",
		Long: `Reset a pool that failed too often, once its cause is fixed: its breaker closes, its failures are cleared, and replicas
that wait for their backoff are started now.`,
		Args:              onePool,
		ValidArgsFunction: a.completePool,
	}
	o.waitFlag(cmd, "the pool is ready")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.operating(cmd, args[0], "reset", nil, o, "is ready", ready)
	}
	return cmd
}

// ready ends a wait for a pool that serves. A pool that waits for its backoff or for memory may
// still become ready; one that has failed counts as an error.
func ready(p wire.Pool) (bool, error) {
	switch {
	case p.Drain != nil && !p.Drain.Restart:
		return true, errors.New("it was drained meanwhile")
	case p.Drain != nil:
		return false, nil
	case slices.Contains([]string{"failed", "invalid", "refused"}, p.State):
		why := "it is " + clean(p.State)
		if p.LastError != nil {
			why += ": " + clean(*p.LastError)
		}
		return true, errors.New(why)
	}
	return p.Ready, nil
}

// operating requests a change of a pool, waits for its end with --wait, and prints the pool's
// state.
func (a *app) operating(cmd *cobra.Command, id, what string, body any, o operateOptions, done string,
	over func(wire.Pool) (bool, error)) error {
	return do(func(ctx context.Context, _ []string) error {
		c, err := newClient(a.o)
		if err != nil {
			return err
		}
		was := o.isAlready(ctx, c, id)
		p, raw, err := send[wire.Pool](ctx, c, poolPath(id, "/"+what), body)
		if err != nil {
			return c.withNearest(ctx, id, err)
		}
		if was && o.already(p) {
			return a.say(raw, fmt.Sprintf("%s %s", clean(id), done))
		}
		if !o.wait {
			return a.say(raw, fmt.Sprintf("%s: %s in progress; the pool is %s", clean(id), what, clean(p.State)))
		}
		if raw, err = a.await(ctx, c, id, over); err != nil {
			return err
		}
		return a.say(raw, fmt.Sprintf("%s %s", clean(id), done))
	})(cmd, nil)
}

// isAlready reports whether the pool is in the requested state now. If that cannot be read, the
// request itself returns the error.
func (o *operateOptions) isAlready(ctx context.Context, c *client, id string) bool {
	if !o.wait || o.already == nil {
		return false
	}
	p, _, err := read[wire.Pool](ctx, c, poolPath(id, ""))
	return err == nil && o.already(p)
}

// await polls a pool until the request is done, also while the daemon restarts.
func (a *app) await(ctx context.Context, c *client, id string, over func(wire.Pool) (bool, error)) ([]byte, error) {
	for {
		p, raw, err := read[wire.Pool](ctx, c, poolPath(id, ""))
		switch {
		case err == nil:
			if done, why := over(p); done && why != nil {
				return nil, fmt.Errorf("%s: %w", clean(id), why)
			} else if done {
				return raw, nil
			}
		case !isGone(err):
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(a.every / 4):
		}
	}
}

// say prints a sentence, or the pool with -o json.
func (a *app) say(raw []byte, sentence string) error {
	if a.o.output == formatJSON {
		_, err := a.out.Write(cleanJSON(raw))
		return err
	}
	_, err := fmt.Fprintln(a.out, sentence)
	return err
}
