package bench

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/perf"
)

// States of a run that an operator asked for.
const (
	StateWaiting   = "waiting"
	StateRunning   = "running"
	StateDone      = "done"
	StateFailed    = "failed"
	StateCancelled = "cancelled"
)

// asked is a run that an operator asked for.
type asked struct {
	id      string
	force   bool
	left    []string // replicas that are still to be measured; the first is under way
	state   string
	step    int
	steps   int
	since   time.Time
	failure *registry.Failure
}

// pending reports whether a replica is still to be measured.
func (a *asked) pending() bool { return a != nil && len(a.left) > 0 }

// end ends the run.
func (a *asked) end(state string, why *registry.Failure) {
	a.state, a.failure, a.left = state, why, nil
}

// forced reports whether leases do not end the measurement.
func (m *measurement) forced() bool { return m.asked != nil && m.asked.force }

// progress counts a step.
func (m *measurement) progress(b *Bench, n int) {
	if m.asked == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n == 0 {
		m.asked.state, m.asked.step, m.asked.steps = StateRunning, 0, m.steps()
	}
	m.asked.step += n
}

// Ask has the ready replicas of a pool measured, or the one that is named, and returns once that is
// noted. A run of the pool that is under way is not begun again. The error is a *registry.Failure.
func (b *Bench) Ask(id, replica string, force bool, by string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pools[id]
	if p == nil || p.status == nil {
		return registry.Fail(registry.CodePoolNotFound, "pool "+id+" not found",
			"poolctl list shows the pools of this host.")
	}
	if p.asked.pending() {
		return nil
	}
	targets, err := b.askable(p, id, replica, force)
	if err != nil {
		return err
	}
	b.runs++
	p.asked = &asked{id: fmt.Sprintf("b%d", b.runs), force: force, left: targets, state: StateWaiting,
		since: time.Now()}
	b.o.Log.Info("a benchmark was asked for", "pool_id", id, "identity", by)
	b.rouse()
	return nil
}

// askable returns the replicas that a request is about, or why it is refused. The caller holds the
// lock.
func (b *Bench) askable(p *poolState, id, replica string, force bool) ([]string, error) {
	var names []string
	reached := false
	for _, name := range slices.Sorted(maps.Keys(p.engines)) {
		t := p.engines[name].target
		if replica != "" && replica != t.Name && replica != name {
			continue
		}
		r := replicaOf(p.status, name)
		if r == nil || !r.Ready || r.InvocationID != t.Run {
			continue
		}
		reached = true
		if t.Ask == nil {
			continue
		}
		if err := b.against(&measurement{target: t, asked: &asked{force: force}}); err != nil {
			return nil, registry.Fail(registry.CodeBenchRefused,
				fmt.Sprintf("pool %s is not measured now: %s", id, err), askHint(err))
		}
		names = append(names, name)
	}
	switch {
	case !reached:
		return nil, registry.Fail(registry.CodeBenchRefused,
			fmt.Sprintf("pool %s is not measured: it is %s, and no replica that was asked for serves", id,
				p.status.State),
			"Wait until it is ready: poolctl status "+id+" shows why it is not.")
	case len(names) == 0:
		return nil, registry.Fail(registry.CodeBenchUnsupported,
			fmt.Sprintf("pool %s cannot be measured: its engine (%s) has no request for a streamed text", id,
				p.status.Engine),
			"The page Performance of the documentation lists engines that have one; none that serves embeddings or "+
				"ranks does.")
	}
	return names, nil
}

func askHint(err error) string {
	switch {
	case errors.Is(err, errLeased):
		return "Wait until they are released, or use --force: requests of others then slow the benchmark down, and " +
			"it slows them down."
	case errors.Is(err, errAsleep):
		return "Use --force to wake it."
	}
	return "Try again when that is over."
}

// nextAsked returns the next measurement of a pool that was asked for; nil: none. The caller holds
// the lock.
func (b *Bench) nextAsked(p *poolState) *measurement {
	if !p.asked.pending() {
		return nil
	}
	e := p.engines[p.asked.left[0]]
	if e == nil || e.target.Ask == nil {
		p.asked.end(StateFailed, failureOf(errGone))
		return nil
	}
	return &measurement{target: e.target, asked: p.asked, streams: b.slots(e.target)}
}

// finishAsked takes the result of a replica.
func (b *Bench) finishAsked(m *measurement, result perf.Result, err error) {
	if err == nil {
		b.keep(m.target, result)
	} else {
		b.ended(outcomeOf(err))
		b.o.Log.Info("a benchmark that was asked for has ended early: "+err.Error(), "pool_id", m.target.Pool,
			"replica_id", m.target.Replica)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.skip(m.target)
	switch {
	case !m.asked.pending():
	case err != nil && cancelled(err):
		m.asked.end(StateCancelled, failureOf(err))
	case err != nil:
		m.asked.end(StateFailed, failureOf(err))
	default:
		if m.asked.left = m.asked.left[1:]; len(m.asked.left) == 0 {
			m.asked.end(StateDone, nil)
		}
	}
	b.rouse()
}

// cancelled reports whether a measurement was ended for something more important, and not by a
// failure of its own.
func cancelled(err error) bool {
	for _, why := range []error{errWanted, errLeased, errGone, errDraining, errReload, errRemoved, errAsleep, errOff,
		errShutdown} {
		if errors.Is(err, why) {
			return true
		}
	}
	return false
}

func failureOf(err error) *registry.Failure {
	hint := "Read the engine's log (poolctl logs POOL)."
	if cancelled(err) {
		hint = "Nothing was kept. Try again when that is over."
	}
	return registry.Fail(registry.CodeBenchFailed, err.Error(), hint)
}

// interrupted ends what was asked for when the manager ends.
func (b *Bench) interrupted() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pools {
		if p.asked.pending() {
			p.asked.end(StateCancelled, failureOf(errShutdown))
		}
	}
}
