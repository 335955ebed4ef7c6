package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// eventLine bounds one line of a stream, in bytes. An event with the last log lines of an engine
// has a few thousand.
const eventLine = 1 << 20

func newEvents(a *app) *cobra.Command {
	var follow bool
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
			return a.runEvents(ctx, strings.Join(args, ""), follow)
		}),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print new events as they happen")
	return cmd
}

// runEvents prints a stream. With follow, a broken stream is resumed after the last printed event.
func (a *app) runEvents(ctx context.Context, pool string, follow bool) error {
	c, err := newClient(a.o)
	if err != nil {
		return err
	}
	if pool != "" {
		if _, err := c.get(ctx, poolPath(pool, "")); err != nil {
			return c.withNearest(ctx, pool, err)
		}
	}
	last := ""
	for {
		err := a.readEvents(ctx, c, pool, follow, &last)
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C
		case err != nil && !isGone(err), !follow:
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(a.every):
		}
	}
}

// readEvents prints one stream until it ends; last is the id of the newest printed event.
func (a *app) readEvents(ctx context.Context, c *client, pool string, follow bool, last *string) error {
	q := url.Values{"follow": {fmt.Sprint(follow)}}
	if *last == "" {
		q.Set("replay", "true")
	}
	if pool != "" {
		q.Set("pool", pool)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v1/events?"+q.Encode(), nil)
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	if *last != "" {
		req.Header.Set("Last-Event-ID", *last)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.noAnswer(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, err := c.ask(ctx, http.MethodGet, "/v1/events?"+q.Encode(), nil) // the same answer, as an error
		return err
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, eventLine)
	kind := ""
	for lines.Scan() {
		switch name, value, _ := strings.Cut(lines.Text(), ": "); name {
		case "id":
			*last = value
		case "event":
			kind = value
		case "data":
			if err := a.printEvent(kind, value); err != nil {
				return err
			}
		}
	}
	return nil // the caller resumes a broken stream
}

func (a *app) printEvent(kind, data string) error {
	if a.o.output == formatJSON {
		_, err := fmt.Fprintln(a.out, strings.TrimSpace(string(cleanJSON([]byte(data)))))
		return err
	}
	var e wire.Event
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return fmt.Errorf("an event is not what this version of poolctl expects: %w", err)
	}
	if kind == "gap" {
		_, err := fmt.Fprintln(a.out, "(events are missing here: the daemon was restarted, or no longer keeps them)")
		return err
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
