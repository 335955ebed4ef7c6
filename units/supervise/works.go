package supervise

import (
	"time"

	"github.com/pool-managerd/pool-managerd/units/probe"
)

// Activity is what the processes of a unit have used so far.
type Activity struct {
	CPU     time.Duration
	IOBytes uint64
	Frozen  bool // they stand still: someone froze their unit
}

// What shows that an engine works: a share of a core since the last time, or bytes of a disk. One
// that serves a stream of a small model takes little time for it, and one that no one uses should
// take none: while leases are held, less is enough.
const (
	workShare      = 0.01
	workShareInUse = 0.001
	workBytes      = 4096
)

// works is whether an engine whose probes are late works on something. A late answer is of an
// engine that is busy or hangs; the two differ in what the engine does. It belongs to the loop.
type works struct {
	late    bool // the newest failure was a late answer, and no answer that is wrong
	looking bool // a look is under way
	spared  bool // that it is not restarted for its late answers was logged

	known bool      // there was a look before
	at    time.Time // when it last worked, or the first look
	usage Activity  // at that time
	mark  string    // and its own mark of progress, "" if unknown
	last  time.Time // when it was last seen to have worked since; zero: it was not

	explained bool // what a look has found of others was logged

	frozen   bool     // its unit is frozen
	crowded  bool     // others have many connections to its port
	accepted []uint64 // the connections that it has accepted, by inode
}

// lookAtWork looks, beside the loop, whether an engine whose answers are late has worked since the
// last look, and ends it if it has not for too long.
func (s *Supervisor) lookAtWork(w *watch) {
	if !w.late || w.looking || w.unhealthySince.IsZero() || !w.escalates() || s.o.Activity == nil {
		return
	}
	w.looking = true
	unit := w.r.unit.name
	s.effects.Go(func() {
		var a Activity
		ok, mark, held := false, "", crowd{}
		_ = s.guard(func() error { // it counts as no work
			held = s.crowdAt(w.endpoint)
			if a, ok = s.o.Activity(unit); ok {
				mark = w.progress(w.ctx)
			}
			return nil
		})
		s.post(func() {
			w.looking = false
			if w.r.run.watch != w || w.unhealthySince.IsZero() {
				return
			}
			now := time.Now()
			if ok {
				w.worked(a, mark, s.leasesOf(w.r) > 0, now)
			}
			w.underCrowd(held, w.r.slotsTotal(), now)
			named := w.standsStill(a.Frozen, now) || w.nameCrowd(held)
			if s.escalate(w, now) || named {
				s.settle(w.r)
			}
		})
	})
}

// worked takes a look.
func (u *works) worked(a Activity, mark string, inUse bool, now time.Time) {
	share := workShare
	if inUse {
		share = workShareInUse
	}
	need := max(time.Duration(share*float64(now.Sub(u.at))), time.Millisecond)
	moved := mark != "" && u.mark != "" && mark != u.mark
	switch {
	case !u.known:
		u.known = true
	case moved || a.CPU >= u.usage.CPU+need || a.IOBytes >= u.usage.IOBytes+workBytes:
		u.last = now
	default:
		return
	}
	u.at, u.usage = now, a
	if mark != "" {
		u.mark = mark
	}
}

// idleSince is since when an engine counts as given up: since its probes fail, or, where they are
// only late, since it last worked.
func (w *watch) idleSince() time.Time {
	if w.late && w.last.After(w.unhealthySince) {
		return w.last
	}
	return w.unhealthySince
}

// spare logs, once, that an engine is not restarted although its probes have failed for so long.
func (s *Supervisor) spare(w *watch, now time.Time) {
	if w.spared || w.idleSince().Equal(w.unhealthySince) || now.Sub(w.unhealthySince) < w.health.EscalateAfter {
		return
	}
	w.spared = true
	limit := "without a limit ([health] escalate_limit)"
	if w.health.EscalateLimit > 0 {
		limit = "up to " + rounded(w.health.EscalateLimit) + " ([health] escalate_limit)"
	}
	s.o.Log.Info("the engine answers late, but "+w.excuse()+": it is not restarted meanwhile, "+limit, s.about(w.r)...)
}

// noteLateness records whether a failed probe was late.
func (w *watch) noteLateness(reason string) { w.late = reason == probe.ReasonTimeout }

// excuse is why an engine whose answers are late is not restarted.
func (u *works) excuse() string {
	if u.crowded {
		return "others crowd its port"
	}
	return "it works"
}
