package gpus

import (
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// The kernel's log alone has the process of an Xid, and NVML's event alone is proof of one: a local
// user can bring text into that log. So a line that names a process counts against its engine only
// together with an event of the same Xid on the same GPU.

// provenWithin is the longest time between such a line and its event, in either order.
const provenWithin = 10 * time.Second

// mostProven bounds both lists, whatever is logged.
const mostProven = 64

// xidOf identifies an Xid of a GPU.
type xidOf struct {
	device string
	xid    int
}

// proven pairs lines with events.
type proven struct {
	events map[xidOf]time.Time
	lines  map[xidOf]line
}

// line is a line that waits for its event.
type line struct {
	fault *Fault
	at    time.Time
}

// note takes a line or an event, and returns the fault of a process that both report; nil: none.
func (p *proven) note(v classify.Verdict, now time.Time, fault func() *Fault) *Fault {
	key := xidOf{v.Device, v.Xid}
	if v.Xid == 0 || v.Device == "" {
		return nil
	}
	p.expire(now)
	if !v.Hearsay() {
		remember(&p.events, key, now)
		waits, ok := p.lines[key]
		delete(p.lines, key)
		if !ok {
			return nil
		}
		return waits.fault
	}
	if v.PID == 0 || v.Code == "" {
		return nil
	}
	if _, ok := p.events[key]; ok {
		return fault()
	}
	remember(&p.lines, key, line{fault(), now})
	return nil
}

func remember[V any](m *map[xidOf]V, key xidOf, value V) {
	if *m == nil {
		*m = make(map[xidOf]V)
	}
	if len(*m) < mostProven {
		(*m)[key] = value
	}
}

func (p *proven) expire(now time.Time) {
	for key, at := range p.events {
		if now.Sub(at).Abs() > provenWithin {
			delete(p.events, key)
		}
	}
	for key, l := range p.lines {
		if now.Sub(l.at).Abs() > provenWithin {
			delete(p.lines, key)
		}
	}
}
