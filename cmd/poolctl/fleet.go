package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
)

// fleetOptions are which hosts and pools are meant.
type fleetOptions struct {
	watch  bool
	nodes  []string // host names, machine-ids, or globs of names; empty: all
	states []string
	models []string // ids of models, or globs of them
	ready  bool
	named  selection
}

func newFleet(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Show the pools of all hosts that publish in etcd",
		Long: `Show what every host has published in the etcd of [etcd] in config.toml. pool-fleet of this host reads it; with --host or
--url, the manager of another host is asked for what its pool-fleet reads.

A host that died, hangs or is cut off is gone after the ttl of its lease, 10 s by default, with its pools.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFleetList(a), newFleetStatus(a), newFleetModels(a), newFleetEvents(a), newFleetTop(a))
	return cmd
}

func newFleetList(a *app) *cobra.Command {
	var o fleetOptions
	cmd := &cobra.Command{
		Use:     "list [POOL...]",
		Aliases: []string{"ls"},
		Short:   "Show the pools of all hosts",
		Long: `Show the pools of all hosts, or those that are named, by id or by a glob in quotes.

SLOTS is free/total. ERROR is the code of the last error. With -o name, each line is NODE/POOL.`,
		Example: `  poolctl fleet list --ready --model '*llama*'
  poolctl fleet list --node gpu1,gpu2 -o wide
  poolctl fleet list --watch`,
		Annotations: map[string]string{listsNames: "pools"},
		Args:        o.named.optionalArgs,
		RunE:        do(func(ctx context.Context, _ []string) error { return a.runFleetList(ctx, o) }),
	}
	o.nodeFlag(a, cmd)
	f := cmd.Flags()
	f.StringSliceVar(&o.states, "state", nil, "show only pools in these `states`, as failed,backoff")
	_ = cmd.RegisterFlagCompletionFunc("state", completeStates)
	f.StringSliceVar(&o.models, "model", nil, "show only pools of these `models`, by id or glob")
	f.BoolVar(&o.ready, "ready", false, "show only pools that take requests: ready, and not draining")
	f.BoolVarP(&o.watch, "watch", "w", false, "refresh every second, and print again when something changed")
	return cmd
}

func newFleetStatus(a *app) *cobra.Command {
	var o fleetOptions
	cmd := &cobra.Command{
		Use:   "status [NODE...]",
		Short: "Show the hosts, and what is wrong with the fleet",
		Long: `Show the hosts that are published, by name: pools ready/all, slots free/total, and GPUs. Below are hosts that are not
published because another one has their machine-id (a cloned image), and what this host could not read.`,
		Annotations: map[string]string{listsNames: "hosts"},
		RunE: do(func(ctx context.Context, args []string) error {
			o.nodes = args
			return a.runFleetStatus(ctx, o)
		}),
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return a.completeNodes(cmd, typed)
		},
	}
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "refresh every second, and print again when something changed")
	return cmd
}

// nodeFlag adds --node; --host is where to ask.
func (o *fleetOptions) nodeFlag(a *app, cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&o.nodes, "node", nil, "show only these `hosts`, by name, glob or machine-id")
	_ = cmd.RegisterFlagCompletionFunc("node",
		func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return a.completeNodes(cmd, typed)
		})
}

// fleetClient asks pool-fleet, or what the command line names: the manager there has the list, too.
func (a *app) fleetClient() (*client.Client, error) {
	o := a.o
	if o.admin != "" { // no address was given
		o.socket, o.admin = a.root+fleet.Socket, ""
	}
	return newClient(o)
}

// fleetOf reads the list of the hosts and pools that are meant.
func (a *app) fleetOf(ctx context.Context, c *client.Client, o fleetOptions) (wire.FleetPools, error) {
	answer, err := c.GetFleetPools(ctx, client.GetFleetPoolsParams{})
	if err != nil {
		return wire.FleetPools{}, a.explainFleet(err)
	}
	return o.filtered(answer.Value)
}

// explainFleet converts an error of a request to pool-fleet.
func (a *app) explainFleet(err error) error {
	var silent *client.Unreachable
	if a.o.admin == "" || !errors.As(err, &silent) {
		return explain(err)
	}
	e := &exitError{code: exitUnreachable, err: silent.Err}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		e.text = "this host reads no fleet: nothing listens on " + silent.Addr
		e.hint = "pool-fleet is there while [etcd] endpoints in config.toml names members: systemctl status " +
			"pool-fleet.\npoolctl list shows the pools of this host."
	case silent.Within > 0:
		e.text = fmt.Sprintf("pool-fleet at %s did not answer within %s", silent.Addr, silent.Within)
		e.hint = "systemctl status pool-fleet; journalctl -u pool-fleet. --timeout waits longer."
	default:
		e.text = fmt.Sprintf("pool-fleet at %s cannot be reached: %v", silent.Addr, silent.Err)
		e.hint = "systemctl status pool-fleet; journalctl -u pool-fleet"
	}
	return e
}

// filtered is the list with what is meant. A host that is named and not there is an error.
func (o fleetOptions) filtered(list wire.FleetPools) (wire.FleetPools, error) {
	for _, name := range o.nodes {
		if !slices.ContainsFunc(list.Hosts, func(h wire.FleetHost) bool { return isNode(name, h.Name, h.MachineID) }) {
			return list, noSuchNode(name, list.Hosts)
		}
	}
	list.Hosts = slices.DeleteFunc(list.Hosts, func(h wire.FleetHost) bool { return !o.hasNode(h.Name, h.MachineID) })
	list.Pools = slices.DeleteFunc(list.Pools, func(p wire.FleetPool) bool { return !o.has(p) })
	if len(o.nodes) > 0 {
		list.Conflicts = slices.DeleteFunc(list.Conflicts, func(c wire.FleetConflict) bool {
			return !o.hasNode(c.Name, c.MachineID) && !o.hasNode(c.Published, c.MachineID)
		})
	}
	for _, name := range o.named.names {
		if !slices.ContainsFunc(list.Pools, func(p wire.FleetPool) bool { return named(name, p.ID) }) {
			return list, &exitError{code: exitNoPool, text: "no host has a pool " + name + " that is shown here",
				hint: "poolctl fleet list shows the pools of all hosts."}
		}
	}
	return list, nil
}

func (o fleetOptions) hasNode(name, machine string) bool {
	return len(o.nodes) == 0 || slices.ContainsFunc(o.nodes, func(n string) bool { return isNode(n, name, machine) })
}

func (o fleetOptions) has(p wire.FleetPool) bool {
	return o.hasNode(p.Node, p.MachineID) && (len(o.named.names) == 0 || o.named.has(p.ID)) &&
		(len(o.states) == 0 || slices.Contains(o.states, p.State)) && (!o.ready || p.Ready && !p.Draining) &&
		(len(o.models) == 0 || slices.ContainsFunc(o.models, func(m string) bool { return isModel(m, p.ModelID) }))
}

func isNode(typed, name, machine string) bool { return typed == machine || named(typed, name) }

// isModel compares with an id, in which slashes are ordinary signs for a glob.
func isModel(typed, id string) bool {
	return named(strings.ReplaceAll(typed, "/", "\x00"), strings.ReplaceAll(id, "/", "\x00"))
}

func noSuchNode(name string, hosts []wire.FleetHost) error {
	e := &exitError{code: exitFailed, text: "no host " + name + " is published",
		hint: "poolctl fleet status shows the hosts."}
	var names []string
	for _, h := range hosts {
		names = append(names, h.Name)
	}
	if near := nearest(name, names); near != "" && !isGlob(name) {
		e.hint = "Did you mean " + near + "? " + e.hint
	}
	return e
}

func (a *app) runFleetList(ctx context.Context, o fleetOptions) error {
	if err := validStates(o.states); err != nil {
		return err
	}
	return a.showFleet(ctx, o, func(w io.Writer, list wire.FleetPools) error { return a.printFleetPools(w, list) })
}

func (a *app) runFleetStatus(ctx context.Context, o fleetOptions) error {
	return a.showFleet(ctx, o, func(w io.Writer, list wire.FleetPools) error { return a.printFleetHosts(w, list) })
}

// showFleet prints the list, once or whenever it changes.
func (a *app) showFleet(ctx context.Context, o fleetOptions, table func(io.Writer, wire.FleetPools) error) error {
	c, err := a.fleetClient()
	if err != nil {
		return err
	}
	return a.show(ctx, o.watch, func(ctx context.Context) (frame, error) {
		list, err := a.fleetOf(ctx, c, o)
		if err != nil {
			return frame{}, err
		}
		raw, err := wire.Encode(list)
		if err != nil {
			return frame{}, err
		}
		list.Revision = 0 // other keys move it
		return a.frame(raw, list, func(w io.Writer) error { return table(w, list) })
	})
}

// completeNodes offers the names of hosts.
func (a *app) completeNodes(cmd *cobra.Command, typed string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	if a.locate(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := a.fleetClient()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := a.fleetOf(ctx, c, fleetOptions{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, h := range list.Hosts {
		names = append(names, clean(h.Name))
	}
	slices.Sort(names)
	return completeList(slices.Compact(names), typed)
}
