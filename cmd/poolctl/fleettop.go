package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/fleettop"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

func newFleetTop(a *app) *cobra.Command {
	var o fleetOptions
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show the pools of all hosts as they change",
		Long: `Show the pools of all hosts and what changes, on the whole terminal, as it happens; ? shows the keys.

While etcd cannot be read, the last picture stays, marked as old. Where an address is given, the manager there is asked every
second. Nothing is changed: a pool is operated at its host, by poolctl --host.`,
		Example: "  poolctl fleet top\n  poolctl fleet top --node 'gpu*' --model '*llama*'",
		Args:    cobra.NoArgs,
		RunE:    do(func(ctx context.Context, _ []string) error { return a.runFleetTop(ctx, o) }),
	}
	o.nodeFlag(a, cmd)
	cmd.Flags().StringSliceVar(&o.models, "model", nil, "show only pools of these `models`, by id or glob")
	return cmd
}

func (a *app) runFleetTop(ctx context.Context, o fleetOptions) error {
	if a.o.output != formatTable {
		return usage("poolctl fleet top has one form, a screen; poolctl fleet events -o json prints changes for " +
			"programs")
	}
	c, err := a.fleetClient()
	if err != nil {
		return err
	}
	if a.o.admin == "" { // the stream is on pool-fleet's socket alone
		l := &live{a: a, c: c, model: fleettop.New("fleet by "+a.hostName(), time.Local)}
		return l.show(ctx, "poolctl fleet top", "poolctl fleet list --watch", fleetSource{l, o}.poll)
	}
	l := &live{a: a, c: c, model: fleettop.New("fleet", time.Local)}
	return l.show(ctx, "poolctl fleet top", "poolctl fleet events", fleetSource{l, o}.stream)
}

// fleetSource sends the fleet, as far as it is meant, to a view.
type fleetSource struct {
	l *live
	o fleetOptions
}

func (f fleetSource) trouble(ctx context.Context, err error) {
	f.l.send(ctx, fleettop.Trouble{At: f.l.a.now(), Text: err.Error()})
}

// again waits until another attempt is due; false: ctx has ended.
func (f fleetSource) again(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(f.l.a.every):
		return true
	}
}

// poll sends the list of a manager whenever it changed.
func (f fleetSource) poll(ctx context.Context) {
	var now latest[wire.FleetPools]
	for {
		err := now.take(f.l.c.GetFleetPools(ctx, client.GetFleetPoolsParams{IfNoneMatch: now.tag}))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			f.trouble(ctx, err)
		default:
			f.l.send(ctx, fleettop.Whole{At: f.l.a.now(), List: f.meant(now.value)})
		}
		if !f.again(ctx) {
			return
		}
	}
}

// meant is the list without what the command line leaves out. A host that is not there may come.
func (f fleetSource) meant(list wire.FleetPools) wire.FleetPools {
	list.Hosts = slices.DeleteFunc(slices.Clone(list.Hosts), func(h wire.FleetHost) bool {
		return !f.o.hasNode(h.Name, h.MachineID)
	})
	list.Pools = slices.DeleteFunc(slices.Clone(list.Pools), func(p wire.FleetPool) bool { return !f.o.has(p) })
	list.Conflicts = slices.DeleteFunc(slices.Clone(list.Conflicts), func(c wire.FleetConflict) bool {
		return !f.o.hasNode(c.Name, c.MachineID)
	})
	return list
}

// stream sends what pool-fleet's streams have, one after another.
func (f fleetSource) stream(ctx context.Context) {
	for {
		err := f.readStream(ctx)
		if ctx.Err() != nil {
			return
		}
		f.trouble(ctx, f.l.a.explainFleet(err))
		if !f.again(ctx) {
			return
		}
	}
}

// readStream sends one stream until it breaks: what it begins with as a whole, and then changes.
func (f fleetSource) readStream(ctx context.Context) error {
	stream, err := f.l.c.GetFleetEvents(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	begin := beginning{}
	for {
		got, err := stream.Next()
		if err != nil {
			return err
		}
		var e wire.FleetEvent
		if err := json.Unmarshal(got.Data, &e); err != nil {
			return fmt.Errorf("an event is not what this version of poolctl expects: %w", err)
		}
		switch {
		case begin == nil || e.Kind == "lost":
			f.change(ctx, e)
		case e.Kind == "synced":
			f.l.send(ctx, fleettop.Whole{At: f.l.a.now(), List: f.meant(begin.list())})
			begin = nil
		default:
			begin.add(e)
		}
	}
}

// change sends a change of what the command line names. A pool that no longer is of it has gone.
func (f fleetSource) change(ctx context.Context, e wire.FleetEvent) {
	switch {
	case e.Kind == "lost" || e.Kind == "synced":
	case !f.o.hasNode(e.Node, e.MachineID):
		return
	case e.Pool != nil && !f.o.has(*e.Pool):
		e.Kind, e.Pool = "pool-gone", nil
	}
	f.l.send(ctx, fleettop.Change{At: f.l.a.now(), Event: e})
}

// beginning is what a stream begins with, until that is complete: some of it may go meanwhile.
type beginning map[string]wire.FleetEvent

func (b beginning) add(e wire.FleetEvent) {
	kind, gone := strings.CutSuffix(e.Kind, "-gone")
	key := strings.Join([]string{kind, e.MachineID, e.PoolID, e.BootID}, " ")
	if gone {
		delete(b, key)
		return
	}
	b[key] = e
}

func (b beginning) list() (list wire.FleetPools) {
	for _, e := range b {
		switch {
		case e.Host != nil:
			list.Hosts = append(list.Hosts, *e.Host)
		case e.Pool != nil:
			list.Pools = append(list.Pools, *e.Pool)
		case e.Conflict != nil:
			list.Conflicts = append(list.Conflicts, *e.Conflict)
		}
	}
	return list
}
