package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

func newDrain(a *app) *cobra.Command {
	var o operateOptions
	var untilRestart bool
	var named selection
	cmd := &cobra.Command{
		Use:   "drain POOL...|--all",
		Short: "Accept no new work, let running work finish, then stop a pool",
		Long: `Drain a pool: it accepts no new work. When no work is left, or at the deadline, its engines are stopped; work that is left
at the deadline is cut. The pool stays stopped, over restarts and reboots, until poolctl resume. A second drain can only
bring the deadline nearer, and changes nothing once the pool has stopped. With --until-restart it stays stopped until the
daemon is started again, as for a removal of the package.`,
		Example: `  poolctl drain llama3 --deadline 2m --wait
  poolctl drain --all --until-restart --wait`,
		Args:              named.args,
		ValidArgsFunction: a.completePools,
	}
	named.allFlag(cmd, "drain every pool of this host")
	cmd.Flags().BoolVar(&untilRestart, "until-restart", false, "end the drain when the daemon is started again")
	o.deadlineFlag(cmd, "how long running work may continue")
	o.waitFlag(cmd, "the pool has stopped")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ms, err := o.deadlineMS(cmd)
		if err != nil {
			return err
		}
		body := wire.DrainRequest{DeadlineMS: ms, UntilRestart: untilRestart}
		if named.all {
			return a.drainAll(cmd, body, o.wait)
		}
		o.already = func(p wire.Pool) bool { return p.Drain != nil && !p.Drain.Restart && p.State == "stopped" }
		return a.operating(cmd, named, change{what: "drain", o: o, done: "is drained", over: wire.Drained,
			send: func(ctx context.Context, c *client.Client, id string) (client.Answer[wire.Pool], error) {
				return c.PostDrain(ctx, id, body, client.PostDrainParams{})
			}})
	}
	return cmd
}

// drainAll drains every pool, and waits for all of them together.
func (a *app) drainAll(cmd *cobra.Command, body wire.DrainRequest, wait bool) error {
	return do(func(ctx context.Context, _ []string) error {
		c, err := newClient(a.o)
		if err != nil {
			return err
		}
		list, err := poolsOf(ctx, c)
		if err != nil {
			return err
		}
		leases := 0
		var failed []error
		for _, p := range list.Pools {
			if _, _, err := got(c.PostDrain(ctx, p.ID, body, client.PostDrainParams{})); err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", clean(p.ID), err)) // the others are drained all the same
			}
			leases += p.ActiveLeases
		}
		what := fmt.Sprintf("draining %s; %s held", counted(len(list.Pools), "pool"), counted(leases, "lease"))
		if _, err := fmt.Fprintln(a.out, what); err != nil {
			return err
		}
		if wait {
			failed = append(failed, a.awaitAll(ctx, c, list.Pools))
		}
		return errors.Join(failed...)
	})(cmd, nil)
}

// awaitAll waits until nothing of the pools runs, and names those whose work was cut.
func (a *app) awaitAll(ctx context.Context, c *client.Client, pools []wire.Pool) error {
	var cut []error
	for _, p := range pools {
		_, err := a.await(ctx, c, p.ID, wire.Drained)
		var e *exitError
		if ctx.Err() != nil {
			fmt.Fprintln(a.err, "The drain goes on. poolctl list --watch shows it.")
			return errSilent
		}
		if !errors.As(err, &e) || e.code != exitNoPool { // its file was removed meanwhile
			cut = append(cut, err)
		}
	}
	if err := errors.Join(cut...); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.out, "all pools are drained")
	return err
}

// counted is a number of things, in words.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
