package main

import (
	"context"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/units/memory"
)

// needLines are the memory with which the daemon decides the next starts of a pool: one line, and
// one more for each replica whose need differs.
func (a *app) needLines(p wire.Pool) (lines []string) {
	for _, r := range p.Replicas {
		line := a.needLine(r.MemoryNeed)
		if line == "" || len(lines) > 0 && strings.HasSuffix(lines[0], line) {
			continue
		}
		if len(p.Replicas) > 1 {
			line = r.ID + ": " + line
		}
		lines = append(lines, line)
	}
	return lines
}

// needRows adds them to the table of a pool.
func (a *app) needRows(t *table, p wire.Pool) {
	for _, line := range a.needLines(p) {
		t.row("Memory need:", line)
	}
}

// needLine is one need, as "6.0 GiB of GPU memory, 1.2 GiB of main memory (measured; raised after
// CUDA_OOM for 9m)".
func (a *app) needLine(n *wire.Need) string {
	if n == nil {
		return ""
	}
	var parts []string
	if n.VRAM > 0 {
		parts = append(parts, memory.Size(n.VRAM)+" of GPU memory")
	}
	if n.Host > 0 {
		parts = append(parts, memory.Size(n.Host)+" of main memory")
	}
	from := n.Source
	if n.RaisedAfter != nil {
		from += "; raised after " + *n.RaisedAfter
		if n.RaisedUntilMS != nil {
			from += " for " + span(max(time.UnixMilli(*n.RaisedUntilMS).Sub(a.now()), 0))
		}
	}
	return strings.Join(parts, ", ") + " (" + from + ")"
}

// needNotes are what the daemon knows of a pool's need beyond its files: a measured peak, and what
// a load lacked. Without a daemon there are none.
func (a *app) needNotes(ctx context.Context, pool string) (notes []string) {
	c, err := newClient(a.o)
	if err != nil || pool == "" {
		return nil
	}
	p, _, err := got(c.GetPool(ctx, pool))
	if err != nil {
		return nil
	}
	for _, line := range a.needLines(p) {
		notes = append(notes, "The need that the daemon knows: "+line+".")
	}
	return notes
}
