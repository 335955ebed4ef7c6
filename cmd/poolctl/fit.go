package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// fitOptions are the flags of fit. A flag that is not given has the pool's value, or the engine's
// default.
type fitOptions struct {
	engine     string
	ctx, slots int
	devices    []string
	cpu        bool
	kvType     string
	configFile string
	poolsDir   string
}

func newFit(a *app) *cobra.Command {
	var o fitOptions
	cmd := &cobra.Command{
		Use:   "fit MODEL",
		Short: "Check whether a model fits into the GPUs, without starting anything",
		Long: `Print how much memory a model needs, part by part, beside what each GPU has and what is free now. Nothing is started.

MODEL is a path (with a slash, or file:…), or a pool of this host, whose settings are taken from its file; flags go before them.
Without --devices, each GPU is looked at alone. The need is computed from the model's files. What the daemon has
measured of a pool in earlier runs, or raised after one that lacked memory, is printed below the table where it answers.

Exit status: 0 it fits; 1 it does not, or this is unknown; 4 the daemon, which knows the GPUs, cannot be reached.`,
		Example: `  poolctl fit /srv/models/llama3-8b-q4.gguf --ctx 8192 --slots 4
  poolctl fit /srv/models/llama3-70b-q4-00001-of-00002.gguf --devices 0,1 --kv-type q8_0
  poolctl fit llama3-8b`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usage("want one model or pool, have %d arguments", len(args))
			}
			return nil
		},
		ValidArgsFunction: a.completeModel,
		RunE:              do(func(ctx context.Context, args []string) error { return a.runFit(ctx, args[0], o) }),
	}
	f := cmd.Flags()
	f.StringVar(&o.engine, "engine", "", fmt.Sprintf("the `engine`; default: the pool's, else %s for a directory and "+
		"%s for a file", engine.Usual(true), engine.Usual(false)))
	f.IntVar(&o.ctx, "ctx", 0, "context of one request, in `tokens`")
	f.IntVar(&o.slots, "slots", 0, "`requests` at the same time")
	f.StringSliceVar(&o.devices, "devices", nil, "the GPUs that share the model, as `0,1`: index, UUID, PCI bus id")
	f.BoolVar(&o.cpu, "cpu", false, "on the CPU, without a GPU")
	f.StringVar(&o.kvType, "kv-type", "", fmt.Sprintf("`type` of the KV cache (%s): %s",
		strings.Join(withCacheTypes(), ", "), strings.Join(engine.CacheTypes(), ", ")))
	f.StringVar(&o.configFile, "config", hostconfig.DefaultFile, "the host's configuration `file`")
	f.StringVar(&o.poolsDir, "pools-dir", hostconfig.DefaultPools, "the `directory` of pool files")
	_ = cmd.RegisterFlagCompletionFunc("devices", a.completeDevices)
	_ = cmd.RegisterFlagCompletionFunc("engine",
		cobra.FixedCompletions(engine.Kinds(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("kv-type",
		cobra.FixedCompletions(engine.CacheTypes(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// withCacheTypes are the engines that have a choice of types for their KV cache.
func withCacheTypes() []string {
	return engine.Where(func(a engine.Adapter) bool { return len(a.CacheTypes()) > 0 })
}

// completeModel offers files and the pools of the host.
func (a *app) completeModel(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	ids, directive := a.completePool(cmd, args, typed)
	if len(args) == 0 {
		directive = cobra.ShellCompDirectiveDefault
	}
	return ids, directive
}

func (a *app) runFit(ctx context.Context, model string, o fitOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	s, err := subjectOf(model, o)
	if err != nil {
		return err
	}
	var gpus hostGPUs
	if !s.cpu {
		gpus = a.gpusNow(ctx)
	}
	r, err := s.report(ctx, gpus, a.mainMemory())
	if err != nil {
		return err
	}
	if !isGone(gpus.err) { // one that is silent is not waited for twice
		r.Notes = append(r.Notes, a.needNotes(ctx, s.pool.ID)...)
	}
	if a.o.output == formatJSON {
		err = r.printJSON(a.out)
	} else {
		err = r.print(a.out)
	}
	if err != nil {
		return err
	}
	return r.verdict()
}

// mainMemory returns the available memory of this host, 0 if unknown.
func (a *app) mainMemory() uint64 {
	if a.available == nil {
		return 0
	}
	n, err := a.available()
	if err != nil {
		return 0
	}
	return n
}

func (o fitOptions) check() error {
	switch {
	case o.ctx < 0 || o.slots < 0:
		return usage("--ctx and --slots are numbers of at least 1")
	case o.cpu && len(o.devices) > 0:
		return usage("--cpu and --devices exclude each other; give one")
	}
	if o.kvType != "" && !slices.Contains(engine.CacheTypes(), o.kvType) {
		return usage("--kv-type is %q; want one of %s", o.kvType, strings.Join(engine.CacheTypes(), ", "))
	}
	if o.engine != "" {
		if _, known := engine.For(o.engine); !known {
			return usage("--engine is %q; want one of %s", o.engine, strings.Join(engine.Kinds(), ", "))
		}
	}
	return nil
}

// verdict returns the error that sets the exit status; the report was printed already.
func (r *fitReport) verdict() error {
	var known *exitError
	switch {
	case r.Fits != nil && *r.Fits:
		return nil
	case r.Fits == nil && errors.As(r.err, &known) && known.code == exitUnreachable:
		return known
	}
	return errSilent
}

// subject is the model that is checked, with its settings.
type subject struct {
	pool   pool.Pool
	staged pool.Staged
	mask   []string // empty: each GPU alone, or none with cpu
	cpu    bool
	note   string
}

// name returns the subject's name for the first line.
func (s subject) name() string {
	switch {
	case s.staged.Path == "":
		return "pool " + s.pool.ID
	case s.pool.ID != "":
		return fmt.Sprintf("pool %s, %s", s.pool.ID, s.staged.Path)
	}
	return s.staged.Path
}
