package supervise

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// publish writes a pool's status to the registry: the one place where ready is set.
func (s *Supervisor) publish(e *entry) {
	p := registry.Pool{ID: e.id, Wanted: e.wanted, Source: e.source(), LastError: e.invalid, Draining: e.parked() &&
		e.exists()}
	named := false // by what serves
	for _, r := range e.sorted() {
		if r.wish.role == reconcile.Standby && r.unit.phase == reconcile.Absent {
			continue // a reload prepares it; the pool's state is that of what is there
		}
		p.Replicas = append(p.Replicas, r.snapshot())
		if p.Engine == "" || !named && r.view.state == registry.StateReady {
			p.Engine, p.ModelID = r.serves()
			r.offer(&p)
			p.Runtime = runtimeOf(r.pool())
			named = r.view.state == registry.StateReady
		}
	}
	e.showIntent(&p)
	e.showDownload(&p)
	p.Devices = s.poolDevices(e)
	p = registry.Aggregate(p)
	s.dirty = s.dirty || p.State != e.last.State
	e.last = s.o.Registry.Put(p)
}

// runtimeOf is what runs the image of a container.
func runtimeOf(p pool.Pool) string {
	if p.Provisioning.Mode != pool.ModeContainer {
		return ""
	}
	return cmp.Or(p.Provisioning.Runtime, pool.RuntimeSystemd)
}

// exists reports whether PID 1 has anything of the pool that must be stopped.
func (e *entry) exists() bool {
	for _, r := range e.replicas {
		if r.unit.phase.Exists() {
			return true
		}
	}
	return false
}

// sorted are the pool's replicas by place and side.
func (e *entry) sorted() []*replica {
	return slices.SortedFunc(maps.Values(e.replicas), func(a, b *replica) int {
		return cmp.Or(cmp.Compare(a.id.Index, b.id.Index), cmp.Compare(a.id.Side, b.id.Side))
	})
}

// assess derives the replica's state, and logs what changed with its reason. It reports whether the
// replica is ready.
func (s *Supervisor) assess(r *replica) (ready bool) {
	v := reconcile.Assess(r.facts())
	if v.Failure != nil {
		r.view.lastErr = v.Failure
	} else if v.Ready {
		r.view.lastErr = nil
	}
	s.logFailure(r, v.Failure)
	if v.State == r.view.state {
		return v.Ready
	}
	from := r.view.state
	r.view.state, r.view.reason, r.view.since = v.State, v.Reason, time.Now()
	s.o.Log.Info(fmt.Sprintf("%s: %s", r.id, v.Reason),
		append(s.about(r), "from", string(from), "to", string(v.State), "ready", v.Ready)...)
	return v.Ready
}

// logFailure logs each new failure once, with its hint.
func (s *Supervisor) logFailure(r *replica, f *registry.Failure) {
	if f == nil {
		r.view.logged = ""
		return
	}
	if text := f.Error(); text != r.view.logged && !r.reportPending(f) {
		r.view.logged = text
		s.o.Log.Warn(fmt.Sprintf("%s: %s", r.id, f.Message), append(s.about(r), "hint", f.Hint)...)
	}
}

// version is the engine's version: of the unit that runs, else of the engine that was prepared;
// empty where the engine does not print it, for which earlier managers labelled the unit "unknown".
func (r *replica) version() string {
	if v := r.unit.status.LogFields[render.FieldVersion]; v != "" && v != "unknown" {
		return v
	}
	return r.prep.prepared.Version
}

// waits is the delay until the next start, by PID 1 or the manager; zero when none is waited for.
func (r *replica) waits() time.Duration {
	if r.wait.on && r.unit.phase != reconcile.Backoff {
		return max(time.Until(r.wait.until), 0)
	}
	return r.backoff()
}

// nextStart is when the next start is due; zero where none is waited for.
func (r *replica) nextStart() time.Time {
	switch {
	case r.wait.on && r.unit.phase != reconcile.Backoff && r.wait.until.After(time.Now()):
		return r.wait.until
	case r.unit.phase == reconcile.Backoff && !r.unit.status.StateChange.IsZero():
		return r.unit.status.StateChange.Add(r.backoff())
	}
	return time.Time{}
}

