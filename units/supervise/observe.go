package supervise

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/catalogue"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/render"
	"github.com/pool-managerd/pool-managerd/units/restarts"
)

// update takes what PID 1 says.
func (s *Supervisor) update(u systemd.Update) {
	switch u.Kind {
	case systemd.Synced:
		s.synced(u)
	case systemd.Changed:
		if run, gone := s.forgotten[u.Unit.Name]; gone && run == u.Unit.InvocationID {
			return // a replica made of it would count its runs once more
		}
		if r := s.byUnit(u.Unit.Name); r != nil {
			r.unit.position = u.Position
			s.observe(r, u.Unit)
			s.settle(r)
		}
	case systemd.Removed:
		delete(s.forgotten, u.Name)
		if r := s.byUnit(u.Name); r != nil {
			r.unit.position = u.Position
			s.observe(r, systemd.Status{Name: u.Name})
			s.settle(r)
		}
	case systemd.Lost:
		s.connected = false
		s.o.Log.Warn("lost the connection to PID 1; engines keep running, and the manager reconnects", "err", u.Err)
	}
}

// synced compares everything that PID 1 has with everything that the loop knows.
func (s *Supervisor) synced(u systemd.Update) {
	first := !s.isAdopted()
	s.connected, s.everSynced = true, true
	clear(s.forgotten)
	s.applyFeatures(u.Features)
	there := make(map[*replica]bool, len(u.Units))
	for _, st := range u.Units {
		r := s.byUnit(st.Name)
		if r == nil {
			continue
		}
		there[r] = true
		r.unit.position = u.Position
		s.observe(r, st)
		s.takeReference(r)
		if first && r.unit.phase == reconcile.Active {
			s.adopting[r] = true
		}
	}
	for _, e := range s.entries {
		for _, r := range e.replicas {
			if !there[r] && r.unit.phase != reconcile.Absent && r.unit.status.SubState != "external" {
				r.unit.position = u.Position
				s.observe(r, systemd.Status{Name: r.unit.name})
			}
		}
	}
	s.o.Log.Info("read the engine units from PID 1", "units", len(there))
	s.takeUpExternal()
	s.reapply()
	s.adoptionMayBeDone()
	if !s.isAdopted() {
		s.effect(func(ctx context.Context) func() {
			select {
			case <-ctx.Done():
			case <-time.After(adoptionGrace):
			}
			return s.endAdoption
		}, func(error) {})
	}
}

// reapply evaluates again which replicas are wanted: a unit that was just seen may be an orphan.
func (s *Supervisor) reapply() {
	if !s.applied {
		return
	}
	s.apply(s.wanted)
	for _, e := range s.entries {
		for _, r := range e.replicas {
			if r.wish.asks == reconcile.Unwanted && r.unit.phase != reconcile.Absent {
				s.o.Log.Warn("draining, then stopping a unit that no pool file asks for",
					append(s.about(r), "unit", r.unit.name)...)
			}
		}
	}
}

// byUnit returns the replica of a unit's name, made if it is new, or nil for a name that is not
// ours.
func (s *Supervisor) byUnit(name string) *replica {
	id, ok := pool.ParseUnit(name)
	if !ok {
		return nil
	}
	return s.replica(id)
}

// read takes what PID 1 answered about a replica's unit, unless an update was newer.
func (s *Supervisor) read(r *replica, st systemd.Status) {
	if st.Position >= r.unit.position {
		s.observe(r, st)
	}
}

// observe takes what PID 1 says of a replica's unit.
func (s *Supervisor) observe(r *replica, st systemd.Status) {
	was, before := r.unit.status, r.unit.phase
	phase := phaseOf(st)
	if has(before) && !has(phase) {
		s.noteEnd(r, time.Now())
	}
	r.takeStatus(st, phase)
	s.followRun(r, st.InvocationID, before)
	r.updateMask()
	s.adoptEndpoint(r)
	s.countRestarts(r, was)
	ended := s.countRuns(r, st)
	s.countRun(r, was, before)
	s.explainEnd(r, st, before, ended)
	s.finishJob(r)
	s.followHealth(r)
}

