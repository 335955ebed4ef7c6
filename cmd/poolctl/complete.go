package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// completeTimeout bounds how long a shell waits for names of the host.
const completeTimeout = 300 * time.Millisecond

// completing asks the daemon within the time that a shell waits; ok is false without an answer.
func completing[T any](cmd *cobra.Command, a *app,
	ask func(context.Context, *client.Client) (T, error)) (v T, ok bool) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	if a.locate(cmd) != nil {
		return v, false
	}
	c, err := newClient(a.o)
	if err != nil {
		return v, false
	}
	v, err = ask(ctx, c)
	return v, err == nil
}

// completePool offers the pools of the host that begin with what was typed, for a command on one.
func (a *app) completePool(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completePools(cmd, args, typed)
}

// completePools offers those that were not named before.
func (a *app) completePools(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	list, ok := completing(cmd, a, poolsOf)
	if !ok {
		list.Pools = a.filedPools()
	}
	var ids []string
	for _, p := range list.Pools {
		if strings.HasPrefix(p.ID, typed) && !slices.Contains(args, p.ID) {
			ids = append(ids, clean(p.ID)+"\t"+clean(p.State))
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// filedPools are the pools by the names of their files, for a shell whose manager does not answer;
// none where the address may be another host's.
func (a *app) filedPools() (pools []wire.Pool) {
	if a.o.admin == "" {
		return nil
	}
	files, _ := filepath.Glob(filepath.Join(a.root, hostconfig.DefaultPools, "*.toml")) // the pattern is good
	for _, file := range files {
		if id := strings.TrimSuffix(filepath.Base(file), ".toml"); pool.ValidID(id) {
			pools = append(pools, wire.Pool{ID: id, State: "no answer"})
		}
	}
	return pools
}

// completeModels offers the models that pools name, as a reload takes them.
func (a *app) completeModels(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	list, _ := completing(cmd, a, poolsOf)
	var models []string
	for _, p := range list.Pools {
		if m := text(p.ModelID); m != "" && strings.HasPrefix(m, typed) {
			models = append(models, clean(m))
		}
	}
	slices.Sort(models)
	return slices.Compact(models), cobra.ShellCompDirectiveNoFileComp
}

// completeCached offers the models of the cache.
func (a *app) completeCached(o *modelOptions) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
		defer cancel()
		s, err := a.shelf(ctx, *o, false)
		if len(args) > 0 || err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, m := range s.models {
			if strings.HasPrefix(m.Name, typed) {
				names = append(names, clean(m.Name)+"\t"+registry.Decimal(m.Bytes)+"B")
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeDevices offers the GPUs and partitions of the host, by the number or the UUID that a pool
// file takes; behind a comma, those that were not named before it.
func (a *app) completeDevices(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	list, _ := completing(cmd, a, devicesOf)
	before := typed[:strings.LastIndexByte(typed, ',')+1]
	chosen := strings.Split(before, ",")
	var offered []string
	offer := func(id, what string) {
		if strings.HasPrefix(before+id, typed) && !slices.Contains(chosen, id) {
			offered = append(offered, before+clean(id)+"\t"+clean(what))
		}
	}
	for _, d := range list.Devices {
		offer(d.UUID, d.Name)
		for _, p := range d.Partitions {
			offer(p.UUID, d.Name+" MIG "+p.Profile)
		}
	}
	return offered, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// stateNames are the states of a pool.
func stateNames() []string {
	var names []string
	for _, s := range registry.States() {
		names = append(names, string(s))
	}
	return names
}

func completeStates(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	return completeList(stateNames(), typed)
}

// completeList offers the words of a list separated by commas.
func completeList(words []string, typed string) ([]string, cobra.ShellCompDirective) {
	before := typed[:strings.LastIndexByte(typed, ',')+1]
	chosen := strings.Split(before, ",")
	var offered []string
	for _, w := range words {
		if strings.HasPrefix(before+w, typed) && !slices.Contains(chosen, w) {
			offered = append(offered, before+w)
		}
	}
	return offered, cobra.ShellCompDirectiveNoFileComp
}
