package etcd_test

import (
	"context"
	"fmt"

	"github.com/pool-managerd/pool-managerd/registry/fleet/etcd"
	"github.com/pool-managerd/pool-managerd/registry/fleet/view"
)

// A program that places requests keeps the fleet in memory, and looks for the ready pool of a model
// with the most free slots. What it takes a lease at is that host's API, which decides.
func ExampleReader() {
	fleet := view.New("/pool-managerd")
	reader := etcd.NewReader(etcd.Options{Prefix: "/pool-managerd",
		Endpoints: []string{"https://etcd1.example.org:2379"}})
	reader.Watch(context.Background(), func(b view.Batch) {
		if b.Kind == view.Lost {
			fmt.Println("the view may be old:", b.Err)
		}
		for _, c := range fleet.Apply(b) {
			switch {
			case c.PoolID != "" && c.Gone:
				fmt.Println(c.Node, c.PoolID, "is gone")
			case c.Pool != nil && c.Pool.Ready && !c.Pool.Draining:
				fmt.Println(c.Node, c.PoolID, c.Pool.SlotsFree, "slots free, at", c.Pool.Address)
			}
		}
	})
}
