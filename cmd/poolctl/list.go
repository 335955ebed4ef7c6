package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

type listOptions struct {
	watch bool
}

func newList(a *app) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "Show every pool of this host",
		Long: `Show every pool of this host, and every pool file that is wrong.

SLOTS is free/total. ERROR is the code of the last error; poolctl status POOL has its message and a hint.`,
		Args: cobra.NoArgs,
		RunE: do(func(ctx context.Context, _ []string) error { return a.runList(ctx, o) }),
	}
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "refresh every second, and print again when something changed")
	return cmd
}

func (a *app) runList(ctx context.Context, o listOptions) error {
	c, err := newClient(a.o)
	if err != nil {
		return err
	}
	look := func(ctx context.Context) (frame, error) {
		list, raw, err := read[wire.PoolList](ctx, c, "/v1/pools")
		if err != nil {
			return frame{}, err
		}
		return a.frame(raw, withoutHeartbeats(list), func(w io.Writer) error { return a.printList(w, list) })
	}
	return a.show(ctx, o.watch, look)
}

func (a *app) printList(w io.Writer, list wire.PoolList) error {
	if len(list.Pools) == 0 {
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
	t := &table{}
	wide := a.o.output == formatWide
	head := []string{"POOL", "STATE", "READY", "SLOTS", "RESTARTS", "ENGINE", "MODEL", "ERROR"}
	if wide {
		head = []string{"POOL", "STATE", "READY", "SLOTS", "LEASES", "RESTARTS", "ENGINE", "VERSION", "DEVICES",
			"ENDPOINTS", "HEARTBEAT", "MODEL", "ERROR"}
	}
	t.row(head...)
	for _, p := range pools {
		ready := replicasReady(p)
		if !wide {
			t.row(p.ID, p.State, ready, slots(p.SlotsFree, p.SlotsTotal), strconv.Itoa(p.RestartCount), p.Engine,
				base(p.ModelID), code(p.LastError))
			continue
		}
		var endpoints []string
		for _, r := range p.Replicas {
			if r.Endpoint != nil {
				endpoints = append(endpoints, strings.TrimPrefix(*r.Endpoint, "http://"))
			}
		}
		t.row(p.ID, p.State, ready, slots(p.SlotsFree, p.SlotsTotal), strconv.Itoa(p.ActiveLeases),
			strconv.Itoa(p.RestartCount), p.Engine,
			text(p.EngineVersion), strings.Join(p.DeviceMask, ","), strings.Join(endpoints, ","),
			ago(a.now(), p.LastHeartbeatMS), text(p.ModelID), text(p.LastError))
	}
	return t
}

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
