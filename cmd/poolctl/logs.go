package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
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
		Long: `Show what a pool's engines wrote to the journal, and what PID 1 and the daemon wrote about them. It runs journalctl
with matches on fields that no other program can set, such as _SYSTEMD_UNIT: any user may write POOL_ID=POOL into the journal.
Arguments after -- are passed to journalctl; FIELD=value terms among them must hold for every line. The journal is read
with the rights of the caller, who must be root or in the group systemd-journal or adm.`,
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
	options, terms, err := splitFurther(further)
	if err != nil {
		return err
	}
	units := a.unitsOf(ctx, id)
	args := []string{"--no-pager", "--lines=" + o.lines}
	if o.follow {
		args = append(args, "--follow")
	}
	args = slices.Concat(args, options, matchesOf(id, units, terms))
	cmd := exec.CommandContext(ctx, a.journalctl, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, a.out, a.err
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Second
	err = cmd.Run()
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
