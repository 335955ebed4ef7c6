package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/library"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// usesDir is where the manager notes when a model was last used.
const usesDir = "/var/lib/pool-managerd/models"

// modelOptions are the flags of the commands on the cache.
type modelOptions struct {
	configFile string
	poolsDir   string
	to         string // prune: the size
	remove     bool   // prune
}

func newModels(a *app) *cobra.Command {
	var o modelOptions
	cmd := &cobra.Command{
		Use:   "models",
		Short: "List the models that were downloaded, with size, digest, pools and last use",
		Long: `List the models in cache_dir of config.toml: what they take of the disk, which pools name them, and when a pool last staged
them (which only root can read; else when they were written). The commands below verify and remove them.`,
		Example: `  poolctl models
  poolctl models verify hf:org/name
  poolctl models rm hf:org/name
  poolctl models prune --to 500G --remove`,
		Args: cobra.NoArgs,
		RunE: do(func(ctx context.Context, _ []string) error { return a.runModels(ctx, o) }),
	}
	f := cmd.PersistentFlags()
	f.StringVar(&o.configFile, "config", hostconfig.DefaultFile, "the host's configuration `file`")
	f.StringVar(&o.poolsDir, "pools-dir", hostconfig.DefaultPools, "the `directory` of pool files")
	verify := &cobra.Command{
		Use: "verify [MODEL]", Short: "Read the files of a model, or of all, and compare them with their digests",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeCached(&o),
		RunE: do(func(ctx context.Context, args []string) error { return a.verifyModels(ctx, o, args) }),
	}
	rm := &cobra.Command{
		Use: "rm MODEL", Short: "Remove a model that no pool names", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeCached(&o),
		RunE:              do(func(ctx context.Context, args []string) error { return a.removeModel(ctx, o, args[0]) }),
	}
	prune := &cobra.Command{
		Use:   "prune",
		Short: "List the models to remove so that the others fit; with --remove, remove them",
		Long: `List the models that no pool names, those first that were not used for the longest time, until the rest takes no more than
--to, or than size_budget of config.toml. Nothing is removed without --remove.`,
		Args: cobra.NoArgs,
		RunE: do(func(ctx context.Context, _ []string) error { return a.pruneModels(ctx, o) }),
	}
	prune.Flags().StringVar(&o.to, "to", "", "`size` of what is left, as 500G (default size_budget)")
	prune.Flags().BoolVar(&o.remove, "remove", false, "remove what is listed")
	cmd.AddCommand(newPull(a), newExport(a, &o), newModelImport(a, &o), verify, rm, prune)
	return cmd
}

// model is a row of the list.
type model struct {
	Name    string   `json:"model"`
	Dir     string   `json:"directory"`
	Bytes   int64    `json:"bytes"`
	Partial int64    `json:"partial_bytes"`
	Files   int      `json:"files"`
	Digest  *string  `json:"digest"`
	Pools   []string `json:"pools"`
	UsedMS  *int64   `json:"last_used_ms"`
}

// shelf is the cache as a command sees it.
type shelf struct {
	dir    string
	budget uint64
	models []model
}

// shelf reads the cache, and which pools name what is in it. sure asks for the daemon's own answer,
// since a pool may serve another model than its file names.
func (a *app) shelf(ctx context.Context, o modelOptions, sure bool) (shelf, error) {
	settings, problems, _ := hostconfig.LoadSettings(o.configFile)
	if len(problems) > 0 {
		return shelf{}, fmt.Errorf("%s has problems; poolctl check lists them", o.configFile)
	}
	s := shelf{dir: settings.Host.Provisioning.CacheDir, budget: settings.Host.Provisioning.SizeBudgetBytes}
	users, err := a.users(ctx, o, sure)
	if err != nil {
		return s, err
	}
	found, err := library.List(filepath.Join(a.root, s.dir), filepath.Join(a.root, usesDir))
	if err != nil {
		return s, fmt.Errorf("the cache: %w", err)
	}
	for _, f := range found {
		m := model{Name: f.Name, Dir: f.Directory, Bytes: f.Bytes, Partial: f.Partial, Files: f.Files,
			Pools: users[f.Directory]}
		if m.Pools == nil {
			m.Pools = []string{}
		}
		if f.Digest != "" {
			m.Digest = &f.Digest
		}
		if !f.Used.IsZero() {
			ms := f.Used.UnixMilli()
			m.UsedMS = &ms
		}
		s.models = append(s.models, m)
	}
	return s, nil
}

// users returns the pools that name each directory of the cache, by their files and by what they
// serve or are asked to.
func (a *app) users(ctx context.Context, o modelOptions, sure bool) (map[string][]string, error) {
	users := make(map[string][]string)
	add := func(reference, id string) {
		ref, err := modelref.Parse(reference)
		if dir := ref.Directory(); err == nil && dir != "" && !slices.Contains(users[dir], id) {
			users[dir] = append(users[dir], id)
		}
	}
	files := hostconfig.Load(o.configFile, o.poolsDir)
	if sure && len(files.Problems) > 0 {
		return nil, errors.New("the configuration has problems, and a pool file that cannot be read may name a " +
			"model; poolctl check lists them")
	}
	for _, p := range files.Pools {
		for _, model := range append([]string{string(p.Model)}, p.Prefetch...) {
			add(model, p.ID)
		}
		add(modelref.Image+":"+p.Provisioning.Image, p.ID)
	}
	c, err := newClient(a.o)
	if err != nil {
		return nil, err
	}
	list, err := poolsOf(ctx, c)
	if err != nil && sure {
		return nil, err
	}
	for _, p := range list.Pools {
		add(text(p.ModelID), p.ID)
		if p.Override != nil {
			add(p.Override.ModelID, p.ID)
		}
		if p.Reload != nil {
			add(p.Reload.ModelID, p.ID)
		}
	}
	return users, nil
}

