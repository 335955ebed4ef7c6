package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

type leasesOptions struct {
	watch   bool
	holders []string
	ids     []string
	release bool
	yes     bool
	named   selection
}

func newLeases(a *app) *cobra.Command {
	var o leasesOptions
	cmd := &cobra.Command{
		Use:   "leases [POOL...]",
		Short: "Show who uses the slots of pools; with --release, take slots back",
		Long: `Show the leases of all pools or of those that are named: the replica, the holder by the name that it gave itself, how
long it has held the slot, and how long until the lease ends unless it is renewed.

With --release the leases that are listed are ended, after a question. Nothing is sent to the engine: a request in progress
goes on, and its slot is given to the next caller. The holder gets 404 LEASE_NOT_FOUND when it renews.`,
		Example: `  poolctl leases llama3
  poolctl leases --holder gateway-1 -o json
  poolctl leases --holder gateway-1 --release`,
		Annotations:       map[string]string{listsNames: "leases"},
		Args:              o.named.optionalArgs,
		ValidArgsFunction: a.completePools,
		RunE:              do(func(ctx context.Context, _ []string) error { return a.runLeases(ctx, o) }),
	}
	o.named.allFlag(cmd, "every pool, which is the default without --release")
	f := cmd.Flags()
	f.StringSliceVar(&o.holders, "holder", nil, "only leases of these `holders`, as gateway-1,gateway-2")
	f.StringSliceVar(&o.ids, "lease", nil, "only the leases with these `ids`")
	f.BoolVar(&o.release, "release", false, "end the leases that are listed")
	f.BoolVarP(&o.yes, "yes", "y", false, "with --release: do not ask")
	f.BoolVarP(&o.watch, "watch", "w", false, "refresh every second, and print again when something changed")
	for flag, value := range map[string]func(wire.Lease) string{
		"holder": func(l wire.Lease) string { return l.Holder },
		"lease":  func(l wire.Lease) string { return l.LeaseID },
	} {
		_ = cmd.RegisterFlagCompletionFunc(flag, a.completeLeases(value))
	}
	return cmd
}

// check refuses options that do not go together.
func (o leasesOptions) check() error {
	switch {
	case o.named.all && len(o.named.names) > 0:
		return usage("--all is every pool; name none beside it")
	case o.release && o.watch:
		return usage("--release and --watch exclude each other; give one")
	case o.yes && !o.release:
		return usage("--yes goes with --release")
	case o.release && !o.named.all && len(o.named.names)+len(o.holders)+len(o.ids) == 0:
		return &exitError{code: exitUsage, text: "--release needs to know which leases",
			hint: "Name pools, --holder or --lease, or give --all for all leases of this host."}
	}
	return nil
}

func (a *app) runLeases(ctx context.Context, o leasesOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	c, err := newClient(a.o)
	if err != nil {
		return err
	}
	if o.release {
		return a.releaseLeases(ctx, c, o)
	}
	return a.show(ctx, o.watch, func(ctx context.Context) (frame, error) {
		list, err := leasesOf(ctx, c, o)
		if err != nil {
			return frame{}, err
		}
		raw, err := wire.Encode(list)
		if err != nil {
			return frame{}, err
		}
		return a.frame(raw, withoutDeadlines(list), func(w io.Writer) error { return a.printLeases(w, list.Leases) })
	})
}

// withoutDeadlines removes what changes at every renewal.
func withoutDeadlines(list wire.LeaseList) wire.LeaseList {
	quiet := wire.LeaseList{Leases: slices.Clone(list.Leases)}
	for i := range quiet.Leases {
		quiet.Leases[i].ExpiresAtMS = 0
	}
	return quiet
}

// leasesOf asks for the leases that are meant, in the order of pools, of each the oldest first.
func leasesOf(ctx context.Context, c *client.Client, o leasesOptions) (wire.LeaseList, error) {
	out := wire.LeaseList{Leases: []wire.Lease{}}
	pools, err := poolsOf(ctx, c)
	if err != nil {
		return out, err
	}
	meant, err := o.named.of(pools.Pools)
	if err != nil {
		return out, err
	}
	for _, p := range meant {
		if p.ActiveLeases == 0 {
			continue
		}
		of, _, err := got(c.GetLeases(ctx, p.ID, client.GetLeasesParams{}))
		var e *exitError
		if errors.As(err, &e) && e.code == exitNoPool {
			continue // it was removed since
		}
		if err != nil {
			return out, err
		}
		of.Leases = slices.DeleteFunc(of.Leases, func(l wire.Lease) bool { return !o.means(l) })
		slices.SortStableFunc(of.Leases, func(x, y wire.Lease) int { return cmp.Compare(taken(x), taken(y)) })
		out.Leases = append(out.Leases, of.Leases...)
	}
	return out, nil
}