// has reports whether a unit has a process in a phase, or is about to.
func has(p reconcile.Phase) bool { return p == reconcile.Starting || p == reconcile.Active }

// takeStatus keeps what PID 1 says, and drops what counted for the phase that is over.
func (r *replica) takeStatus(st systemd.Status, phase reconcile.Phase) {
	if st.Bare() && st.InvocationID == r.unit.status.InvocationID {
		st.LogFields = r.unit.status.LogFields // they are still true of the process
	}
	r.unit.status, r.unit.phase = st, phase
	r.noteDropped(st, time.Now())
	r.unit.spec = parseSpec(st.LogFields[render.FieldSpecHash])
	if phase == reconcile.Absent {
		r.unit.limits = ""
	} else if r.unit.limits != "" {
		r.unit.spec.Limits = r.unit.limits
	}
	if !r.unit.phase.Exists() {
		r.job.stopErr = nil
	}
	if phase == reconcile.Active {
		r.unit.moves = 0
	}
	if phase == reconcile.Absent || has(phase) {
		r.job.unsure = false
	}
	if phase != reconcile.Exited {
		r.wish.revive = false // the wish is granted: the next stop is another
	}
}

// followRun ends a run when its unit leaves "active", and replaces it when the unit has another
// invocation: the end may have gone unseen while the connection was lost.
func (s *Supervisor) followRun(r *replica, id string, before reconcile.Phase) {
	if goesOn := before != reconcile.Active || r.unit.phase == reconcile.Active; goesOn && id == r.run.id {
		return
	}
	r.run.endDrain()
	s.stopHealth(r)
	r.explainBy(r.run.fault, r.run.id, time.Now())
	if id != r.run.id {
		r.run = run{id: id}
	}
}

// countRun counts what PID 1 started or ended by itself.
func (s *Supervisor) countRun(r *replica, was systemd.Status, before reconcile.Phase) {
	if other := r.unit.status.InvocationID != was.InvocationID && was.InvocationID != ""; other && has(r.unit.phase) &&
		r.job.action != reconcile.Start {
		s.beginRun(r) // PID 1's own restart, or an administrator's
	}
	ended := r.unit.phase == reconcile.Exited && before != reconcile.Exited
	if ended && r.past.State.BreakerNow() == restarts.HalfOpen {
		s.endRun(r) // the trial was stopped, or ended by itself with status 0
	}
	if r.runs() {
		r.wait.end() // what held its start back is over, also where it was another manager that saw it begin
	}
}

// explainEnd finds out why a run ended, if it did.
func (s *Supervisor) explainEnd(r *replica, st systemd.Status, before reconcile.Phase, ended string) {
	switch r.job.action {
	case reconcile.Stop: // a load that is cut by our own stop ends as failed, and is no failure
		s.stoppedLate(r, st)
	case reconcile.Defer: // its failure is counted already; how it came about may be known only now
		if r.unit.phase == reconcile.Backoff || r.unit.phase == reconcile.Broken {
			s.crashed(r, st, ended)
		}
	default:
		s.crashed(r, st, ended)
		// No failure, or PID 1 would not: the manager makes the next start, whatever PID 1's limit.
		again := r.unit.moving || noNode(st) || st.Bare()
		if r.unit.phase == reconcile.Broken && before != reconcile.Broken && !again {
			s.gaveUp(r)
		}
	}
}

// finishJob ends a call to PID 1 whose success shows in the unit.
func (s *Supervisor) finishJob(r *replica) {
	switch r.job.action {
	case reconcile.Kill:
		if r.unit.phase != reconcile.Active {
			r.job.end()
		}
	case reconcile.Start:
		if r.unit.phase.Exists() {
			r.job.end()
			r.started() // PID 1 has it; the rest comes as unit changes
		}
	}
}

