package bench

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/perf"
)

// changeLeast is by which share a hint changes before it is published again: each time, everyone
// who follows the pool gets its status.
const changeLeast = 0.02

// Hints implements registry.Hinter.
func (b *Bench) Hints(pool string, r *registry.Replica) *registry.Perf {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pools[pool]
	if p == nil || !r.Ready {
		return nil
	}
	if e := p.engines[r.ID]; e != nil && e.target.Run == r.InvocationID {
		return e.shown
	}
	return nil
}

// show makes what is published of an engine, and reports whether it has changed enough. The caller
// holds the lock.
func (e *engineState) show() (changed bool) {
	now := registry.Perf{TokensPerS: perf.Round(e.hints.TokensPerS.Value()),
		FirstTokenMS: perf.Round(e.hints.FirstToken.Value())}
	if e.row != nil {
		best := e.row.Best()
		now.Measured, now.Disturbed = best.At, best.Disturbed != ""
	}
	was := e.shown
	switch {
	case now == registry.Perf{}:
		e.shown = nil
		return was != nil
	case was != nil && was.Measured.Equal(now.Measured) && was.Disturbed == now.Disturbed &&
		near(was.TokensPerS, now.TokensPerS) && near(was.FirstTokenMS, now.FirstTokenMS):
		return false
	}
	e.shown = &now
	return true
}

func near(a, b float64) bool { return math.Abs(a-b) <= changeLeast*math.Max(a, b) }

// Counted takes what an engine has counted since it was last asked.
func (b *Bench) Counted(pool, replica string, c registry.Counted) {
	if b.observed(pool, replica, c) {
		b.o.Registry.HintsChanged(pool)
	}
}

func (b *Bench) observed(pool, replica string, c registry.Counted) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pools[pool]
	if p == nil || p.engines[replica] == nil {
		return false
	}
	e := p.engines[replica]
	if m := b.current; m != nil && m.target.Pool == pool && m.target.Replica == replica {
		return false // it is followed by one that is skipped
	}
	if e.skip {
		e.skip = false
		return false
	}
	var o perf.Observed
	if l := c.FirstToken; l != nil {
		o.Requests, o.FirstTokenMS = l.Count, l.SumMS
	}
	if c.TokensOut != nil {
		o.Tokens = *c.TokensOut
	}
	switch {
	case c.Decode != nil:
		o.Ended, o.DecodeMS = c.Decode.Count, c.Decode.SumMS
	case c.DecodeMS != nil:
		o.DecodeMS = *c.DecodeMS
	}
	e.hints.Observe(o)
	return e.show()
}

// skip leaves out what an engine counts next: requests of a measurement are in it. The caller holds
// the lock.
func (b *Bench) skip(t Target) {
	if p := b.pools[t.Pool]; p != nil && p.engines[t.Replica] != nil {
		p.engines[t.Replica].skip = true
	}
}

// lookUp looks up what is kept of engines that serve, and decides which are to be measured.
func (b *Bench) lookUp() {
	for _, e := range b.unknown() {
		t := e.target
		row, ok := b.o.Store.Row(t.Identity.Key())
		b.mu.Lock()
		e.looked = true
		if ok && e.row == nil {
			e.take(&row)
		}
		if t.Automatic && t.Ask != nil && (!ok || row.Best().Disturbed != "") {
			e.due = &due{after: time.Now().Add(settleFor)}
		}
		b.mu.Unlock()
		if ok {
			b.serves(t)
			b.o.Registry.HintsChanged(t.Pool)
		}
	}
}

// unknown are the engines that were not looked up yet.
func (b *Bench) unknown() (list []*engineState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pools {
		for _, e := range p.engines {
			if !e.looked {
				list = append(list, e)
			}
		}
	}
	return list
}

// take begins with a measurement. The caller holds the lock.
func (e *engineState) take(row *perf.Row) {
	e.row, e.due = row, nil
	e.hints.Begin(row.Best())
	e.show()
}

// serves records with which identity a replica serves.
func (b *Bench) serves(t Target) {
	if err := b.o.Store.Serves(t.Pool+"/"+t.Name, t.Identity.Key()); err != nil {
		b.o.Log.Warn("could not save which measurement a replica serves with", "pool_id", t.Pool, "err", err)
	}
}

// keep takes a measurement: into the file, into the hints of every engine of that identity, and, if
// it is much below what served there before, into the events.
func (b *Bench) keep(t Target, result perf.Result) {
	before, known := b.o.Store.Last(t.Pool + "/" + t.Name)
	row := perf.Row{Identity: t.Identity, Last: result}
	if former, ok := b.o.Store.Row(t.Identity.Key()); ok {
		row = former.With(result)
	}
	if err := b.o.Store.Put(t.Identity, result); err != nil {
		b.o.Log.Warn("could not save a measurement of an engine; it is made again after the next start", "pool_id",
			t.Pool, "err", err)
	}
	b.serves(t)
	b.log(t, result)
	if known && perf.Slower(before.Best(), result) {
		b.slower(t, before, result)
	}
	for _, pool := range b.share(t.Identity.Key(), &row) {
		b.o.Registry.HintsChanged(pool)
	}
}

