package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
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
	ch := change{what: "resume", done: "is ready", over: wire.Served,
		send: func(ctx context.Context, c *client.Client, id string) (client.Answer[wire.Pool], error) {
			return c.PostResume(ctx, id, client.PostResumeParams{})
		}}
	return a.changing(ch, "the pool is ready", &cobra.Command{
		Use:   "resume POOL...|--all",
		Short: "End a drain, and start what was stopped",
		Long: `Resume a pool: a drain in progress ends and the engine keeps running; a pool that was stopped, by a drain or by systemctl
stop, is started again.`,
	})
}

func newRestart(a *app) *cobra.Command {
	ch := change{what: "restart", done: "is ready again", over: wire.Served,
		send: func(ctx context.Context, c *client.Client, id string) (client.Answer[wire.Pool], error) {
			return c.PostRestart(ctx, id, client.PostRestartParams{})
		}}
	return a.changing(ch, "the pool is ready again", &cobra.Command{
		Use:   "restart POOL...|--all",
		Short: "Drain a pool, and start it again with new processes",
		Long: `Restart a pool: it is drained as by poolctl drain, with the pool's own deadline, and started again. To change to another
version without an interruption, use poolctl reload.`,
	})
}

func newReset(a *app) *cobra.Command {
	ch := change{what: "reset", done: "is ready", over: wire.Served,
		send: func(ctx context.Context, c *client.Client, id string) (client.Answer[wire.Pool], error) {
			return c.PostReset(ctx, id, client.PostResetParams{})
		}}
	return a.changing(ch, "the pool is ready", &cobra.Command{
		Use:   "reset POOL...|--all",
		Short: "Clear a pool's failures, close its breaker, and start now what waits",
		Long: `Reset a pool that failed too often, once its cause is fixed: its breaker closes, its failures are cleared, and replicas
that wait for their backoff are started now.`,
	})
}

// changing completes a command that requests one change of the pools it names.
func (a *app) changing(ch change, until string, cmd *cobra.Command) *cobra.Command {
	var s selection
	cmd.Args, cmd.ValidArgsFunction = s.args, a.completePools
	s.allFlag(cmd, ch.what+" every pool of this host")
	ch.o.waitFlag(cmd, until)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.operating(cmd, s, ch) }
	return cmd
}

// change is what an operator asks of a pool.
type change struct {
	what string // the verb
	send func(ctx context.Context, c *client.Client, id string) (client.Answer[wire.Pool], error)
	o    operateOptions
	done string // what a pool is then
	over wire.Ended
	gone bool // a pool that is not there any longer is done
}

// operating requests a change of each pool that is named, waits for its end with --wait, and prints
// what became of it.
func (a *app) operating(cmd *cobra.Command, s selection, ch change) error {
	return do(func(ctx context.Context, _ []string) error {
		c, err := newClient(a.o)
		if err != nil {
			return err
		}
		ids, err := s.ids(ctx, c)
		if err != nil {
			return err
		}
		one := len(ids) == 1
		type begun struct {
			id  string
			raw []byte
		}
		var waiting []begun
		failed := false
		for _, id := range ids {
			raw, wait, err := a.request(ctx, c, id, ch)
			switch {
			case err != nil && (one || isGone(err) || ctx.Err() != nil):
				return err
			case err != nil: // the others are changed all the same
				failed = true
				a.reportOf(id, err)
			case wait:
				waiting = append(waiting, begun{id, raw})
			}
		}
		for _, w := range waiting {
			err := a.finish(ctx, c, w.id, w.raw, ch)
			switch {
			case err != nil && (one || errors.Is(err, errSilent)):
				return err
			case err != nil:
				failed = true
				report(a.err, err, exitFailed)
			}
		}
		if failed {
			return errSilent
		}
		return nil
	})(cmd, nil)
}

// reportOf prints an error that concerns one of several pools.
func (a *app) reportOf(id string, err error) {
	var e *exitError
	if errors.As(err, &e) {
		err = &exitError{code: e.code, text: id + ": " + e.text, hint: e.hint, err: err}
	} else {
		err = fmt.Errorf("%s: %w", id, err)
	}
	report(a.err, err, exitFailed)
}

// request asks for a change of one pool, and reports whether its end is to be waited for; raw is
// the answer.
func (a *app) request(ctx context.Context, c *client.Client, id string, ch change) (raw []byte, wait bool, err error) {
	was := ch.o.isAlready(ctx, c, id)
	p, raw, err := got(ch.send(ctx, c, id))
	if err != nil {
		return nil, false, withNearest(ctx, c, id, err)
	}
	switch {
	case was && ch.o.already(p):
		return raw, false, a.say(raw, fmt.Sprintf("%s %s", clean(id), ch.done))
	case !ch.o.wait:
		return raw, false, a.say(raw, fmt.Sprintf("%s: %s in progress; the pool is %s", clean(id), ch.what,
			clean(p.State)))
	}
	return raw, true, nil
}

// finish waits for the end of a change and prints it. Interrupted, it says that the change goes on.
func (a *app) finish(ctx context.Context, c *client.Client, id string, begun []byte, ch change) error {
	raw, err := a.await(ctx, c, id, ch.over)
	var e *exitError
	switch {
	case err != nil && ctx.Err() != nil:
		fmt.Fprintf(a.err, "The %s of %s goes on. poolctl status %s --watch shows it.\n", ch.what, clean(id), clean(id))
		return errSilent
	case ch.gone && errors.As(err, &e) && e.code == exitNoPool:
		return a.say(begun, clean(id)+" "+ch.done)
	case err != nil:
		return err
	}
	return a.say(raw, fmt.Sprintf("%s %s", clean(id), ch.done))
}

// isAlready reports whether the pool is in the requested state now. If that cannot be read, the
// request itself returns the error.
func (o *operateOptions) isAlready(ctx context.Context, c *client.Client, id string) bool {
	if !o.wait || o.already == nil {
		return false
	}
	p, _, err := got(c.GetPool(ctx, id))
	return err == nil && o.already(p)
}

// await polls a pool until the request is done, also while the daemon restarts, and shows meanwhile
// what the pool does.
func (a *app) await(ctx context.Context, c *client.Client, id string, over wire.Ended) ([]byte, error) {
	shown := newBar(a.err, a.bar, a.now)
	defer shown.end()
	for {
		p, raw, err := got(c.GetPool(ctx, id))
		switch {
		case err == nil:
			if done, why := over(p); done && why != nil {
				return nil, fmt.Errorf("%s: %s", clean(id), clean(why.Error()))
			} else if done {
				return raw, nil
			}
			shown.pool(p)
		case !isGone(err):
			return nil, err
		case ctx.Err() == nil:
			shown.line(id, "the manager does not answer now; its request is kept", nil)
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