// backoff is the delay that PID 1 waits now, zero when it does not wait.
func (r *replica) backoff() time.Duration {
	if r.unit.phase != reconcile.Backoff {
		return 0
	}
	usec := r.unit.status.RestartUSecNext
	if usec == 0 {
		usec = r.unit.status.RestartUSec
	}
	return time.Duration(usec) * time.Microsecond
}

// slotsTotal is how many requests the engine works on at once: as configured, or as it reported; 0
// while it was not asked. Of one that cannot be asked, does not answer, or is not believed, nothing
// is known, and one at a time is always right.
func (r *replica) slotsTotal() int {
	if n := r.pool().Slots; n > 0 {
		return n
	}
	if a, ok := r.adapter(); ok && a.SlotsPath() == "" {
		return 1
	}
	if r.run.slots == 0 && r.run.refused[bounds.OfSlots]+r.run.unanswered[bounds.OfSlots] != "" {
		return 1
	}
	return r.run.slots
}

// publicEndpoint is where the engine serves; empty until the gate and the manager's probe have
// found that it is the engine that answers there, and once its process has ended: another program
// may have the port.
func (r *replica) publicEndpoint() string {
	if r.external() || r.unit.phase == reconcile.Active && r.run.verdict != reconcile.Unprobed {
		return r.servedAt()
	}
	return ""
}

// servedAt is what clients put before the engine's own paths.
func (r *replica) servedAt() string {
	a, ok := r.adapter()
	if !ok || r.unit.endpoint == "" {
		return r.unit.endpoint
	}
	return r.unit.endpoint + engine.Below(a)
}

// snapshot is the replica as the registry shows it.
func (r *replica) snapshot() registry.Replica {
	v := reconcile.Assess(r.facts())
	unit := r.unit.name
	if r.external() {
		unit = "" // no one here has one
	}
	out := registry.Replica{
		Breaker: string(r.past.State.BreakerNow()), NextStart: r.nextStart(),
		ID: r.id.Name(), Name: r.id.Stable(), State: v.State, Live: v.Live, Ready: v.Ready,
		Reason: r.view.reason + r.partly(), GPULayers: r.gpuLayers(),
		Unit: unit, Endpoint: r.publicEndpoint(), PID: r.unit.status.MainPID, InvocationID: r.unit.status.InvocationID,
		SpecHash: r.unit.status.LogFields[render.FieldSpecHash], DeviceMask: r.mask(), EngineVersion: r.version(),
		SlotsTotal: r.slotsTotal(), SlotsFree: r.slotsTotal(), QueueDepth: r.queueDepth(), Work: r.work(),
		RefusedAnswers: r.refusedAnswers(), Unanswered: r.unansweredQuestions(),
		RestartCount: r.restarts(), RestartsSinceStable: r.sinceSteady(), Backoff: r.waits(),
		DiskBytes: r.unit.disk.used.Bytes, Need: r.shownNeed(),
		LastError: r.view.lastErr,
		Since:     r.view.since, LastHeartbeat: r.view.heartbeat,
	}
	if out.Asleep = r.asleep(); out.Asleep && v.Ready {
		out.Reason = r.asleepReason()
	}
	if v.State == registry.StateStaging && r.prep.download != nil {
		out.Reason = r.stagingReason()
	}
	if out.Ctx = r.servedContext(); out.Ctx > 0 {
		out.CtxAsked = r.pool().Ctx
	}
	r.describe(&out)
	return out
}

// report reports systemctl status how many pools there are, and how many in each state.
func (s *Supervisor) report() {
	if !s.dirty || s.o.Status == nil {
		return
	}
	s.dirty = false
	counts := make(map[registry.State]int)
	for _, e := range s.entries {
		counts[e.last.State]++
	}
	if line := statusLine(len(s.entries), counts); line != s.status {
		s.status = line
		s.o.Status(line)
	}
}

func statusLine(pools int, counts map[registry.State]int) string {
	word := "pools"
	if pools == 1 {
		word = "pool"
	}
	parts := []string{fmt.Sprintf("%d %s", pools, word)}
	for _, st := range registry.States() {
		if n := counts[st]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, st))
		}
	}
	return strings.Join(parts, ", ")
}
