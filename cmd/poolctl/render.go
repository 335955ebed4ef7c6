package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/safe"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

func newRender(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "render POOL",
		Short: "Print the systemd units of a pool as files",
		Long: `Print the units that pool-managerd asks PID 1 for, one for each replica, as an administrator would write the files,
each line of the sandbox with its reason.`,
		Args:              onePool,
		ValidArgsFunction: a.completePool,
		RunE:              do(func(ctx context.Context, args []string) error { return a.runRender(ctx, args[0]) }),
	}
}

func (a *app) runRender(ctx context.Context, id string) error {
	c, err := newClient(a.o)
	if err != nil {
		return err
	}
	text, _, err := got(c.GetPoolUnit(ctx, id))
	if err != nil {
		return a.instead(withNearest(ctx, c, id, err),
			"Without the manager: systemctl cat 'pool-engine@"+id+".*', of engines that run.")
	}
	if a.o.output == formatJSON {
		body, err := wire.Encode(map[string]string{"id": id, "unit": text})
		if err != nil {
			return err
		}
		_, err = a.out.Write(cleanJSON(body))
		return err
	}
	_, err = io.WriteString(a.out, safe.Text(text))
	return err
}
