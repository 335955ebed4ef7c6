package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// versionTimeout bounds the request to the daemon; its version is optional.
const versionTimeout = 2 * time.Second

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of poolctl and of the daemon",
		Long:  "Print the versions of poolctl and, where it can be reached, of the daemon.",
		Args:  cobra.NoArgs,
		RunE:  do(func(ctx context.Context, _ []string) error { return a.runVersion(ctx) }),
	}
}

func (a *app) runVersion(ctx context.Context) error {
	c, err := newClient(a.o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
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
