package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

// benchOptions are the flags of bench.
type benchOptions struct {
	replica string
	force   bool
	last    bool
}

func newBench(a *app) *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "bench POOL",
		Short: "Measure how fast a pool's engines are, and compare with the measurement before",
		Long: `Measure the engines of a pool, one after another, by streamed requests of the manager's own: the time until the first
token and tokens per second, at one stream and at as many as there are slots, each the median of three runs. A lease that is asked for
ends it. The figures are defined in performance.md below /usr/share/doc/pool-managerd.`,
		Example: `  poolctl bench llama3
  poolctl bench llama3 --last -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completePool,
		RunE:              do(func(ctx context.Context, args []string) error { return a.runBench(ctx, o, args[0]) }),
	}
	f := cmd.Flags()
	f.StringVar(&o.replica, "replica", "", "measure only this `replica`, r0 for example")
	f.BoolVar(&o.force, "force", false, "measure although leases are held, and wake an engine that sleeps")
	f.BoolVar(&o.last, "last", false, "print the last measurement, and measure nothing")
	cmd.MarkFlagsMutuallyExclusive("last", "force")
	cmd.MarkFlagsMutuallyExclusive("last", "replica")
	return cmd
}

func (a *app) runBench(ctx context.Context, o benchOptions, id string) error {
	c, err := newClient(a.o)
	if err != nil {
		return err
	}
	var b wire.Bench
	var raw []byte
	if o.last {
		b, raw, err = got(c.GetBench(ctx, id))
	} else {
		b, raw, err = got(c.PostBench(ctx, id, wire.BenchRequest{ReplicaID: o.replica, Force: o.force},
			client.PostBenchParams{}))
	}
	if err != nil {
		return withNearest(ctx, c, id, err)
	}
	if !o.last && b.Run != nil {
		if b, raw, err = a.followBench(ctx, c, b, raw); err != nil {
			return err
		}
	}
	if a.o.output == formatJSON {
		_, err := a.out.Write(cleanJSON(raw))
		return err
	}
	return a.printBench(a.out, b)
}

// followBench shows how far a benchmark is until it is over.
func (a *app) followBench(ctx context.Context, c *client.Client, b wire.Bench, raw []byte) (
	wire.Bench, []byte, error) {
	shown := newBar(a.err, a.bar, a.now)
	defer shown.end()
	run := b.Run.ID
	for {
		switch {
		case b.Run == nil || b.Run.ID != run:
			return b, nil, errors.New("the manager was restarted, and the benchmark with it was lost")
		case b.Run.State == "done":
			return b, raw, nil
		case b.Run.Over():
			return b, nil, &exitError{code: exitFailed, text: clean(text(b.Run.Error)), hint: clean(text(b.Run.Hint))}
		}
		shown.line(b.PoolID, benchProgress(*b.Run), nil)
		select {
		case <-ctx.Done():
			fmt.Fprintf(a.err, "The benchmark goes on. poolctl bench %s --last shows what it measured.\n",
				clean(b.PoolID))
			return b, nil, errSilent
		case <-time.After(a.every / 4):
		}
		now, body, err := got(c.GetBench(ctx, b.PoolID))
		switch {
		case err == nil:
			b, raw = now, body
		case ctx.Err() == nil && !isGone(err):
			return b, nil, err
		}
	}
}

func benchProgress(r wire.BenchRun) string {
	if r.State == "waiting" {
		return "waiting for the benchmark of another engine"
	}
	return fmt.Sprintf("measuring %s, run %d of %d", text(r.ReplicaID), min(r.Step+1, r.Steps), r.Steps)
}

// printBench prints a table for each replica.
func (a *app) printBench(w io.Writer, b wire.Bench) error {
	out := &printer{w: w}
	if len(b.Replicas) == 0 {
		out.line("%s: no engine serves", b.PoolID)
	}
	for _, r := range b.Replicas {
		out.gap()
		out.line("%s: %s, %s, on %s", r.ReplicaID, strings.TrimSpace(r.Engine+" "+text(r.EngineVersion)),
			text(r.ModelID), benchDevices(r.DeviceMask))
		if r.Last == nil {
			line := "not measured yet"
			if r.Waits != nil {
				line += ": " + *r.Waits
			}
			out.line("%s", line)
			continue
		}
		out.table(benchTable(*r.Last, r.Former))
		out.line("%s", a.benchAge(*r.Last, r.Former))
		if r.Last.Disturbed != nil {
			out.line("disturbed: %s", *r.Last.Disturbed)
		}
	}
	return out.err
}

func benchDevices(mask []string) string {
	if len(mask) == 0 {
		return "the CPU"
	}
	return strings.Join(mask, ", ")
}

func benchTable(last wire.BenchResult, former *wire.BenchResult) *table {
	t := &table{}
	t.row("STREAMS", "FIRST TOKEN", "TOKENS/S", "TOTAL/S", "PROMPT/S", "TOTAL BEFORE", "CHANGE")
	row := func(now wire.BenchFigures, before *wire.BenchFigures) {
		cells := []string{strconv.Itoa(now.Streams), threeDigits(now.FirstTokenMS) + " ms", threeDigits(now.TokensPerS),
			threeDigits(now.TotalTokensPerS), threeDigits(now.PromptTokensPerS), "", ""}
		if before != nil && before.Streams == now.Streams {
			cells[5] = threeDigits(before.TotalTokensPerS)
			cells[6] = fmt.Sprintf("%+.0f %%", 100*(now.TotalTokensPerS/before.TotalTokensPerS-1))
		}
		t.row(cells...)
	}
	if former == nil {
		former = &wire.BenchResult{}
	}
	row(last.One, &former.One)
	if last.All != nil {
		row(*last.All, former.All)
	}
	return t
}

// threeDigits prints a figure with three digits; "" for one that is not known.
func threeDigits(v float64) string {
	if v == 0 {
		return ""
	}
	return strconv.FormatFloat(v, 'f', max(0, 2-int(math.Floor(math.Log10(v)))), 64)
}

func (a *app) benchAge(last wire.BenchResult, former *wire.BenchResult) string {
	line := fmt.Sprintf("measured %s ago, spread %.0f %%", ago(a.now(), &last.MeasuredMS), 100*last.SpreadRatio)
	if former != nil {
		line += fmt.Sprintf("; before: %s ago", ago(a.now(), &former.MeasuredMS))
	}
	return line
}

// performanceLine are the performance hints of a pool; "" while nothing is known.
func performanceLine(now time.Time, p wire.Pool) string {
	var parts []string
	if p.PerfTokensPerS != nil {
		parts = append(parts, threeDigits(*p.PerfTokensPerS)+" tokens/s")
	}
	if p.FirstTokenMS != nil {
		parts = append(parts, "first token after "+threeDigits(*p.FirstTokenMS)+" ms")
	}
	if len(parts) == 0 {
		return ""
	}
	var measured *int64
	disturbed := false
	for _, r := range p.Replicas {
		if f := r.Performance; f != nil && f.MeasuredMS != nil && (measured == nil || *f.MeasuredMS < *measured) {
			measured = f.MeasuredMS
		}
		disturbed = disturbed || r.Performance != nil && r.Performance.Disturbed
	}
	if measured != nil {
		parts = append(parts, "measured "+ago(now, measured)+" ago")
	}
	if disturbed {
		parts = append(parts, "disturbed")
	}
	return strings.Join(parts, ", ")
}
