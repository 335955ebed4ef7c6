package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

func newFleetEvents(a *app) *cobra.Command {
	var o fleetOptions
	var initial bool
	cmd := &cobra.Command{
		Use:   "events [POOL...]",
		Short: "Print what changes in the fleet, as it happens",
		Long: `Print hosts, pools and conflicts as they come, change and go, until Ctrl-C. With --initial, what is there is printed first.

There is no history: etcd has what is true now. After a lost connection, what changed meanwhile is printed.`,
		Args: o.named.optionalArgs,
		RunE: do(func(ctx context.Context, _ []string) error { return a.runFleetEvents(ctx, o, initial) }),
	}
	o.nodeFlag(a, cmd)
	cmd.Flags().BoolVar(&initial, "initial", false, "print what is there first")
	return cmd
}

// fleetFollower prints one stream after another.
type fleetFollower struct {
	a    *app
	o    fleetOptions
	all  bool // print what a stream begins with, where it is new
	lost bool // etcd cannot be read, and that is printed
	seen map[string]fleetSeen
}

// fleetSeen is the last event of a host, a pool or a conflict that is there.
type fleetSeen struct {
	data string
	wire.FleetEvent
}

func (a *app) runFleetEvents(ctx context.Context, o fleetOptions, initial bool) error {
	if a.o.url != "" {
		return &exitError{code: exitUsage, text: "poolctl fleet events needs pool-fleet of this host",
			hint: "The API has the list alone: poolctl fleet list --watch, with the same --host."}
	}
	c, err := a.fleetClient()
	if err != nil {
		return err
	}
	f := &fleetFollower{a: a, o: o, all: initial, seen: map[string]fleetSeen{}}
	for before, down := false, false; ; before = true {
		opened, err := f.follow(ctx, c)
		gone := isGone(err) || errors.Is(err, io.EOF)
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C
		case !gone || !before && !opened:
			return err
		case !opened && !down:
			report(a.err, err, exitUnreachable)
		}
		down = !opened
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(a.every):
		}
	}
}

// follow prints one stream until it ends, which is always an error.
func (f *fleetFollower) follow(ctx context.Context, c *client.Client) (opened bool, err error) {
	stream, err := c.GetFleetEvents(ctx)
	if err != nil {
		return false, f.a.explainFleet(err)
	}
	defer stream.Close()
	begin := map[string]bool{} // what the stream began with; nil: that is over
	for {
		got, err := stream.Next()
		if err != nil {
			return true, f.a.explainFleet(err)
		}
		var e wire.FleetEvent
		if err := json.Unmarshal(got.Data, &e); err != nil {
			return true, fmt.Errorf("an event is not what this version of poolctl expects: %w", err)
		}
		if e.Kind == "synced" {
			err, begin = f.synced(e, string(got.Data), begin), nil
		} else {
			err = f.take(e, string(got.Data), begin)
		}
		if err != nil {
			return true, err
		}
	}
}

// take prints an event that is news.
func (f *fleetFollower) take(e wire.FleetEvent, data string, begin map[string]bool) error {
	kind, gone := strings.CutSuffix(e.Kind, "-gone")
	key := strings.Join([]string{kind, e.MachineID, e.PoolID, e.BootID}, " ")
	switch {
	case e.Kind == "lost":
		f.lost = true
	case gone:
		delete(f.seen, key)
	default:
		former := f.seen[key].data
		f.seen[key] = fleetSeen{data, e}
		if begin != nil {
			begin[key] = true
		}
		if former == data || begin != nil && !f.all {
			return nil
		}
	}
	return f.print(e, data)
}

// synced is the end of what a stream begins with: what was there before and is not in it has gone.
func (f *fleetFollower) synced(last wire.FleetEvent, text string, begin map[string]bool) error {
	if err := f.gone(begin); err != nil {
		return err
	}
	f.all = true
	if !f.lost {
		return nil
	}
	f.lost = false
	return f.print(last, text)
}

// gone prints what was there before, and is not in what a stream began with; nil: it began earlier.
func (f *fleetFollower) gone(begin map[string]bool) error {
	if begin == nil {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(f.seen)) {
		e := f.seen[key].FleetEvent
		if begin[key] {
			continue
		}
		delete(f.seen, key)
		e.Kind, e.Host, e.Pool, e.Conflict = e.Kind+"-gone", nil, nil, nil
		data, err := wire.Encode(e)
		if err != nil {
			return err
		}
		if err := f.print(e, string(data)); err != nil {
			return err
		}
	}
	return nil
}

// means reports whether an event is about what the command line names.
func (f *fleetFollower) means(e wire.FleetEvent) bool {
	switch {
	case e.Kind == "lost", e.Kind == "synced":
		return true
	case !f.o.hasNode(e.Node, e.MachineID):
		return false
	}
	return len(f.o.named.names) == 0 || e.PoolID != "" && f.o.named.has(e.PoolID)
}

func (f *fleetFollower) print(e wire.FleetEvent, data string) error {
	if !f.means(e) {
		return nil
	}
	if f.a.o.output == formatJSON {
		_, err := fmt.Fprintln(f.a.out, strings.TrimSpace(string(cleanJSON([]byte(data)))))
		return err
	}
	of := e.Node
	if e.PoolID != "" {
		of += "/" + e.PoolID
	}
	line := fmt.Sprintf("%s  %-13s %s  %s", f.a.now().Format(time.DateTime), clean(e.Kind), clean(orDash(of)),
		clean(fleetEventText(e)))
	_, err := fmt.Fprintln(f.a.out, strings.TrimRight(line, " "))
	return err
}

// fleetEventText describes what is there now.
func fleetEventText(e wire.FleetEvent) string {
	switch {
	case e.Pool != nil:
		text := "not ready: " + e.Pool.State
		if e.Pool.Ready {
			text = "ready"
		}
		if e.Pool.Draining && e.Pool.State != "draining" {
			text += ", draining"
		}
		if free := slots(e.Pool.SlotsFree, e.Pool.SlotsTotal); free != "" {
			text += ", slots " + free
		}
		if e.Pool.LastError != "" && !e.Pool.Ready {
			text += " (" + e.Pool.LastError + ")"
		}
		return text
	case e.Host != nil:
		return strings.TrimSpace(e.Host.Address + " boot " + e.Host.BootID)
	case e.Conflict != nil:
		return "has the machine-id of " + orDash(e.Conflict.Published)
	case e.Kind == "lost":
		return "etcd cannot be read: " + e.LastError
	case e.Kind == "synced":
		return "etcd is read again"
	}
	return ""
}
