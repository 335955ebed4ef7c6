package truth

import "maps"

// engines holds that an engine stays the same process unless a fault may have ended it, and is
// executed at most as often as that.
type engines struct {
	looked  bool
	running map[string]Process // by unit
	may     map[string]int     // of this round
	idle    map[string]bool    // pools that do not run, and that may be tried at any time
	started map[string]int     // in this round
	units   map[string]Unit    // of the last settled round
}

func newEngines() *engines { return &engines{running: make(map[string]Process)} }

func (e *engines) see(r Record) []Violation {
	switch {
	case r.Begin != nil:
		e.may, e.started, e.idle = maps.Clone(r.Begin.May), make(map[string]int), make(map[string]bool)
		for _, pool := range r.Begin.Unchecked {
			e.idle[pool] = !e.runs(pool)
		}
	case r.Look != nil:
		return e.look(r.Look.Processes)
	case r.Settled != nil:
		found := append(e.look(r.Settled.Look.Processes), e.compare(r.Settled)...)
		e.may, e.idle = nil, nil // until the next round begins, nothing may change
		return found
	}
	return nil
}

// look compares the processes of /proc with those of the look before.
func (e *engines) look(now []Process) (found []Violation) {
	seen := make(map[string]Process, len(now))
	for _, p := range now {
		seen[p.Unit] = p
	}
	if !e.looked {
		e.looked, e.running = true, seen
		return nil
	}
	for unit, was := range e.running {
		pool := PoolOf(unit)
		if is, ok := seen[unit]; ok && is == was {
			continue
		}
		if _, allowed := e.may[pool]; !allowed && !e.idle[pool] {
			found = append(found, wrong(RuleEngine, pool, "process %d of %s ended, and nothing had asked for that",
				was.PID, unit))
		}
	}
	for unit, is := range seen {
		pool := PoolOf(unit)
		if was, ok := e.running[unit]; ok && is == was {
			continue
		}
		if e.started == nil {
			e.started = make(map[string]int)
		}
		e.started[pool]++
		if most := e.may[pool]; e.started[pool] > most && !e.idle[pool] {
			found = append(found, wrong(RuleEngine, pool, "process %d of %s is execution %d of this round, at most %d "+
				"were asked for", is.PID, unit, e.started[pool], most))
		}
	}
	e.running = seen
	return found
}

// runs reports whether a pool had a process at the last look.
func (e *engines) runs(pool string) bool {
	for unit := range e.running {
		if PoolOf(unit) == pool {
			return true
		}
	}
	return false
}

// compare compares PID 1's record of each unit with that of the round before, and with /proc.
func (e *engines) compare(s *Settled) (found []Violation) {
	now := make(map[string]Unit, len(s.Units))
	for _, u := range s.Units {
		now[u.Name] = u
		if p, ok := e.running[u.Name]; ok && u.PID != p.PID {
			found = append(found, wrong(RuleEngine, PoolOf(u.Name), "PID 1 has process %d of %s, /proc has %d", u.PID,
				u.Name, p.PID))
		}
	}
	for name, was := range e.units {
		pool := PoolOf(name)
		if _, allowed := e.may[pool]; !allowed && !e.idle[pool] && now[name] != was {
			found = append(found, wrong(RuleEngine, pool, "PID 1 had %+v, and has %+v", was, now[name]))
		}
	}
	e.units = now
	return found
}
