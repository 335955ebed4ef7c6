package health

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// settle recomputes each GPU's health and returns the changes, by UUID.
func (t *Tracker) settle(at time.Time) []Change {
	host := t.hostFinding()
	var changes []Change
	for _, uuid := range slices.Sorted(maps.Keys(t.gpus)) {
		g := t.gpus[uuid]
		now, m := decide(g, host)
		if now == g.health {
			continue
		}
		changes = append(changes, Change{Device: uuid, From: g.health, To: now, Cause: m.why()})
		g.health, g.since = now, at
	}
	return changes
}

// decide returns the health of a GPU and the finding that decides it; nil: none.
func decide(g *gpu, host *finding) (Health, *finding) {
	if host != nil {
		return Host, host
	}
	if m := g.worst(nil); m != nil {
		return of(m.cause), m
	}
	if !g.seen {
		return Unknown, nil
	}
	return OK, nil
}

// why returns a copy of the finding's cause; nil for no finding.
func (m *finding) why() *classify.Verdict {
	if m == nil {
		return nil
	}
	v := m.cause
	return &v
}

// hostFinding returns the finding on the host as a whole: a report, or a sample in which one GPU
// asks for a reboot. If there are several, the oldest.
func (t *Tracker) hostFinding() *finding {
	var found []*finding
	for _, m := range t.host {
		found = append(found, m)
	}
	for _, g := range t.gpus {
		for key, m := range g.findings {
			if key.health == Host && m.cause.Scope == classify.ScopeHost {
				found = append(found, m)
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	return slices.MinFunc(found, func(a, b *finding) int {
		return cmp.Or(a.first.Compare(b.first), cmp.Compare(a.cause.Device, b.cause.Device))
	})
}

// worst returns the worst finding, of equals the newest; nil: none. With in, findings of other MIG
// instances do not count.
func (g *gpu) worst(in *place) *finding {
	var worst *finding
	for key, m := range g.findings {
		if in != nil && (key.gi != whole && key.gi != in.gi || key.ci != whole && key.ci != in.ci) {
			continue
		}
		if worst == nil || heavier(m, worst) {
			worst = m
		}
	}
	return worst
}

func heavier(a, b *finding) bool {
	ra, rb := of(a.cause).rank(), of(b.cause).rank()
	if ra != rb {
		return ra > rb
	}
	return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.cause.Kind, b.cause.Kind)) > 0
}

// State returns the current state of a GPU or MIG partition, by its UUID. A partition has the state
// of its GPU, without the findings of other partitions. GPUs that could not be identified, whose
// UUID is empty, share the worst of their states.
func (t *Tracker) State(uuid string, now time.Time) State {
	s := t.fresh(uuid)
	if s.Health == OK && !t.stale.IsZero() && now.Sub(t.stale) >= unknownAfter {
		return State{Health: Unknown, Since: t.stale}
	}
	return s
}

// fresh is State without the age of the facts.
func (t *Tracker) fresh(uuid string) State {
	host := t.hostFinding()
	if at, ok := t.partitions[uuid]; ok && host == nil {
		if m := t.gpus[at.gpu].worst(&at); m != nil {
			return State{Health: of(m.cause), Since: m.first, Cause: m.why()}
		}
		return State{Health: OK, Since: t.gpus[at.gpu].since}
	} else if ok {
		uuid = at.gpu
	}
	if m := t.nameless; uuid == "" && m != nil {
		return State{Health: of(m.cause), Since: m.first, Cause: m.why()}
	}
	g := t.gpus[uuid]
	if g == nil {
		return State{Health: Unknown, Since: t.stale}
	}
	_, m := decide(g, host)
	return State{Health: g.health, Since: g.since, Cause: m.why()}
}

// All returns the states of all GPUs that were ever seen or named, by UUID.
func (t *Tracker) All(now time.Time) map[string]State {
	all := make(map[string]State, len(t.gpus))
	for uuid := range t.gpus {
		all[uuid] = t.State(uuid, now)
	}
	return all
}