// taken is when a lease began; those of which it is not known are the oldest.
func taken(l wire.Lease) int64 {
	if l.TakenAtMS == nil {
		return 0
	}
	return *l.TakenAtMS
}

func (o leasesOptions) means(l wire.Lease) bool {
	return (len(o.holders) == 0 || slices.Contains(o.holders, l.Holder)) &&
		(len(o.ids) == 0 || slices.Contains(o.ids, l.LeaseID))
}

func (a *app) printLeases(w io.Writer, list []wire.Lease) error {
	if a.o.output == formatName {
		for _, l := range list {
			if _, err := fmt.Fprintln(w, clean(l.LeaseID)); err != nil {
				return err
			}
		}
		return nil
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No leases.")
		return err
	}
	t := &table{}
	head := []string{"POOL", "REPLICA", "HOLDER", "AGE", "LEFT", "LEASE"}
	wide := a.o.output == formatWide
	if wide {
		head = append(head, "ENDPOINT")
	}
	t.row(head...)
	for _, l := range list {
		left := time.UnixMilli(l.ExpiresAtMS).Sub(a.now())
		cells := []string{l.PoolID, l.ReplicaID, l.Holder, ago(a.now(), l.TakenAtMS), span(max(0, left)), l.LeaseID}
		if wide {
			cells = append(cells, strings.TrimPrefix(l.Endpoint, "http://"))
		}
		t.row(cells...)
	}
	return t.print(w)
}

// releaseLeases ends the leases that are meant, after a question.
func (a *app) releaseLeases(ctx context.Context, c *client.Client, o leasesOptions) error {
	list, err := leasesOf(ctx, c, o)
	if err != nil {
		return err
	}
	if len(list.Leases) > 0 && !o.yes {
		if err := a.printLeases(a.err, list.Leases); err != nil {
			return err
		}
		question := "Release this lease? Its request goes on, and its slot is given to the next caller."
		if n := len(list.Leases); n > 1 {
			question = fmt.Sprintf("Release these %d leases? Their requests go on, and their slots are given to the "+
				"next callers.", n)
		}
		if err := a.confirm(ctx, question); err != nil {
			return err
		}
	}
	done := wire.LeaseList{Leases: []wire.Lease{}}
	var failed error
	for _, l := range list.Leases {
		if _, _, err := got(c.DeleteLease(ctx, l.PoolID, l.LeaseID)); err != nil {
			failed = err
			break
		}
		done.Leases = append(done.Leases, l)
	}
	if failed != nil && len(done.Leases) == 0 {
		return failed
	}
	return errors.Join(failed, a.printReleased(done))
}

func (a *app) printReleased(done wire.LeaseList) error {
	if a.o.output == formatJSON {
		return a.printJSON(done)
	}
	if len(done.Leases) == 0 {
		return a.printLeases(a.out, nil)
	}
	for _, l := range done.Leases {
		line := l.LeaseID
		if a.o.output != formatName {
			line = fmt.Sprintf("%s of %s on %s/%s is released", l.LeaseID, orDash(l.Holder), l.PoolID, l.ReplicaID)
		}
		if _, err := fmt.Fprintln(a.out, clean(line)); err != nil {
			return err
		}
	}
	return nil
}

// completeLeases offers one of the values of leases.
func (a *app) completeLeases(value func(wire.Lease) string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		list, _ := completing(cmd, a, func(ctx context.Context, c *client.Client) (wire.LeaseList, error) {
			return leasesOf(ctx, c, leasesOptions{named: selection{names: args}})
		})
		var words []string
		for _, l := range list.Leases {
			if v := value(l); v != "" {
				words = append(words, clean(v))
			}
		}
		slices.Sort(words)
		return completeList(slices.Compact(words), typed)
	}
}
