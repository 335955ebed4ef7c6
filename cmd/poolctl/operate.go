package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// operateOptions are the flags of the commands that change a pool.
type operateOptions struct {
	deadline time.Duration
	model    string
	digest   string
	forget   bool
	wait     bool
	// already reports whether a pool is as asked for before anybody asks; nil: nobody can tell. Then there is nothing to wait for, and
	// what came of an earlier call is not told as what came of this one.
	already func(wire.Pool) bool
}

// waitFlag lets a command return when what it asks for has come about.
func (o *operateOptions) waitFlag(cmd *cobra.Command, until string) {
	cmd.Flags().BoolVarP(&o.wait, "wait", "w", false, "return when "+until+", with status 1 where it does not come to it")
}

func (o *operateOptions) deadlineFlag(cmd *cobra.Command, what string) {
	cmd.Flags().DurationVar(&o.deadline, "deadline", 0, what+", `30s` for example (default the pool's own)")
}

// deadlineMS is the deadline where one was given.
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

func newDrain(a *app) *cobra.Command {
	var o operateOptions
	cmd := &cobra.Command{
		Use:   "drain POOL",
		Short: "Take no new work, let what is held finish, then stop a pool",
		Long: `Drain a pool: it takes no new work at once. When nothing is held any more, or at the deadline, its engines are stopped; what is held
at the deadline is cut. The pool stays stopped, over restarts and reboots, until poolctl resume. A second drain can only bring the deadline nearer, and of a pool that has
stopped changes nothing.`,
		Example:           "  poolctl drain llama3 --deadline 2m --wait",
		Args:              onePool,
		ValidArgsFunction: a.completePool,
	}
	o.deadlineFlag(cmd, "how long what is held may go on")
	o.waitFlag(cmd, "the pool has stopped")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ms, err := o.deadlineMS(cmd)
		if err != nil {
			return err
		}
		o.already = func(p wire.Pool) bool { return p.Drain != nil && !p.Drain.Restart && p.State == "stopped" }
		return a.operating(cmd, args[0], "drain", wire.DrainRequest{DeadlineMS: ms}, o, "is drained", func(p wire.Pool) (bool, error) {
			switch {
			case p.Drain == nil:
				return true, errors.New("it was resumed meanwhile")
			case p.State != "stopped":
				return false, nil
			case p.LastError != nil && strings.HasPrefix(*p.LastError, string(registry.CodeDrainTimeout)):
				return true, errors.New(*p.LastError)
			}
			return true, nil // whatever else is wrong with it
		})
	}
	return cmd
}

func newResume(a *app) *cobra.Command {
	var o operateOptions
	cmd := &cobra.Command{
		Use:   "resume POOL",
		Short: "End a drain at any point, and start what was stopped",
		Long: `Resume a pool: a drain that is under way ends and the engine goes on as it is; a pool that was stopped, by a drain or by systemctl stop, is
started again.`,
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
		Long: `Restart a pool: it is drained as poolctl drain does, with its own deadline, and started again. To go to another version without a moment
in which nothing serves, use poolctl reload.`,
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
		Short: "Forget a pool's failures, close its breaker, and start now what waits",
		Long: `Reset a pool that failed too often, once its cause is mended: its breaker closes, its failures are forgotten, and what waits for its backoff is
started now.`,
		Args:              onePool,
		ValidArgsFunction: a.completePool,
	}
	o.waitFlag(cmd, "the pool is ready")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.operating(cmd, args[0], "reset", nil, o, "is ready", ready)
	}
	return cmd
}

// ready is the end of a wait for a pool that serves. One that waits for its backoff or for memory may come to it; one that failed does not,
// as far as anybody can tell.
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

func newReload(a *app) *cobra.Command {
	var o operateOptions
	cmd := &cobra.Command{
		Use:   "reload POOL",
		Short: "Go to another model, all or nothing",
		Long: `Reload a pool: the new model is staged and verified before anything is touched. Where both fit, the new engine starts beside the old one,
which leaves when the new one is ready and nothing is held any more; else the old one is stopped first. Anything that fails, or work that is
still held at the deadline, brings the former model back, and last_error says why.

The model is served in place of what the pool's file says, over restarts and reboots, until --forget. Without --model, a change of the pool's file
that was rolled back is tried again.`,
		Example: `  poolctl reload llama3 --model file:/srv/models/llama3-q8.gguf --wait
  poolctl reload llama3 --forget`,
		Args:              onePool,
		ValidArgsFunction: a.completePool,
	}
	f := cmd.Flags()
	f.StringVar(&o.model, "model", "", "what to serve, `file:/PATH`")
	f.StringVar(&o.digest, "digest", "", "of the model, `sha256:…`; verified before anything is touched")
	f.BoolVar(&o.forget, "forget", false, "serve what the pool's file says again")
	o.deadlineFlag(cmd, "how long what the old engine holds may go on")
	o.waitFlag(cmd, "the reload is done")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.forget && (o.model != "" || o.digest != "") {
			return usage("--forget goes without --model and --digest")
		}
		ms, err := o.deadlineMS(cmd)
		if err != nil {
			return err
		}
		body := wire.ReloadRequest{NewModelRef: o.model, ModelDigest: o.digest, DeadlineMS: ms, Forget: o.forget}
		return a.operating(cmd, args[0], "reload", body, o, "serves", func(p wire.Pool) (bool, error) {
			switch {
			case p.Reload != nil:
				return false, nil
			case p.LastError != nil && p.Ready:
				return true, errors.New("the former version serves: " + *p.LastError)
			}
			return ready(p)
		})
	}
	return cmd
}

// operating asks for a change of a pool, waits for its end where that was asked for, and says how the pool stands.
func (a *app) operating(cmd *cobra.Command, id, what string, body any, o operateOptions, came string, over func(wire.Pool) (bool, error)) error {
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
			return a.say(raw, fmt.Sprintf("%s %s", clean(id), came))
		}
		if !o.wait {
			return a.say(raw, fmt.Sprintf("%s: %s is under way; it is %s", clean(id), what, clean(p.State)))
		}
		if raw, err = a.await(ctx, c, id, over); err != nil {
			return err
		}
		return a.say(raw, fmt.Sprintf("%s %s", clean(id), came))
	})(cmd, nil)
}

// isAlready reports whether the pool is as asked for now. Where that cannot be read, the request itself tells why.
func (o *operateOptions) isAlready(ctx context.Context, c *client, id string) bool {
	if !o.wait || o.already == nil {
		return false
	}
	p, _, err := read[wire.Pool](ctx, c, poolPath(id, ""))
	return err == nil && o.already(p)
}

// await looks at a pool until what was asked for is over. A daemon that restarts meanwhile is waited for.
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

// say prints a sentence, or the pool where JSON is asked for.
func (a *app) say(raw []byte, sentence string) error {
	if a.o.output == formatJSON {
		_, err := a.out.Write(cleanJSON(raw))
		return err
	}
	_, err := fmt.Fprintln(a.out, sentence)
	return err
}
