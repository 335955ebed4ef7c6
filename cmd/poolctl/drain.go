package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

func newDrain(a *app) *cobra.Command {
	var o operateOptions
	var all, untilRestart bool
	cmd := &cobra.Command{
		Use:   "drain POOL|--all",
		Short: "Accept no new work, let running work finish, then stop a pool",
		Long: `Drain a pool: it accepts no new work. When no work is left, or at the deadline, its engines are stopped; work that is left
at the deadline is cut. The pool stays stopped, over restarts and reboots, until poolctl resume. A second drain can only
bring the deadline nearer, and changes nothing once the pool has stopped. With --until-restart it stays stopped until the
daemon is started again, as for a removal of the package.`,
		Example: `  poolctl drain llama3 --deadline 2m --wait
  poolctl drain --all --until-restart --wait`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePool,
	}
	cmd.Flags().BoolVar(&all, "all", false, "drain every pool of this host")
	cmd.Flags().BoolVar(&untilRestart, "until-restart", false, "end the drain when the daemon is started again")
	o.deadlineFlag(cmd, "how long running work may continue")
	o.waitFlag(cmd, "the pool has stopped")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ms, err := o.deadlineMS(cmd)
		if err != nil {
			return err
		}
		body := wire.DrainRequest{DeadlineMS: ms, UntilRestart: untilRestart}
		if all != (len(args) == 0) {
			return usage("drain takes one pool, or --all")
		}
		if all {
			return a.drainAll(cmd, body, o.wait)
		}
		o.already = func(p wire.Pool) bool { return p.Drain != nil && !p.Drain.Restart && p.State == "stopped" }
		return a.operating(cmd, args[0], "drain", body, o, "is drained", drained)
	}
	return cmd
}

// drained ends a wait for a pool that has stopped.
func drained(p wire.Pool) (bool, error) {
	switch {
	case p.Drain == nil:
		return true, errors.New("it was resumed meanwhile")
	case p.State != "stopped":
		return false, nil
	case p.LastError != nil && strings.HasPrefix(*p.LastError, string(registry.CodeDrainTimeout)):
		return true, errors.New(*p.LastError)
	}
	return true, nil // drained, even with another error
}

// drainAll drains every pool, and waits for all of them together.
func (a *app) drainAll(cmd *cobra.Command, body wire.DrainRequest, wait bool) error {
	return do(func(ctx context.Context, _ []string) error {
		c, err := newClient(a.o)
		if err != nil {
			return err
		}
		list, _, err := read[wire.PoolList](ctx, c, "/v1/pools")
		if err != nil {
			return err
		}
		leases := 0
		var failed []error
		for _, p := range list.Pools {
			if _, _, err := send[wire.Pool](ctx, c, poolPath(p.ID, "/drain"), body); err != nil {
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
func (a *app) awaitAll(ctx context.Context, c *client, pools []wire.Pool) error {
	var cut []error
	for _, p := range pools {
		_, err := a.await(ctx, c, p.ID, emptied)
		var e *exitError
		if ctx.Err() != nil {
			return err
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

// emptied ends a wait for a pool of which nothing runs: one that the policy refuses, or whose file
// is wrong, does not become stopped.
func emptied(p wire.Pool) (bool, error) {
	if p.State == "refused" || p.State == "invalid" {
		return !p.Live, nil
	}
	return drained(p)
}

// counted is a number of things, in words.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
