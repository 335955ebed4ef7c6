// Package gpus is what the supervisor's loop knows of this host's GPUs: the newest facts, their
// age, each GPU's health, and what follows from them for a mask. Facts, driver events and log lines
// go in; answers come out.
//
// It owns the meeting of devices and pools' masks, in words of the registry. It must not do I/O,
// hold a goroutine or a clock, or decide what is started and stopped (package reconcile). A Board
// belongs to one goroutine.
package gpus

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/nvml/health"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/devices"
)

// Board holds what is known. Make one with New.
type Board struct {
	snapshot *nvml.Snapshot // nil: none yet
	stale    *nvml.Stale    // nil: the snapshot is fresh
	health   *health.Tracker
	proven   proven
}

// New makes a board that knows nothing yet, at the time when it begins to look.
func New(now time.Time) *Board { return &Board{health: health.New(now)} }

// Known reports whether the GPUs of this host are known, even if there are none.
func (b *Board) Known() bool { return b.snapshot != nil }

// Snapshot returns the newest facts, nil where there are none yet. They may be stale.
func (b *Board) Snapshot() *nvml.Snapshot { return b.snapshot }

// Any reports whether this host has GPUs, as far as is known.
func (b *Board) Any() bool { return b.snapshot != nil && len(b.snapshot.Devices) > 0 }

// Update takes one update of the source, and returns the changes of health. moved says that the
// devices themselves are others than before: masks must be resolved again.
func (b *Board) Update(u nvml.Update, now time.Time) (changes []health.Change, moved bool) {
	switch {
	case u.Snapshot != nil:
		moved = b.snapshot == nil || !sameDevices(b.snapshot, u.Snapshot)
		b.snapshot, b.stale = u.Snapshot, nil
		return b.health.Snapshot(u.Snapshot, now), moved
	case u.Stale != nil:
		b.stale = u.Stale
		b.health.Stale(u.Stale.Since)
	}
	return nil, false
}

// sameDevices reports whether masks resolve to the same in both.
func sameDevices(a, c *nvml.Snapshot) bool {
	return kindOf(a.Driver.Problem) == kindOf(c.Driver.Problem) &&
		slices.EqualFunc(a.Devices, c.Devices, func(x, y nvml.Device) bool {
			return x.UUID == y.UUID && x.Index == y.Index && x.PCI == y.PCI && kindOf(x.Problem) == kindOf(y.Problem) &&
				slices.Equal(x.Nodes, y.Nodes) &&
				slices.EqualFunc(x.Partitions, y.Partitions, func(p, q nvml.Partition) bool {
					return p.UUID == q.UUID && slices.Equal(p.Nodes, q.Nodes)
				})
		})
}

func kindOf(p *nvml.Problem) nvml.ProblemKind {
	if p == nil {
		return ""
	}
	return p.Kind
}

// Blocked says why a replica with this mask may not run now; nil: it may. Stale facts block
// nothing: engines go on while no one can tell about their GPUs.
func (b *Board) Blocked(mask []devices.Target, now time.Time) *registry.Failure {
	for _, t := range mask {
		st := b.health.State(t.UUID, now)
		if !st.Health.Usable() {
			return b.failureOf(st, t)
		}
	}
	return nil
}

// failureOf is a GPU's ill health as a pool's last_error says it. Where another GPU is the cause,
// as with what concerns the host, that one is named too: it is the one to look at.
func (b *Board) failureOf(st health.State, t devices.Target) *registry.Failure {
	what := fmt.Sprintf("GPU %d (%s) %s", t.Index, t.GPU, registry.Health(st.Health).Clause())
	if st.Cause == nil {
		return registry.Fail(registry.CodeGPUUnavailable, what, "See poolctl devices.")
	}
	text := st.Cause.Text
	if st.Cause.Device != t.GPU {
		text = b.placed(text, st.Cause.Device)
	}
	return registry.Fail(codeOf(st.Cause, registry.CodeGPUUnavailable), what+": "+text, sentence(st.Cause.Hint))
}

// sentence writes a verdict's clause as a hint is written.
func sentence(clause string) string {
	if clause == "" {
		return ""
	}
	return strings.ToUpper(clause[:1]) + strings.TrimSuffix(clause[1:], ".") + "."
}

// codeOf is a verdict's code where it has one.
func codeOf(v *classify.Verdict, otherwise registry.Code) registry.Code {
	if v.Code == "" {
		return otherwise
	}
	return registry.Code(v.Code)
}

// Free returns the free memory of a GPU or partition in bytes; ok is false where it is not known,
// or the facts are stale.
func (b *Board) Free(uuid string) (free uint64, ok bool) {
	if b.stale != nil {
		return 0, false
	}
	m := b.memory(uuid)
	if m == nil {
		return 0, false
	}
	return m.Free, true
}

func (b *Board) memory(uuid string) *nvml.Memory {
	if d, ok := b.snapshot.Device(uuid); ok {
		return d.Memory
	}
	if p, _, ok := b.snapshot.Partition(uuid); ok {
		return p.Memory
	}
	return nil
}

// Enough reports whether every device has the bytes that it is to give; ok is false where that is
// unknown.
func (b *Board) Enough(need map[string]uint64) (enough, ok bool) {
	for uuid, bytes := range need {
		free, known := b.Free(uuid)
		if !known {
			return false, false
		}
		if free < bytes {
			return false, true
		}
	}
	return true, len(need) > 0
}

// Used returns the bytes that a unit holds of a GPU or partition now.
func (b *Board) Used(unit, uuid string) uint64 {
	var sum uint64
	for _, p := range b.processes(uuid) {
		if p.Unit == unit && p.Used != nil {
			sum += *p.Used
		}
	}
	return sum
}

// Most returns what a GPU or partition has to give when no process uses it, in bytes; 0: unknown.
func (b *Board) Most(uuid string) uint64 {
	m := b.memory(uuid)
	switch {
	case m == nil:
		return 0
	case m.Reserved == nil:
		return m.Total
	}
	return m.Total - min(m.Total, *m.Reserved)
}
