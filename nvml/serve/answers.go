package serve

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// join adds a follower or a request.
func (h *hub) join(c *client, now time.Time) {
	switch {
	case c.req.Op == wire.OpRelease: // works without a driver
		h.ledger.release(c.group.Unit)
		h.reply(c, wire.Reply{Granted: true}, now)
	case c.req.Op == wire.OpFollow:
		h.followers[c] = struct{}{}
		h.sampleAt = now
		if h.stall.now != nil {
			h.send(c, encode(wire.Reply{Stalled: h.stall.now}), now)
		}
	case h.stall.now != nil:
		h.reply(c, wire.Reply{Stalled: h.stall.now}, now)
	default:
		h.asks = append(h.asks, c)
	}
}

// answer returns the reply to a request, from the newest facts.
func (h *hub) answer(c *client, now time.Time) wire.Reply {
	if c.req.Op == wire.OpSnapshot {
		return wire.Reply{Snapshot: h.last}
	}
	if c.req.Op == wire.OpHeld {
		return wire.Reply{Held: held(h.last, c.group.Unit, c.req.Devices, h.o.Lives)}
	}
	if h.problem != nil {
		return wire.Reply{Error: "could not reserve memory: " + h.problem.Text}
	}
	if err := unknown(h.last, c.req.Needs); err != nil {
		return wire.Reply{Error: err.Error()}
	}
	var short []wire.Short
	if c.req.DryRun {
		short = h.ledger.short(c.group.Unit, c.req.Needs, h.last)
	} else {
		short = h.ledger.reserve(c.group, c.req.Needs, h.last, now)
		if len(short) == 0 {
			h.sweepAt = now.Add(sweepEvery)
		}
	}
	return wire.Reply{Granted: len(short) == 0, Short: short}
}

// unknown returns an error that names the devices that do not exist, and those that do.
func unknown(s *nvml.Snapshot, needs map[string]uint64) error {
	var lacking []string
	for _, device := range slices.Sorted(maps.Keys(needs)) {
		if _, ok := memoryOf(s, device); !ok {
			lacking = append(lacking, device)
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	var there []string
	for _, d := range s.Devices {
		there = append(there, d.UUID)
		for _, p := range d.Partitions {
			there = append(there, p.UUID)
		}
	}
	return fmt.Errorf("no device %s; there are: %s", strings.Join(lacking, ", "), strings.Join(there, ", "))
}