// crashed keeps why the last run ended badly, until the engine is ready again, and has the run
// counted whose end is new.
func (s *Supervisor) crashed(r *replica, st systemd.Status, counted string) {
	if r.unit.phase == reconcile.Exited && !st.FailedInStop() && !r.endedItself() && !r.wait.on {
		r.last.crash = nil // what went wrong before is not why it is stopped now
	}
	ended := r.unit.phase == reconcile.Backoff || r.unit.phase == reconcile.Broken || st.FailedInStop() ||
		r.endedItself()
	var f *registry.Failure
	if ended {
		f = Diagnose(st, r.pool())
	}
	switch {
	case noNode(st):
		s.awaitNode(r, st, counted, f)
		return
	case f == nil && counted == "":
		return
	case f == nil:
		f = registry.Fail(registry.CodeEngineCrashed, "the engine ended", readLogs(r.unit.name))
		s.failedRun(r, counted, f, false)
		return
	case lacks(f):
		r.withdrawReport()
		f = s.lacking(r, f)
	default:
		f = s.reportCrash(r, st, f)
	}
	switch {
	case s.move(r, cmp.Or(counted, st.InvocationID), f):
	case counted != "":
		s.failedRun(r, counted, f, r.reportPending(f))
	case lacks(f):
		s.reclassify(r, st.InvocationID, restarts.ClassOf(f.Code), f)
	}
	r.last.crash = f
	s.renewStale(r, f)
}

// adoptEndpoint reads the port back that a unit of ours was given.
func (s *Supervisor) adoptEndpoint(r *replica) {
	endpoint := r.unit.status.LogFields[render.FieldEndpoint]
	if endpoint == "" || endpoint == r.unit.endpoint {
		return
	}
	port, err := strconv.Atoi(endpoint[strings.LastIndexByte(endpoint, ':')+1:])
	if err != nil {
		return
	}
	r.unit.endpoint, r.unit.port = endpoint, port
	s.o.Ports.Adopt(r.id, port)
}

// countRestarts reports the metrics how often PID 1 started the engine again.
func (s *Supervisor) countRestarts(r *replica, was systemd.Status) {
	if !was.Loaded() || was.NRestarts >= r.unit.status.NRestarts {
		return
	}
	reason := "unknown"
	if r.last.crash != nil {
		reason = strings.ToLower(string(r.last.crash.Code))
	}
	s.o.Observer.Restarted(*r.entry.last, reason, r.unit.status.NRestarts-was.NRestarts)
}

// phaseOf folds ActiveState and SubState, whose words are in systemctl(1) and in
// org.freedesktop.systemd1(5).
func phaseOf(st systemd.Status) reconcile.Phase {
	if !st.Loaded() {
		return reconcile.Absent
	}
	switch st.SubState {
	case "auto-restart", "auto-restart-queued", "failed-before-auto-restart", "dead-before-auto-restart",
		"dead-resources-pinned":
		return reconcile.Backoff
	}
	switch st.ActiveState {
	case "active", "reloading", "refreshing":
		return reconcile.Active
	case "activating":
		return reconcile.Starting
	case "deactivating":
		return reconcile.Stopping
	case "failed", "maintenance":
		if st.FailedInStop() {
			return reconcile.Exited // someone stopped it, and that is respected however it ended
		}
		return reconcile.Broken
	}
	switch {
	case st.JobID != 0:
		return reconcile.Starting // made a moment ago; its start job is queued
	case st.InvocationID == "":
		return reconcile.Absent // its job was cancelled before it ran: only a name
	}
	return reconcile.Exited
}

// parseSpec reads the two halves of SPEC_HASH.
func parseSpec(hash string) reconcile.Spec {
	identity, limits, _ := strings.Cut(hash, "-")
	return reconcile.Spec{Identity: identity, Limits: limits}
}

func (s *Supervisor) isAdopted() bool {
	select {
	case <-s.adopted:
		return true
	default:
		return false
	}
}

// adoptionMayBeDone ends adoption when every unit that ran was probed once.
func (s *Supervisor) adoptionMayBeDone() {
	if s.connected && s.applied && len(s.adopting) == 0 {
		s.endAdoption()
	}
}

func (s *Supervisor) endAdoption() {
	if s.isAdopted() {
		return
	}
	clear(s.adopting)
	close(s.adopted)
	s.sweepPorts()
	s.o.Log.Info("adoption is complete", "pools", len(s.entries), catalogue.Key, catalogue.Adopted)
}
