package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

func newEvents(a *app) *cobra.Command {
	var follow bool
	var kinds []string
	cmd := &cobra.Command{
		Use:   "events [POOL]",
		Short: "Show the events of all pools and GPUs, or of one pool",
		Long: `Show what happened since the daemon started, the last 1024 events: changes of ready, crashes, drains, reloads, lost leases, and GPUs.
With -f, print new events as they happen.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return onePool(cmd, args)
		},
		ValidArgsFunction: a.completePool,
		RunE: do(func(ctx context.Context, args []string) error {
			if err := validKinds(kinds); err != nil {
				return err
			}
			return a.runEvents(ctx, eventQuery{strings.Join(args, ""), kinds, follow})
		}),
	}
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "show only events of these `kinds`, as ready,crash")
	_ = cmd.RegisterFlagCompletionFunc("kind",
		func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return completeList(kindNames(), typed)
		})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print new events as they happen")
	return cmd
}

// eventQuery is which events to print.
type eventQuery struct {
	pool   string   // empty: of all
	kinds  []string // empty: of all
	follow bool
}

// kindNames are the kinds of events.
func kindNames() []string {
	var names []string
	for _, k := range registry.Kinds() {
		names = append(names, string(k))
	}
	return names
}

// validKinds refuses words that are no kind.
func validKinds(kinds []string) error {
	for _, k := range kinds {
		if slices.Contains(kindNames(), k) {
			continue
		}
		e := &exitError{code: exitUsage, text: fmt.Sprintf("there is no kind of events %q", k),
			hint: "The kinds are " + strings.Join(kindNames(), ", ") + "."}
		if near := nearest(k, kindNames()); near != "" {
			e.hint = "Did you mean " + near + "? " + e.hint
		}
		return e
	}
	return nil
}

// runEvents prints a stream. With follow, a broken stream is resumed after the last printed event.
func (a *app) runEvents(ctx context.Context, q eventQuery) error {
	c, err := newClient(a.o)
	if err != nil {
		return err
	}
	if q.pool != "" {
		if _, _, err := got(c.GetPool(ctx, q.pool)); err != nil {
			return a.instead(withNearest(ctx, c, q.pool, err), "Without the manager, its log has them: poolctl logs "+
				q.pool)
		}
	}
	last := ""
	for {
		err := a.readEvents(ctx, c, q, &last)
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C
		case err != nil && !isGone(err), !q.follow:
			return a.instead(err, "Without the manager, its log has them: journalctl -u pool-managerd")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(a.every):
		}
	}
}

// readEvents prints one stream until it ends; last is the id of the newest printed event.
func (a *app) readEvents(ctx context.Context, c *client.Client, which eventQuery, last *string) error {
	whole := *last == ""
	stream, err := c.GetEvents(ctx, client.GetEventsParams{Pool: which.pool, Kind: strings.Join(which.kinds, ","),
		Replay: &whole, Follow: &which.follow, LastEventID: *last})
	if err != nil {
		return explain(err)
	}
	defer stream.Close()
	for {
		e, err := stream.Next()
		if errors.Is(err, io.EOF) {
			return nil // the caller resumes a broken stream
		} else if err != nil {
			return explain(err)
		}
		*last = e.ID
		if err := a.printEvent(e.Kind, e.Data); err != nil {
			return err
		}
	}
}

func (a *app) printEvent(kind string, data []byte) error {
	if a.o.output == formatJSON {
		_, err := fmt.Fprintln(a.out, strings.TrimSpace(string(cleanJSON(data))))
		return err
	}
	if kind == "gap" {
		return a.printGap(data)
	}
	var e wire.Event
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("an event is not what this version of poolctl expects: %w", err)
	}
	of := e.PoolID
	switch {
	case e.ReplicaID != "":
		of += "/" + e.ReplicaID
	case of == "":
		of = e.Device
	}
	line := fmt.Sprintf("%s  %-8s %s  %s", time.UnixMilli(e.AtMS).Format(time.DateTime), clean(kind), clean(of),
		clean(eventText(e)))
	_, err := fmt.Fprintln(a.out, strings.TrimRight(line, " "))
	return err
}

// printGap prints how many events are missing.
func (a *app) printGap(data []byte) error {
	var g wire.Gap
	if err := json.Unmarshal(data, &g); err != nil {
		return fmt.Errorf("a gap is not what this version of poolctl expects: %w", err)
	}
	how := "events are"
	switch {
	case g.Missed == nil:
	case *g.Missed == 1:
		how = "1 event is"
	default:
		how = fmt.Sprintf("%d events are", *g.Missed)
	}
	_, err := fmt.Fprintf(a.out, "(%s missing here: the daemon was restarted, or no longer keeps them)\n", how)
	return err
}

// eventText describes an event: the new readiness, its cause, and the error if it has more.
func eventText(e wire.Event) string {
	words := e.Cause
	if e.Kind == "ready" && e.Ready != nil {
		words = "not ready: " + e.Cause
		if *e.Ready {
			words = "ready: " + e.Cause
		}
	}
	if e.LastError != nil && !strings.Contains(*e.LastError, e.Cause) {
		words += " (" + *e.LastError + ")"
	}
	return words
}
