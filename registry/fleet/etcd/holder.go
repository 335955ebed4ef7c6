package etcd

import (
	"context"
	"fmt"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
)

// holder is whose key is where this host's should be. It is an error.
type holder struct {
	revision       int64 // of its key
	boot, instance string
	name, address  string
	ttl            time.Duration // of its lease
	sameBoot       bool          // another process of this host's boot

	since time.Time // when it was first found
	told  time.Time // when the conflict was last logged; zero: never
}

// The pace at which a key that is in the way is looked at again.
const (
	formerBoot  = 2 * time.Second // while it may be of this host's former boot, and does not go
	tellAgain   = time.Hour       // between two log lines about a conflict
	longestHeld = 5 * time.Minute
)

// Error implements error.
func (h *holder) Error() string {
	if h.sameBoot {
		return "another process publishes this host, too"
	}
	return fmt.Sprintf("host %q has the same machine-id", h.name)
}

// holderOf returns whose key is in the way of this host's. One of this process is not, and one of
// this boot is only where this process was in its place before: else it is of a process that died.
// A value that cannot be read is replaced: no host's role may write it but this one's.
func (p *Publisher) holderOf(f found) (holder, bool) {
	if f.revision == 0 {
		return holder{}, false
	}
	h, err := record.DecodeHost(f.host)
	if err != nil || h.BootID == p.self.BootID && (h.Instance == p.self.Instance || !p.once) {
		return holder{}, false
	}
	ttl := min(time.Duration(h.TTL*float64(time.Second)), longestHeld)
	return holder{revision: f.revision, boot: h.BootID, instance: h.Instance, name: h.Name, address: h.Address,
		ttl: max(ttl, p.o.TTL), sameBoot: h.BootID == p.self.BootID}, true
}

// blocked is what follows a key in the way, and returns when to look again. It goes with its lease
// where its process ended; one that outlives it is of a process that runs.
func (p *Publisher) blocked(ctx context.Context, by holder) time.Duration {
	if p.held.boot != by.boot || p.held.instance != by.instance {
		p.held = by
		p.held.since = time.Now()
		p.show("etcd: waiting for the lease of this host's former boot to end")
		p.o.Progress.Ended()
	}
	if rest := p.held.ttl + slack - time.Since(p.held.since); rest > 0 {
		p.s.store.gone(ctx, by.revision, min(rest, formerBoot))
		return time.Millisecond
	}
	p.show("etcd: not published: " + p.held.Error())
	if by.sameBoot {
		p.o.Progress.Ended()
	} else {
		p.o.Progress.Conflicted(&p.held)
	}
	if p.held.told.IsZero() || time.Since(p.held.told) >= tellAgain {
		p.held.told = time.Now()
		p.o.Log.Error("this host is not published in etcd: "+p.held.Error(), "machine_id", p.self.MachineID,
			"other_name", by.name, "other_address", by.address, "hint", by.hint())
	}
	ttl := 2 * p.o.TTL
	if err := p.s.store.conflict(ctx, p.keys.Conflict(p.self.MachineID, p.self.BootID), p.host(), ttl); err != nil {
		p.o.Log.Debug("could not publish the conflict: " + err.Error())
	}
	return p.o.TTL / 2
}

func (h *holder) hint() string {
	if h.sameBoot {
		return "Is pool-fleet started by hand, or has a container of this host its machine-id? One of them must end."
	}
	return "Was this host cloned? On one of the two: rm /etc/machine-id /var/lib/dbus/machine-id; " +
		"systemd-machine-id-setup; reboot. Images should have an empty /etc/machine-id."
}
