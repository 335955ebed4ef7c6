package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

func newFleetModels(a *app) *cobra.Command {
	var o fleetOptions
	cmd := &cobra.Command{
		Use:   "models [MODEL...]",
		Short: "Show which host has which model in its cache",
		Long: `Show the models in the caches of all hosts, or those that are named: by name, by a glob in quotes, or by the digest of a file,
sha256:….

DIGEST is that of the only file or image; of several it is their number. WHOLE is no while a file is there in part. With -o name,
each line is NODE, a blank and the model. A host publishes a change of its cache within a minute.`,
		Example: `  poolctl fleet models '*llama*'
  poolctl fleet models sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  poolctl fleet models --node gpu1,gpu2 -o wide`,
		Annotations: map[string]string{listsNames: "models"},
		RunE: do(func(ctx context.Context, args []string) error {
			o.models = args
			return a.runFleetModels(ctx, o)
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	o.nodeFlag(a, cmd)
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "refresh every second, and print again when something changed")
	return cmd
}

func (a *app) runFleetModels(ctx context.Context, o fleetOptions) error {
	c, err := a.fleetClient()
	if err != nil {
		return err
	}
	return a.show(ctx, o.watch, func(ctx context.Context) (frame, error) {
		answer, err := c.GetFleetModels(ctx, client.GetFleetModelsParams{})
		if err != nil {
			return frame{}, a.explainFleet(err)
		}
		list, err := o.modelsOf(answer.Value)
		if err != nil {
			return frame{}, err
		}
		raw, err := wire.Encode(list)
		if err != nil {
			return frame{}, err
		}
		list.Revision = 0 // other keys move it
		return a.frame(raw, list, func(w io.Writer) error { return a.printFleetModels(w, list) })
	})
}

// modelsOf is the list with what is meant. A model that is named and nowhere is an error.
func (o fleetOptions) modelsOf(list wire.FleetModels) (wire.FleetModels, error) {
	list.Models = slices.DeleteFunc(list.Models, func(m wire.FleetModel) bool {
		return !o.hasNode(m.Node, m.MachineID)
	})
	for _, typed := range o.models {
		if !slices.ContainsFunc(list.Models, func(m wire.FleetModel) bool { return isCached(typed, m) }) {
			return list, &exitError{code: exitFailed, text: "no host has the model " + typed + " in its cache",
				hint: "poolctl fleet models shows the models of all hosts."}
		}
	}
	list.Models = slices.DeleteFunc(list.Models, func(m wire.FleetModel) bool {
		return len(o.models) > 0 && !slices.ContainsFunc(o.models, func(t string) bool { return isCached(t, m) })
	})
	return list, nil
}

// isCached reports whether a name, a glob or the digest of a file means a model.
func isCached(typed string, m wire.FleetModel) bool {
	return isModel(typed, m.Model) || slices.Contains(m.Digests, typed)
}

func (a *app) printFleetModels(w io.Writer, list wire.FleetModels) error {
	if a.o.output == formatName {
		for _, m := range list.Models {
			if _, err := fmt.Fprintln(w, clean(m.Node+" "+m.Model)); err != nil {
				return err
			}
		}
		return nil
	}
	out := &printer{w: w}
	if len(list.Models) == 0 {
		out.line("No models.")
	} else {
		out.table(a.fleetModelTable(list.Models))
	}
	if list.Truncated {
		out.gap()
		out.line("some of it is missing here: a host publishes the largest models of its cache, or the fleet is " +
			"larger than a host keeps")
		out.hint("poolctl models on a host lists all of its cache.")
	}
	return out.err
}

func (a *app) fleetModelTable(models []wire.FleetModel) *table {
	t := &table{colour: a.colour}
	wide := a.o.output == formatWide
	head := []string{"MODEL", "NODE", "SIZE", "FILES", "WHOLE", "DIGEST"}
	if wide {
		head = append(head, "ADDRESS")
	}
	t.row(head...)
	for _, m := range models {
		digest := ""
		switch n := len(m.Digests); {
		case n == 1 && wide:
			digest = m.Digests[0]
		case n == 1:
			digest = m.Digests[0][:min(len(m.Digests[0]), 19)]
		case n > 1:
			digest = fmt.Sprintf("%d digests", n)
		}
		cells := []string{m.Model, m.Node, registry.Decimal(m.Bytes) + "B", strconv.Itoa(m.Files), yesNo(m.Whole),
			digest}
		if wide {
			cells = append(cells, m.Address)
		}
		t.row(cells...)
	}
	return t
}
