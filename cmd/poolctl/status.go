package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

type statusOptions struct {
	watch bool
	named selection
}

func newStatus(a *app) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status POOL...|--all",
		Short: "Show one pool, why it is not ready, and what to do",
		Long: `Show a pool with its replicas and GPUs, why it is not ready, and what to do. Of several, one after another; as JSON or YAML
they have the form of poolctl list.

Where the manager does not answer, what PID 1 and the hand-off files say of the pool's engines is shown.`,
		Args:              o.named.args,
		ValidArgsFunction: a.completePools,
		RunE:              do(func(ctx context.Context, _ []string) error { return a.runStatus(ctx, o) }),
	}
	o.named.allFlag(cmd, "show every pool of this host")
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "refresh every second, and print again when something changed")
	return cmd
}

func (a *app) runStatus(ctx context.Context, o statusOptions) error {
	c, err := newClient(a.o)
	if err != nil {
		return err
	}
	look := func(ctx context.Context) (frame, error) { return a.lookAtSeveral(ctx, c, o.named) }
	if id, one := o.named.one(); one {
		look = func(ctx context.Context) (frame, error) {
			p, raw, err := got(c.GetPool(ctx, id))
			if err != nil {
				return a.aside(ctx, withNearest(ctx, c, id, err), o.named.has, a.printSeenPool)
			}
			return a.frame(raw, withoutHeartbeat(p), func(w io.Writer) error { return a.printStatus(w, p) })
		}
	}
	return a.show(ctx, o.watch, look)
}

