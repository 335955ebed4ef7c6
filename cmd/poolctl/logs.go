package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

type logsOptions struct {
	follow bool
	lines  string
}

func newLogs(a *app) *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs POOL [-f] [-n LINES] [-- JOURNALCTL-ARGUMENTS]",
		Short: "Show the journal of a pool's engines, and of the daemon about them",
		Long: `Show what a pool's engines wrote to the journal, and what the daemon wrote about the pool. It runs journalctl with
POOL_ID=POOL; arguments after -- are passed to journalctl unchanged. The journal is read with the rights of the caller,
who must be root or in the group systemd-journal or adm.`,
		Example: `  poolctl logs llama3 -f
  poolctl logs llama3 -n all -- --since today --output json
  poolctl logs llama3 -- REPLICA_ID=r1`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 1 && cmd.ArgsLenAtDash() != 1 {
				return usage("want one pool; arguments for journalctl follow --")
			}
			return validPool(args[0])
		},
		ValidArgsFunction: a.completePool,
		RunE: do(func(ctx context.Context, args []string) error {
			return a.runLogs(ctx, o, args[0], args[1:])
		}),
	}
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "print new lines as they arrive")
	cmd.Flags().StringVarP(&o.lines, "lines", "n", "100", "how many `lines` to show, or all")
	return cmd
}

func (a *app) runLogs(ctx context.Context, o logsOptions, id string, further []string) error {
	a.noteUnknown(ctx, id)
	args := []string{"--no-pager", "--lines=" + o.lines}
	if o.follow {
		args = append(args, "--follow")
	}
	args = append(append(args, "POOL_ID="+id), further...)
	cmd := exec.CommandContext(ctx, a.journalctl, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, a.out, a.err
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil // Ctrl-C ends following
	}
	return journalFailed(err)
}

func journalFailed(err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return &exitError{code: exitFailed, text: "journalctl is not installed", err: err,
			hint: "The engines write to the systemd journal; journalctl comes with systemd."}
	case errors.As(err, &exit) && os.Geteuid() != 0:
		return &exitError{code: exitFailed, text: fmt.Sprintf("journalctl: %v", exit), err: err,
			hint: "Reading the journal of system services needs root, or the group systemd-journal or adm (usermod " +
				"-aG systemd-journal USER, then log in again)."}
	}
	return fmt.Errorf("journalctl: %w", err)
}

// noteTimeout bounds the request whether the pool exists; the journal does not need the answer.
const noteTimeout = time.Second

// noteUnknown prints a note if there is no such pool now. The journal may still have its lines.
func (a *app) noteUnknown(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	c, err := newClient(a.o)
	if err != nil {
		return
	}
	_, _, err = read[wire.Pool](ctx, c, poolPath(id, ""))
	var e *exitError
	if err = c.withNearest(ctx, id, err); errors.As(err, &e) && e.code == exitNoPool {
		fmt.Fprintf(a.err, "poolctl: %s; the journal may have earlier lines of it. %s\n", clean(e.text), clean(e.hint))
	}
}
