package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
)

type checkOptions struct {
	configFile string
	poolsDir   string
	strict     bool
}

func newCheck(a *app) *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration files and print every problem",
		Long: `Read config.toml and every pool file as the daemon would, print every problem with file, line and column, and exit
with status 1 if there is one. Problems are also a pool that the host's policy forbids, a file that the daemon may not read
though root may, a file beside a model that is missing or that the engine cannot read, a path that the engine may not write
to, a model or an image that is not in the cache and that the host's policy does not let be downloaded, the GPUs of a pool
with an image that no file of the container device interface describes, and, for root, a file or directory that the daemon
read before and that is gone. The daemon is not asked and nothing changes.

A model or an engine's program that is not on this host, a model that is a directory, a web page or cut off, or a program
that an engine could not execute, is a warning: its pool waits until it is there. With --strict the exit status is 1 for a warning too.`,
		Args: cobra.NoArgs,
		RunE: do(func(context.Context, []string) error { return a.runCheck(o) }),
	}
	cmd.Flags().StringVar(&o.configFile, "config", hostconfig.DefaultFile, "the host's configuration `file`")
	cmd.Flags().StringVar(&o.poolsDir, "pools-dir", hostconfig.DefaultPools, "the `directory` of pool files")
	cmd.Flags().BoolVar(&o.strict, "strict", false, "exit with status 1 for a warning too")
	return cmd
}

func (a *app) runCheck(o checkOptions) error {
	report := hostconfig.CheckFiles(o.configFile, o.poolsDir, hostconfig.DefaultFormer)
	write := hostconfig.Print
	if a.o.output == formatJSON {
		write = hostconfig.PrintJSON
	}
	if err := write(cleaner{a.out}, report); err != nil {
		return err
	}
	if len(report.Problems) > 0 || o.strict && len(report.Warnings) > 0 {
		return errSilent
	}
	return nil
}
