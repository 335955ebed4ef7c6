package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

type listOptions struct {
	watch  bool
	states []string
	named  selection
}

func newList(a *app) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:     "list [POOL...]",
		Aliases: []string{"ls"},
		Short:   "Show every pool of this host",
		Long: `Show every pool of this host, and every pool file that is wrong; or the pools that are named, by id or by a glob in
quotes.

Where the manager does not answer, the engines that PID 1 runs are listed, with what the hand-off files say of them.

SLOTS is free/total. SOURCE is what asks for a pool, shown where one is not from a file.
ERROR is the code of the last error; poolctl status POOL has its message and a hint.`,
		Annotations: map[string]string{listsNames: "pools"},
		Args:        o.named.optionalArgs,

		ValidArgsFunction: a.completePools,
		RunE:              do(func(ctx context.Context, _ []string) error { return a.runList(ctx, o) }),
	}
	cmd.Flags().StringSliceVar(&o.states, "state", nil, "show only pools in these `states`, as failed,backoff")
	_ = cmd.RegisterFlagCompletionFunc("state", completeStates)
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "refresh every second, and print again when something changed")
	return cmd
}

func (a *app) runList(ctx context.Context, o listOptions) error {
	if err := validStates(o.states); err != nil {
		return err
	}
	c, err := newClient(a.o)
	if err != nil {
		return err
	}
	look := func(ctx context.Context) (frame, error) {
		list, raw, err := got(c.GetPools(ctx, client.GetPoolsParams{}))
		if err != nil {
			return a.aside(ctx, err, o.keeps, a.printSeen)
		}
		if len(o.states) > 0 || len(o.named.names) > 0 {
			if list, err = o.named.filtered(list, o.states); err != nil {
				return frame{}, err
			}
			if raw, err = wire.Encode(list); err != nil {
				return frame{}, err
			}
		}
		return a.frame(raw, withoutHeartbeats(list), func(w io.Writer) error { return a.printList(w, list, o.states) })
	}
	return a.show(ctx, o.watch, look)
}

func (a *app) printList(w io.Writer, list wire.PoolList, states []string) error {
	if a.o.output == formatName {
		for _, p := range list.Pools {
			if _, err := fmt.Fprintln(w, clean(p.ID)); err != nil {
				return err
			}
		}
		return nil
	}
	if len(list.Pools) == 0 && len(states) > 0 {
		if _, err := fmt.Fprintln(w, "No pool is "+strings.Join(states, " or ")+"."); err != nil {
			return err
		}
	} else if len(list.Pools) == 0 {
		if _, err := fmt.Fprintln(w, "No pools. A file in /etc/pool-managerd/pools.d makes one; systemctl reload "+
			"pool-managerd reads it."); err != nil {
			return err
		}
	} else if err := a.poolTable(list.Pools).print(w); err != nil {
		return err
	}
	for _, p := range list.Problems {
		if _, err := fmt.Fprintf(w, "\n%s\n", clean(p.Error)); err != nil {
			return err
		}
		if p.Hint != nil {
			if _, err := fmt.Fprintf(w, "    %s\n", clean(*p.Hint)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *app) poolTable(pools []wire.Pool) *table {
	t := &table{colour: a.colour}
	wide := a.o.output == formatWide
	head := []string{"POOL", "STATE", "READY", "SLOTS", "RESTARTS", "ENGINE", "MODEL", "ERROR"}
	if wide {
		head = []string{"POOL", "STATE", "READY", "SLOTS", "LEASES", "RESTARTS", "ENGINE", "VERSION", "RUNTIME", "DEVICES",
			"ENDPOINTS", "HEARTBEAT", "MODEL", "ERROR"}
	}
	marked := wide || slices.ContainsFunc(pools, preloaded)
	row := func(p wire.Pool, cells ...string) {
		if marked {
			cells = slices.Insert(cells, 1, text(p.Source))
		}
		t.row(cells...)
	}
	source := "SOURCE"
	row(wire.Pool{Source: &source}, head...)
	for _, p := range pools {
		ready := replicasReady(p)
		if !wide {
			row(p, p.ID, p.State, ready, slots(p.SlotsFree, p.SlotsTotal), strconv.Itoa(p.RestartCount), p.Engine,
				base(p.ModelID), code(p.LastError))
			continue
		}
		var endpoints []string
		for _, r := range p.Replicas {
			if r.Endpoint != nil {
				endpoints = append(endpoints, strings.TrimPrefix(*r.Endpoint, "http://"))
			}
		}
		row(p, p.ID, p.State, ready, slots(p.SlotsFree, p.SlotsTotal), strconv.Itoa(p.ActiveLeases),
			strconv.Itoa(p.RestartCount), p.Engine,
			text(p.EngineVersion), text(p.Runtime), strings.Join(p.DeviceMask, ","), strings.Join(endpoints, ","),
			ago(a.now(), p.LastHeartbeatMS), text(p.ModelID), text(p.LastError))
	}
	return t
}

// keeps reports whether the engines of a pool are listed without the manager, which alone knows
// states.
func (o listOptions) keeps(id string) bool {
	return len(o.states) == 0 && (len(o.named.names) == 0 || o.named.has(id))
}

// validStates refuses words that are no state.
func validStates(states []string) error {
	known := stateNames()
	for _, s := range states {
		if slices.Contains(known, s) {
			continue
		}
		e := &exitError{code: exitUsage, text: fmt.Sprintf("there is no state %q", s),
			hint: "The states are " + strings.Join(known, ", ") + "."}
		if near := nearest(s, known); near != "" {
			e.hint = "Did you mean " + near + "? " + e.hint
		}
		return e
	}
	return nil
}

// preloaded reports whether another program asked for the pool, and no file.
func preloaded(p wire.Pool) bool { return p.Source != nil && *p.Source == registry.SourcePreload }

// replicasReady is yes or no, with counts where there is more than one replica.
func replicasReady(p wire.Pool) string {
	if n := len(p.Replicas); n > 1 {
		return fmt.Sprintf("%s (%d of %d)", yesNo(p.Ready), readyOnes(p), n)
	}
	return yesNo(p.Ready)
}

func readyOnes(p wire.Pool) int {
	n := 0
	for _, r := range p.Replicas {
		if r.Ready {
			n++
		}
	}
	return n
}

// withoutHeartbeats removes the values that change at every probe.
func withoutHeartbeats(list wire.PoolList) wire.PoolList {
	quiet := wire.PoolList{Problems: list.Problems}
	for _, p := range list.Pools {
		quiet.Pools = append(quiet.Pools, withoutHeartbeat(p))
	}
	return quiet
}

// withoutHeartbeat removes the values that change at every probe, and at every sample of its GPUs.
func withoutHeartbeat(p wire.Pool) wire.Pool {
	p.LastHeartbeatMS = nil
	p.Devices = append([]wire.Device(nil), p.Devices...)
	for i := range p.Devices {
		p.Devices[i].VRAMFreeBytes = nil
	}
	p.Replicas = append([]wire.Replica(nil), p.Replicas...)
	for i := range p.Replicas {
		p.Replicas[i].LastHeartbeatMS = nil
	}
	return p
}