// lookAtSeveral shows several pools, with an empty line between them.
func (a *app) lookAtSeveral(ctx context.Context, c *client.Client, s selection) (frame, error) {
	list, err := poolsOf(ctx, c)
	if err != nil {
		return a.aside(ctx, err, func(id string) bool { return s.all || s.has(id) }, a.printSeenPool)
	}
	if list, err = s.filtered(list, nil); err != nil {
		return frame{}, err
	}
	raw, err := wire.Encode(list)
	if err != nil {
		return frame{}, err
	}
	return a.frame(raw, withoutHeartbeats(list), func(w io.Writer) error {
		for i, p := range list.Pools {
			if i > 0 {
				if _, err := fmt.Fprintln(w); err != nil {
					return err
				}
			}
			if err := a.printStatus(w, p); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *app) printStatus(w io.Writer, p wire.Pool) error {
	t := &table{colour: a.colour}
	t.row("Pool:", p.ID)
	t.row("State:", stateLine(p))
	t.row("Engine:", strings.TrimSpace(p.Engine+" "+text(p.EngineVersion)))
	t.row("Model:", text(p.ModelID))
	if line := modelLine(p.Model); line != "" {
		t.row("Weights:", line)
	}
	a.sourceRows(t, p)
	if p.Reload != nil {
		t.row("Reload:", reloadLine(*p.Reload))
	}
	if p.Staging != nil {
		t.row("Download:", strings.TrimSuffix(p.Staging.Progress()+"; "+text(p.Staging.File), "; "))
	}
	if p.Drain != nil {
		t.row("Drain:", a.drainLine(p))
	}
	t.row("Devices:", strings.Join(p.DeviceMask, ", "))
	if len(p.Devices) > 0 {
		t.row("VRAM:", poolVRAM(p.Devices))
	}
	a.needRows(t, p)
	t.row("Slots:", slotLine(p))
	if line := contextLine(p); line != "" {
		t.row("Context:", line)
	}
	if line := performanceLine(a.now(), p); line != "" {
		t.row("Performance:", line)
	}
	t.row("Leases:", strconv.Itoa(p.ActiveLeases))
	t.row("Restarts:", restarts(p.RestartCount, p.RestartsSinceStable))
	if p.BackoffMS > 0 {
		t.row("Backoff:", span(time.Duration(p.BackoffMS)*time.Millisecond))
	}
	if p.Breaker != nil && *p.Breaker != "closed" {
		t.row("Breaker:", *p.Breaker)
	}
	if p.NextRestartMS != nil {
		t.row("Next start:", "in "+span(max(time.UnixMilli(*p.NextRestartMS).Sub(a.now()), 0)))
	}
	t.row("Heartbeat:", heartbeat(a.now(), p.LastHeartbeatMS))
	if p.LastError != nil {
		t.row("Last error:", *p.LastError)
		t.row("Hint:", text(p.Hint))
		lastWords(t, p.Details)
	}
	if err := t.print(w); err != nil || len(p.Replicas) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if err := a.replicaTable(p).print(w); err != nil {
		return err
	}
	if err := printReasons(w, p); err != nil || len(p.Devices) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return a.poolDeviceTable(p.Devices).print(w)
}

// sourceRows adds what runs the pool where it is not a program of the host, and what asks for it
// beside a file.
func (a *app) sourceRows(t *table, p wire.Pool) {
	if p.Runtime != nil {
		t.row("Runtime:", "a container, run by "+*p.Runtime)
	}
	if preloaded(p) {
		t.row("Source:", "another program, by a preload; poolctl unload "+p.ID+" removes it")
	}
	if p.Override != nil {
		t.row("Override:", fmt.Sprintf("%s in place of the pool file's model, since %s ago; poolctl reload %s "+
			"--forget ends it", p.Override.ModelID, ago(a.now(), &p.Override.SinceMS), p.ID))
	}
}

// lastWords adds the last log lines of the run that the last error is about.
func lastWords(t *table, e *wire.Ending) {
	if e == nil {
		return
	}
	for i, line := range e.Lines {
		title := "then:"
		if i == 0 {
			title = "Last words:"
		}
		t.row(title, line)
	}
	if len(e.Lines) == 0 && e.NoLines != "" {
		t.row("Last words:", "none: "+e.NoLines)
	}
	if e.Suppressed > 0 {
		t.row("Lost lines:", fmt.Sprintf("%d lines were suppressed by journald, of this run or the end of the one "+
			"before", e.Suppressed))
	}
}

func stateLine(p wire.Pool) string {
	line := p.State
	if asleep := slices.IndexFunc(p.Replicas, func(r wire.Replica) bool { return r.Asleep }); asleep >= 0 {
		line += " (asleep)"
	}
	if n := len(p.Replicas); n > 1 {
		line += fmt.Sprintf(", %d of %d replicas ready", readyOnes(p), n)
	}
	if !p.Wanted && p.State != "invalid" {
		line += "; no pool file asks for it"
	}
	return line
}

func reloadLine(r wire.Reload) string {
	if r.RollingBack {
		return "to " + r.ModelID + "has failed and is being rolled back"
	}
	return "to " + r.ModelID + ", " + r.Phase
}

func (a *app) drainLine(p wire.Pool) string {
	left := time.UnixMilli(p.Drain.UntilMS).Sub(a.now())
	switch {
	case p.State == "stopped":
		return "drained; poolctl resume " + p.ID + " starts it"
	case left > 0:
		return "running work may continue for " + span(left)
	}
	return "the deadline has passed"
}

func slotLine(p wire.Pool) string {
	if p.SlotsTotal == 0 {
		return ""
	}
	return fmt.Sprintf("%d free of %d", p.SlotsFree, p.SlotsTotal)
}

// contextLine is the context of one request that the engines report.
func contextLine(p wire.Pool) string {
	least := 0
	for _, r := range p.Replicas {
		if r.Ctx > 0 && (least == 0 || r.Ctx < least) {
			least = r.Ctx
		}
	}
	if least == 0 {
		return ""
	}
	return fmt.Sprintf("%d tokens", least)
}

func heartbeat(now time.Time, ms *int64) string {
	if ms == nil {
		return ""
	}
	return ago(now, ms) + " ago"
}

func (a *app) replicaTable(p wire.Pool) *table {
	t := &table{colour: a.colour}
	wide := a.o.output == formatWide
	head := []string{"REPLICA", "STATE", "SINCE", "PID", "ENDPOINT", "SLOTS", "RESTARTS", "UNIT"}
	if wide {
		head = append(head, "VERSION", "DEVICES", "INVOCATION", "SPEC")
	}
	t.row(head...)
	for _, r := range p.Replicas {
		pid := ""
		if r.PID != nil {
			pid = strconv.Itoa(*r.PID)
		}
		state := r.State
		if r.Asleep {
			state += " (asleep)"
		}
		if r.BackoffMS > 0 {
			state += " " + span(time.Duration(r.BackoffMS)*time.Millisecond)
		}
		cells := []string{r.ID, state, ago(a.now(), r.SinceMS), pid, text(r.Endpoint), slots(r.SlotsFree, r.SlotsTotal),
			strconv.Itoa(r.RestartCount), r.Unit}
		if wide {
			cells = append(cells, text(r.EngineVersion), strings.Join(r.DeviceMask, ","), text(r.InvocationID),
				text(r.SpecHash))
		}
		t.row(cells...)
	}
	return t
}

// printReasons prints the reason of each replica's state, and errors that the pool's own line
// lacks.
func printReasons(w io.Writer, p wire.Pool) error {
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	for _, r := range p.Replicas {
		if r.Reason != "" {
			if _, err := fmt.Fprintf(w, "%s: %s\n", clean(r.ID), clean(r.Reason)); err != nil {
				return err
			}
		}
		for _, refused := range r.RefusedAnswers {
			if _, err := fmt.Fprintf(w, "%s: an answer of the engine is not believed: %s\n", clean(r.ID),
				clean(refused)); err != nil {
				return err
			}
		}
		if r.Ctx > 0 && r.Ctx < r.CtxAsked {
			if _, err := fmt.Fprintf(w, "%s: the engine serves a context of %d tokens, less than the %d of the pool "+
				"file\n", clean(r.ID), r.Ctx, r.CtxAsked); err != nil {
				return err
			}
		}
		for _, unknown := range r.Unanswered {
			if _, err := fmt.Fprintf(w, "%s: the engine does not report its %s\n", clean(r.ID),
				clean(unknown)); err != nil {
				return err
			}
		}
		if r.LastError == nil || text(r.LastError) == text(p.LastError) {
			continue
		}
		if _, err := fmt.Fprintf(w, "    %s\n", clean(*r.LastError)); err != nil {
			return err
		}
		if r.Hint != nil {
			if _, err := fmt.Fprintf(w, "    %s\n", clean(*r.Hint)); err != nil {
				return err
			}
		}
	}
	return nil
}

// restarts formats the number of restarts, and how many came since the engine was last stable.
func restarts(all, sinceStable int) string {
	if sinceStable == all {
		return strconv.Itoa(all)
	}
	return fmt.Sprintf("%d (%d since it was stable)", all, sinceStable)
}
