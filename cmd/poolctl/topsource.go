package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/safe"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/top"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// latest is the newest answer to a question that is asked again and again: it is read again
// only where it has changed.
type latest[T any] struct {
	tag   string
	value T
}

// take keeps an answer, and returns why there is none.
func (l *latest[T]) take(a client.Answer[T], err error) error {
	if err != nil {
		return explain(err)
	}
	if !a.NotModified {
		l.tag, l.value = a.ETag, a.Value
	}
	return nil
}

// seenNow are the answers of which a picture is made.
type seenNow struct {
	pools   latest[wire.PoolList]
	usage   latest[wire.Usage]
	devices latest[wire.DeviceList]
}

func (s *seenNow) ask(ctx context.Context, c *client.Client) error {
	if err := s.pools.take(c.GetPools(ctx, client.GetPoolsParams{IfNoneMatch: s.pools.tag})); err != nil {
		return err
	}
	if err := s.devices.take(c.GetDevices(ctx, client.GetDevicesParams{IfNoneMatch: s.devices.tag})); err != nil {
		return err
	}
	err := s.usage.take(c.GetUsage(ctx, client.GetUsageParams{IfNoneMatch: s.usage.tag}))
	if err != nil && !isGone(err) {
		return nil // a manager of an earlier version, which does not know it
	}
	return err
}

// poll sends a picture every second, or why there is none.
func (l *live) poll(ctx context.Context) {
	var now seenNow
	tick := time.NewTicker(l.a.every)
	defer tick.Stop()
	for {
		err := now.ask(ctx, l.c)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.send(ctx, top.Trouble{At: l.a.now(), Text: err.Error()})
		default:
			l.send(ctx, top.Picture{At: l.a.now(), Pools: now.pools.value, Usage: now.usage.value,
				Devices: now.devices.value})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// readEvents sends the events that the manager still has, and new ones.
func (l *live) readEvents(ctx context.Context) {
	last := ""
	for ctx.Err() == nil {
		l.readStream(ctx, &last) // that the manager is gone is shown by the poll
		select {
		case <-ctx.Done():
		case <-time.After(l.a.every):
		}
	}
}

// readStream sends the events of one stream, until it breaks; last is the id of the newest one.
func (l *live) readStream(ctx context.Context, last *string) {
	whole, follow := *last == "", true
	stream, err := l.c.GetEvents(ctx, client.GetEventsParams{Replay: &whole, Follow: &follow, LastEventID: *last})
	if err != nil {
		return
	}
	defer stream.Close()
	for {
		e, err := stream.Next()
		if err != nil {
			return
		}
		*last = e.ID
		if e.Kind == "gap" {
			var gap wire.Gap
			if json.Unmarshal(e.Data, &gap) == nil {
				l.send(ctx, top.Missed{Count: gap.Missed})
			}
			continue
		}
		var event wire.Event
		if json.Unmarshal(e.Data, &event) == nil {
			l.send(ctx, top.Events{event})
		}
	}
}

// act asks for a change of a pool.
func (l *live) act(ctx context.Context, d top.Do) {
	var err error
	switch d.Verb {
	case "drain":
		_, err = l.c.PostDrain(ctx, d.Pool, wire.DrainRequest{}, client.PostDrainParams{})
	case "resume":
		_, err = l.c.PostResume(ctx, d.Pool, client.PostResumeParams{})
	case "reload":
		_, err = l.c.PostReload(ctx, d.Pool, wire.ReloadRequest{}, client.PostReloadParams{})
	case "reset":
		_, err = l.c.PostReset(ctx, d.Pool, client.PostResetParams{})
	}
	done := top.Done{Do: d}
	if err != nil {
		err = explain(err)
		done.Err = err.Error()
		var e *exitError
		if errors.As(err, &e) && e.hint != "" {
			done.Err += ". " + e.hint
		}
	}
	l.send(ctx, done)
}

// Bounds of what is read of a log: its lines at first, and the bytes of one line.
const (
	firstLines = "100"
	lineLimit  = 1 << 20
)

// follow reads the log of a pool, and no longer the one before.
func (l *live) follow(ctx context.Context, f top.Follow) {
	if l.unfollow != nil {
		l.unfollow()
		l.unfollow = nil
	}
	switch {
	case f.Pool == "":
		return
	case l.a.o.admin == "": // as for aside: the address may be another host's
		l.model.Update(top.Log{Pool: f.Pool, End: "the journal of another host is not read here"})
		return
	}
	ctx, l.unfollow = context.WithCancel(ctx)
	l.all.Go(func() { l.readLog(ctx, f) })
}

// readLog sends the lines of a pool's log until ctx ends.
func (l *live) readLog(ctx context.Context, f top.Follow) {
	first := pool.Replica{Pool: f.Pool}
	units := append([]string{first.Unit(), first.Other().Unit()}, f.Units...)
	args := append([]string{"--no-pager", "--quiet", "--output=cat", "--follow", "--lines=" + firstLines},
		matchesOf(f.Pool, units, nil)...)
	cmd := exec.CommandContext(ctx, l.a.journalctl, args...)
	var problem bytes.Buffer
	cmd.Stderr = &problem
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		l.send(ctx, top.Log{Pool: f.Pool, End: journalFailed(err).Error()})
		return
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, lineLimit)
	for lines.Scan() {
		l.send(ctx, top.Log{Pool: f.Pool, Lines: []string{lines.Text()}})
	}
	err = errors.Join(lines.Err(), cmd.Wait())
	end := "it ended"
	if text := strings.TrimSpace(safe.Line(problem.String())); text != "" {
		end = text
	} else if err != nil {
		end = err.Error()
	}
	l.send(ctx, top.Log{Pool: f.Pool, End: end})
}
