package lease

// choose returns the least loaded open replica with that name; an empty name matches all.
func (p *ledger) choose(replica string) (Seat, error) {
	var best Seat
	found, open := false, false
	for i := range p.state.Seats {
		s := &p.state.Seats[i]
		if !s.Open || !s.answersTo(replica) {
			continue
		}
		open = true
		if p.active[s.Replica] >= s.Slots {
			continue
		}
		if !found || p.less(s, &best) {
			best, found = *s, true
		}
	}
	switch {
	case found:
		return best, nil
	case open:
		return Seat{}, ErrExhausted
	}
	return Seat{}, ErrNotReady
}

// answersTo reports whether a requested name matches this replica: its own name, or the stable name
// that it shares with the other engine of a reload.
func (s *Seat) answersTo(name string) bool {
	return name == "" || name == s.Replica || name == s.Stable
}

// less reports whether a is less loaded than b: by the share of its slots in use, then by name.
func (p *ledger) less(a, b *Seat) bool {
	x, y := p.active[a.Replica]*b.Slots, p.active[b.Replica]*a.Slots
	if x != y {
		return x < y
	}
	return shorterFirst(a.Replica, b.Replica)
}

// shorterFirst orders r2 before r10.
func shorterFirst(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}
