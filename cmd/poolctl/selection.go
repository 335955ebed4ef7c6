package main

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// selection is what a command line names: pools by id, by glob as in a shell, or all of them.
type selection struct {
	names []string
	all   bool
}

// allFlag adds --all.
func (s *selection) allFlag(cmd *cobra.Command, what string) {
	cmd.Flags().BoolVar(&s.all, "all", false, what)
}

// args takes the names, of which a command needs at least one, or --all.
func (s *selection) args(cmd *cobra.Command, args []string) error {
	switch {
	case s.all && len(args) > 0:
		return usage("--all is every pool; name none beside it")
	case !s.all && len(args) == 0:
		return &exitError{code: exitUsage, text: cmd.Name() + " needs a pool",
			hint: "Name one or more, a glob in quotes as 'llama*', or --all."}
	}
	return s.optionalArgs(cmd, args)
}

// optionalArgs takes any number of names.
func (s *selection) optionalArgs(_ *cobra.Command, args []string) error {
	for _, name := range args {
		if err := validName(name); err != nil {
			return err
		}
	}
	s.names = args
	return nil
}

// validName refuses what can be neither an id nor a glob for ids.
func validName(name string) error {
	if !isGlob(name) {
		return validPool(name)
	}
	if _, err := path.Match(name, ""); err != nil || strings.Contains(name, "/") {
		return usage("%q is not a glob for pool ids: * stands for any characters, ? for one, [a-c] for one of these",
			name)
	}
	return nil
}

// isGlob reports whether a name is one; none of its signs may be in an id.
func isGlob(name string) bool { return strings.ContainsAny(name, "*?[") }

// one returns the id where exactly one pool is named, and not by a glob.
func (s *selection) one() (id string, ok bool) {
	if s.all || len(s.names) != 1 || isGlob(s.names[0]) {
		return "", false
	}
	return s.names[0], true
}

// of returns those of a host's pools that are named, in the order of the list; an error for a name
// that none has.
func (s *selection) of(pools []wire.Pool) ([]wire.Pool, error) {
	if s.all || len(s.names) == 0 {
		return pools, nil
	}
	for _, name := range s.names {
		if slices.ContainsFunc(pools, func(p wire.Pool) bool { return named(name, p.ID) }) {
			continue
		}
		return nil, noSuch(name, pools)
	}
	return slices.DeleteFunc(slices.Clone(pools), func(p wire.Pool) bool { return !s.has(p.ID) }), nil
}

// has reports whether one of the names is that of a pool.
func (s *selection) has(id string) bool {
	return slices.ContainsFunc(s.names, func(name string) bool { return named(name, id) })
}

func named(name, id string) bool {
	if !isGlob(name) {
		return name == id
	}
	ok, err := path.Match(name, id)
	return err == nil && ok
}

func noSuch(name string, pools []wire.Pool) error {
	e := &exitError{code: exitNoPool, text: "there is no pool " + name,
		hint: "poolctl list shows the pools of this host."}
	if isGlob(name) {
		e.text = "no pool matches " + name
		return e
	}
	ids := make([]string, len(pools))
	for i, p := range pools {
		ids[i] = p.ID
	}
	if near := nearest(name, ids); near != "" {
		e.hint = fmt.Sprintf("Did you mean %s? ", near) + e.hint
	}
	return e
}

// ids returns the ids that are named. One that is written out is not looked up: the request about
// it has the answer.
func (s *selection) ids(ctx context.Context, c *client.Client) ([]string, error) {
	if id, ok := s.one(); ok {
		return []string{id}, nil
	}
	list, err := poolsOf(ctx, c)
	if err != nil {
		return nil, err
	}
	pools, err := s.of(list.Pools)
	ids := make([]string, len(pools))
	for i, p := range pools {
		ids[i] = p.ID
	}
	return ids, err
}

// filtered is a list with the pools that are named and in one of the states, all if there is none.
// A problem of a file stays where its pool is named, or where no pool is.
func (s *selection) filtered(list wire.PoolList, states []string) (wire.PoolList, error) {
	pools, err := s.of(list.Pools)
	if err != nil {
		return list, err
	}
	out := wire.PoolList{Pools: []wire.Pool{}, Problems: []wire.Problem{}}
	for _, p := range pools {
		if len(states) == 0 || slices.Contains(states, p.State) {
			out.Pools = append(out.Pools, p)
		}
	}
	for _, p := range list.Problems {
		if len(states) == 0 && (len(s.names) == 0 || p.PoolID != nil && s.has(*p.PoolID)) {
			out.Problems = append(out.Problems, p)
		}
	}
	return out, nil
}

// onePool are the positional arguments of a command on one pool.
func onePool(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usage("want one pool, have %d arguments", len(args))
	}
	return validPool(args[0])
}

func validPool(id string) error {
	if !pool.ValidID(id) {
		return usage("%q is not a pool id; want %s", id, pool.IDRule)
	}
	return nil
}
