package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// place is a directory that has an entry for each replica that ever ran.
type place struct {
	kind string
	dir  string // below the root
	stem func(name string) string
}

// places are where engines and the manager leave something. Dynamic users have theirs below
// private/; the name without it is a link. Those of the manager are cleaned by it, too, unless it
// was not running when the pool was removed.
func places() []place {
	same := func(name string) string { return name }
	return []place{
		{"state", "/var/lib/private/pool-engine", same},
		{"state", "/var/lib/pool-engine", same},
		{"cache", "/var/cache/private/pool-engine", same},
		{"cache", "/var/cache/pool-engine", same},
		{"hand-off file", "/run/pool-managerd/engines", func(name string) string {
			stem, _ := strings.CutSuffix(name, ".json")
			return stem
		}},
		{"past failures", "/run/pool-managerd/restarts", func(name string) string { return strings.Replace(name, ":", ".", 1) }},
	}
}

// leftover is what a removed pool left in one place.
type leftover struct {
	Pool  string `json:"pool_id"`
	Kind  string `json:"kind"`
	Path  string `json:"path"`
	Bytes uint64 `json:"bytes"`
}

func newClean(a *app) *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "List what removed pools left on the disk; with --remove, delete it",
		Long: `List the state and cache directories of engines, the hand-off files and the notes on failures that belong to pools which no
pool file asks for and of which nothing runs. Nothing is deleted without --remove, and nothing at all while a pool file cannot
be read: it may be that of a pool which seems removed. Only root can look into these directories.`,
		Args: cobra.NoArgs,
		RunE: do(func(ctx context.Context, _ []string) error { return a.runClean(ctx, remove) }),
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "delete what is listed")
	return cmd
}

func (a *app) runClean(ctx context.Context, remove bool) error {
	c, err := newClient(a.o)
	if err != nil {
		return err
	}
	kept, err := a.keptPools(ctx, c)
	if err != nil {
		return err
	}
	found, err := leftovers(a.root, kept)
	if err != nil {
		return err
	}
	if remove {
		for _, l := range found {
			if err := stillGone(ctx, c, l.Pool); err != nil {
				return err
			}
			if err := os.RemoveAll(filepath.Join(a.root, l.Path)); err != nil {
				return fmt.Errorf("%s: %w", l.Kind, err)
			}
		}
	}
	return a.printLeftovers(found, remove)
}

// stillGone returns an error if a pool was added since it was listed.
func stillGone(ctx context.Context, c *client.Client, id string) error {
	_, _, err := got(c.GetPool(ctx, id))
	var e *exitError
	switch {
	case errors.As(err, &e) && e.code == exitNoPool:
		return nil
	case err == nil:
		return fmt.Errorf("pool %s is there again; the rest was not deleted", id)
	}
	return err
}

// ofState reports whether a problem is about a damaged file of the manager's, and not about the
// configuration.
func ofState(p wire.Problem) bool {
	return strings.HasPrefix(p.File, "/var/lib/pool-managerd/") || strings.HasPrefix(p.File, "/run/pool-managerd/")
}

// keptPools returns the pools that are configured, or of which a unit is loaded.
func (a *app) keptPools(ctx context.Context, c *client.Client) (map[string]bool, error) {
	list, err := poolsOf(ctx, c)
	if err != nil {
		return nil, err
	}
	kept := make(map[string]bool)
	for _, p := range list.Pools {
		kept[p.ID] = true
	}
	for _, p := range list.Problems {
		if ofState(p) {
			continue
		}
		if p.PoolID == nil {
			return nil, &exitError{code: exitFailed,
				text: "the configuration has a problem, so it is unknown which pools were " +
					"removed: " + p.Error, hint: "Run poolctl check, fix it, then run poolctl clean again."}
		}
		kept[*p.PoolID] = true
	}
	units, err := exec.CommandContext(ctx, a.systemctl, "list-units", "--all", "--plain", "--no-legend", "--full", "--",
		pool.UnitPattern).Output()
	if err != nil {
		return nil, fmt.Errorf("list the units of engines: %w", err)
	}
	for line := range strings.Lines(string(units)) {
		if fields := strings.Fields(line); len(fields) > 0 {
			if r, ok := pool.ParseUnit(fields[0]); ok {
				kept[r.Pool] = true
			}
		}
	}
	return kept, nil
}

// leftovers looks for what pools left that are not among kept.
func leftovers(root string, kept map[string]bool) ([]leftover, error) {
	var found []leftover
	for _, at := range places() {
		entries, err := os.ReadDir(filepath.Join(root, at.dir))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, fs.ErrPermission):
			return nil, &exitError{code: exitFailed, text: "permission denied on " + at.dir,
				hint: "Run poolctl clean as root."}
		case err != nil:
			return nil, err
		}
		for _, e := range entries {
			r, ok := pool.ParseFileStem(at.stem(e.Name()))
			if !ok || kept[r.Pool] {
				continue
			}
			path := filepath.Join(at.dir, e.Name())
			found = append(found, leftover{r.Pool, at.kind, path, sizeBelow(filepath.Join(root, path))})
		}
	}
	slices.SortStableFunc(found, func(x, y leftover) int { return strings.Compare(x.Pool, y.Pool) })
	return found, nil
}

// sizeBelow is how much is in a file or directory, in bytes: of a file with holes what it takes on
// the disk, of which its length says nothing. Links are not followed: an engine may have made one
// to anywhere.
func sizeBelow(path string) (bytes uint64) {
	_ = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be read is not counted
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			return nil
		}
		held := info.Size()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			const block = 512 // of st_blocks, see stat(2)
			held = min(held, st.Blocks*block)
		}
		bytes += uint64(max(held, 0))
		return nil
	})
	return bytes
}

func (a *app) printLeftovers(found []leftover, removed bool) error {
	if a.o.output == formatJSON {
		if found == nil {
			found = []leftover{}
		}
		return json.NewEncoder(cleaner{a.out}).Encode(struct {
			Removed   bool       `json:"removed"`
			Leftovers []leftover `json:"leftovers"`
		}{removed, found})
	}
	if len(found) == 0 {
		_, err := fmt.Fprintln(a.out, "Removed pools left nothing.")
		return err
	}
	t := &table{}
	t.row("POOL", "KIND", "SIZE", "PATH")
	for _, l := range found {
		t.row(l.Pool, l.Kind, size(&l.Bytes), l.Path)
	}
	if err := t.print(a.out); err != nil {
		return err
	}
	line := "poolctl clean --remove deletes them."
	if removed {
		line = "They were deleted."
	}
	_, err := fmt.Fprintln(a.out, line)
	return err
}
