package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

func newUnload(a *app) *cobra.Command {
	return a.changing(change{what: "removal", done: "is gone", gone: true,
		send: func(ctx context.Context, c *client.Client, id string) (client.Answer[wire.Pool], error) {
			return c.DeletePool(ctx, id, client.DeletePoolParams{})
		},
		over: wire.Gone,
	}, "the pool is gone", &cobra.Command{
		Use:   "unload POOL...",
		Short: "Drain and remove a pool that another program preloaded",
		Long: `Remove a pool that no file asks for, but a program that preloaded it: its engine takes no new requests, is stopped when none
are in progress or at the pool's drain deadline, and the pool is gone. To remove a pool of a file, remove the file and run
systemctl reload pool-managerd.`,
	})
}
