package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of poolctl and of the daemon",
		Long:  "Print the versions of poolctl and, where it can be reached, of the daemon.",
		Args:  cobra.NoArgs,
		RunE:  do(func(ctx context.Context, _ []string) error { return a.runVersion(ctx) }),
	}
}

// versionFlag has poolctl --version print what poolctl version prints.
func (a *app) versionFlag(root *cobra.Command) {
	var asked bool
	root.Flags().BoolVar(&asked, "version", false, "print the versions of poolctl and of the daemon")
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if !asked {
			return cmd.Help()
		}
		return do(func(ctx context.Context, _ []string) error { return a.runVersion(ctx) })(cmd, args)
	}
}

func (a *app) runVersion(ctx context.Context) error {
	c, err := newClient(a.o)
	if err != nil {
		return err
	}
	daemon, _, err := got(c.GetHealth(ctx))
	if a.o.output == formatJSON {
		out := struct {
			Poolctl string  `json:"poolctl"`
			Daemon  *string `json:"pool_managerd"`
		}{Poolctl: version}
		if err == nil {
			out.Daemon = &daemon.Version
		}
		body, err := wire.Encode(out)
		if err != nil {
			return err
		}
		_, err = a.out.Write(cleanJSON(body))
		return err
	}
	answer := clean(daemon.Version)
	if err != nil {
		answer = "does not answer: " + clean(err.Error())
	}
	_, err = fmt.Fprintf(a.out, "poolctl        %s\npool-managerd  %s\n", version, answer)
	return err
}