// share gives a measurement to every engine of its identity, and returns their pools.
func (b *Bench) share(key string, row *perf.Row) (pools []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, p := range b.pools {
		for _, e := range p.engines {
			if e.target.Identity.Key() == key {
				e.take(row)
				pools = append(pools, id)
			}
		}
	}
	return pools
}

func (b *Bench) log(t Target, r perf.Result) {
	attrs := []any{"pool_id", t.Pool, "replica_id", t.Replica, "engine", t.Identity.Engine,
		"tokens_per_s", perf.Round(r.One.TokensPerS), "first_token_ms", perf.Round(r.One.FirstTokenMS),
		"prompt_tokens_per_s", perf.Round(r.One.PromptTokensPerS)}
	if r.All != nil {
		attrs = append(attrs, "streams", r.All.Streams, "total_tokens_per_s", perf.Round(r.All.TotalTokensPerS))
	}
	if r.Disturbed != "" {
		b.ended("disturbed")
		b.o.Log.Info("the engine was measured, and disturbed by something else: "+r.Disturbed, attrs...)
		return
	}
	b.ended("done")
	b.o.Log.Info("the engine was measured", attrs...)
}

// slower reports an engine that is much slower than what served there before.
func (b *Bench) slower(t Target, before perf.Row, now perf.Result) {
	what := "the same engine, model, settings and devices"
	if changed := t.Identity.Changed(before.Identity); len(changed) > 0 {
		what = strings.Join(changed, ", ") + " changed"
	}
	text := fmt.Sprintf("%.0f %% slower than measured before: %v tokens/s instead of %v (%s)",
		100*perf.Drop(before.Best(), now), perf.Round(now.One.TokensPerS), perf.Round(before.Best().One.TokensPerS),
		what)
	b.o.Log.Warn("the engine is "+text, "pool_id", t.Pool, "replica_id", t.Replica, "hint",
		"poolctl bench "+t.Pool+" measures it again.")
	b.o.Registry.Note(registry.Event{Kind: registry.KindSlower, PoolID: t.Pool, ReplicaID: t.Replica, Cause: text})
}

// finishDue takes the end of an automatic measurement.
func (b *Bench) finishDue(m *measurement, result perf.Result, err error) {
	b.mu.Lock()
	b.skip(m.target)
	var d *due
	if p := b.pools[m.target.Pool]; p != nil && p.engines[m.target.Replica] != nil {
		d = p.engines[m.target.Replica].due
	}
	b.mu.Unlock()
	if d == nil {
		return // its run is another one now, or an operator had it measured meanwhile
	}
	switch {
	case err == nil && result.Disturbed == "":
		b.keep(m.target, result)
	case err == nil:
		b.disturbed(m, d, result)
	case cancelled(err):
		b.ended(outcomeOf(err))
		b.o.Log.Debug("a measurement has ended early: "+err.Error(), "pool_id", m.target.Pool)
	default:
		b.ended(outcomeOf(err))
		b.failed(m, d, err)
	}
}

// disturbed has a measurement repeated later, and shows the best one after some.
func (b *Bench) disturbed(m *measurement, d *due, result perf.Result) {
	if d.best == nil || perf.Better(*d.best, result) == result {
		d.best, d.shown = &result, false
	}
	more := b.again(d)
	if more && d.tries < shownAfter || d.shown {
		b.ended("disturbed")
		b.o.Log.Debug("a measurement was disturbed: "+result.Disturbed, "pool_id", m.target.Pool)
	} else {
		d.shown = true
		b.keep(m.target, *d.best)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pools[m.target.Pool]
	if p == nil || p.engines[m.target.Replica] == nil || p.engines[m.target.Replica].target.Run != m.target.Run {
		return
	}
	p.engines[m.target.Replica].due = nil
	if more {
		p.engines[m.target.Replica].due = d
	}
}

// failed has a measurement repeated later, unless the engine will never take it.
func (b *Bench) failed(m *measurement, d *due, err error) {
	attrs := []any{"pool_id", m.target.Pool, "replica_id", m.target.Replica, "err", err}
	if !unfit(err) && b.again(d) {
		b.o.Log.Debug("a measurement has failed and is repeated", attrs...)
		return
	}
	b.o.Log.Info("the engine could not be measured; its performance hints follow its own counters alone", attrs...)
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.pools[m.target.Pool]; p != nil && p.engines[m.target.Replica] != nil {
		p.engines[m.target.Replica].due = nil
	}
}

// again puts a measurement off, and reports whether it is made again at all.
func (b *Bench) again(d *due) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d.tries >= len(repeatAfter) {
		return false
	}
	d.after, d.noisy = time.Now().Add(repeatAfter[d.tries]), time.Time{}
	d.tries++
	return true
}

// Outcomes are how a measurement ends, for metrics.
func Outcomes() []string { return []string{"done", "disturbed", "cancelled", "failed"} }

func outcomeOf(err error) string {
	if cancelled(err) {
		return "cancelled"
	}
	return "failed"
}

func (b *Bench) ended(outcome string) {
	if b.o.Ended != nil {
		b.o.Ended(outcome)
	}
}