func (a *app) runModels(ctx context.Context, o modelOptions) error {
	s, err := a.shelf(ctx, o, false)
	if err != nil {
		return err
	}
	return a.printModels(s.models)
}

func (a *app) printModels(models []model) error {
	if a.o.output == formatJSON {
		if models == nil {
			models = []model{}
		}
		body, err := wire.Encode(models)
		if err != nil {
			return err
		}
		_, err = a.out.Write(append(cleanJSON(body), '\n'))
		return err
	}
	t := &table{}
	t.row("MODEL", "SIZE", "FILES", "DIGEST", "POOLS", "USED")
	for _, m := range models {
		size := registry.Decimal(m.Bytes) + "B"
		if m.Partial > 0 {
			size += " + " + registry.Decimal(m.Partial) + "B not whole"
		}
		digest := text(m.Digest)
		if a.o.output != formatWide && len(digest) > 19 {
			digest = digest[:19]
		}
		used := ""
		if m.UsedMS != nil {
			used = ago(a.now(), m.UsedMS) + " ago"
		}
		t.row(m.Name, size, fmt.Sprint(m.Files), digest, strings.Join(m.Pools, ","), used)
	}
	return t.print(a.out)
}

// find returns the model that an argument names: a reference, or a directory of the cache.
func (s shelf) find(arg string) (model, error) {
	dir := arg
	if ref, err := modelref.Parse(arg); err == nil {
		dir = ref.Directory()
	}
	for _, m := range s.models {
		if m.Dir == dir {
			return m, nil
		}
	}
	return model{}, fmt.Errorf("%s is not in the cache %s; poolctl models lists what is", arg, s.dir)
}

func (a *app) verifyModels(ctx context.Context, o modelOptions, args []string) error {
	s, err := a.shelf(ctx, o, false)
	if err != nil {
		return err
	}
	if len(args) == 1 {
		one, err := s.find(args[0])
		if err != nil {
			return err
		}
		s.models = []model{one}
	}
	wrong := 0
	for _, m := range s.models {
		err := library.Verify(ctx, filepath.Join(a.root, s.dir), m.Dir, func(c library.Checked) {
			verdict := "ok"
			switch {
			case c.Wrong:
				verdict = "WRONG"
				wrong++
			case !c.Known:
				verdict = "not verified: its name is no digest"
			}
			fmt.Fprintf(a.out, "%s %s: %s\n", clean(m.Name), clean(c.File), verdict)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	if wrong > 0 {
		return fmt.Errorf("the content of %s has another digest than its name; remove the model with poolctl models "+
			"rm, and it is downloaded again", counted(wrong, "file"))
	}
	return nil
}

func (a *app) removeModel(ctx context.Context, o modelOptions, arg string) error {
	s, err := a.shelf(ctx, o, true)
	if err != nil {
		return err
	}
	m, err := s.find(arg)
	if err != nil {
		return err
	}
	if len(m.Pools) > 0 {
		return fmt.Errorf("%s is in use by %s; remove or change the pool first", m.Name, strings.Join(m.Pools, ", "))
	}
	return a.removeOne(s, m)
}

func (a *app) removeOne(s shelf, m model) error {
	err := library.Remove(filepath.Join(a.root, s.dir), m.Dir)
	if errors.Is(err, library.ErrBusy) {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	if err != nil {
		return fmt.Errorf("could not remove %s (only root can): %w", m.Name, err)
	}
	_, err = fmt.Fprintf(a.out, "Removed %s, %sB.\n", clean(m.Name), registry.Decimal(m.Bytes+m.Partial))
	return err
}

// surplus returns the models to remove so that the rest takes at most a size: of those that no
// pool names, the ones first that were not used for the longest time.
func surplus(models []model, to int64) (out []model, left int64) {
	for _, m := range models {
		left += m.Bytes + m.Partial
	}
	idle := slices.DeleteFunc(slices.Clone(models), func(m model) bool { return len(m.Pools) > 0 })
	slices.SortStableFunc(idle, func(a, b model) int { return used(a).Compare(used(b)) })
	for _, m := range idle {
		if left <= to {
			break
		}
		out = append(out, m)
		left -= m.Bytes + m.Partial
	}
	return out, left
}

func used(m model) time.Time {
	if m.UsedMS == nil {
		return time.Time{}
	}
	return time.UnixMilli(*m.UsedMS)
}

func (a *app) pruneModels(ctx context.Context, o modelOptions) error {
	s, err := a.shelf(ctx, o, true)
	if err != nil {
		return err
	}
	to := s.budget
	if o.to != "" {
		if to, err = strict.ParseSize(o.to); err != nil {
			return usage("--to is %q; want a size such as 500G", o.to)
		}
	} else if to == 0 {
		return usage("size_budget is not set; give --to SIZE")
	}
	out, left := surplus(s.models, int64(min(to, 1<<62)))
	if !o.remove {
		return a.printModels(out)
	}
	for _, m := range out {
		if err := a.removeOne(s, m); err != nil {
			return err
		}
	}
	if uint64(left) > to {
		return fmt.Errorf("%sB are left: pools name the rest", registry.Decimal(left))
	}
	return nil
}
