package api

import (
	"context"
	"sync"
	"time"
)

// What one account of ordinary callers may ask at most: requests beyond it wait for their turn. It
// is far above what a monitor or an orchestrator asks, and bounds the time that a caller who asks
// without end takes from the others, root too.
const (
	paceEvery = time.Second / 500
	paceBurst = 1000 * paceEvery
)

// Callers that open more connections than they get have one row of turns together, however many
// they are: each of their requests delays others. An account is in it until crowdingFor after the
// last connection that it was refused, or that closed one of its own.
const (
	crowdEvery  = time.Second / 200
	crowdingFor = 10 * time.Second
)

// pacedLimit bounds how many accounts are remembered, of each kind.
const pacedLimit = 4096

// pacer gives each account its turns.
type pacer struct {
	mu       sync.Mutex
	next     map[account]time.Time // the first turn that is not taken
	crowding map[account]time.Time // until when an account counts as one that crowds
	crowd    time.Time             // as next, of all that crowd
}

func newPacer() pacer {
	return pacer{next: make(map[account]time.Time), crowding: make(map[account]time.Time)}
}

// crowds notes that an account opens more connections than it gets.
func (p *pacer) crowds(a account, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.crowding[a]; !known && len(p.crowding) >= pacedLimit {
		clear(p.crowding) // one that goes on is noted again at once
	}
	p.crowding[a] = now.Add(crowdingFor)
}

// turn is a request's place in a row of turns.
type turn struct {
	account account
	crowd   bool
	wait    time.Duration
}

// reserve takes an account's next turn. rated says whether it has turns where it does not crowd.
func (p *pacer) reserve(a account, rated bool, now time.Time) turn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until, is := p.crowding[a]; is && now.Before(until) {
		if p.crowd.Before(now) {
			p.crowd = now
		}
		t := turn{account: a, crowd: true, wait: p.crowd.Sub(now)}
		p.crowd = p.crowd.Add(crowdEvery)
		return t
	} else if is {
		delete(p.crowding, a)
	}
	if !rated {
		return turn{}
	}
	at, known := p.next[a]
	if !known && len(p.next) >= pacedLimit {
		p.forget(now)
	}
	if rested := now.Add(-paceBurst); at.Before(rested) {
		at = rested
	}
	p.next[a] = at.Add(paceEvery)
	return turn{account: a, wait: max(0, at.Sub(now))}
}

// release returns a turn that was not used: a caller who closes a connection whose request waits
// must not be kept waiting for hours.
func (p *pacer) release(t turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.crowd {
		p.crowd = p.crowd.Add(-crowdEvery)
	} else if at, known := p.next[t.account]; known {
		p.next[t.account] = at.Add(-paceEvery)
	}
}

// forget drops the accounts that have a whole burst again, all of them where none has.
func (p *pacer) forget(now time.Time) {
	for a, at := range p.next {
		if !at.After(now.Add(-paceBurst)) {
			delete(p.next, a)
		}
	}
	if len(p.next) >= pacedLimit {
		clear(p.next)
	}
}

// rated reports whether the requests of a caller have turns where it does not crowd: not those of
// one that may change pools, with a token or by auth_optional. An orchestrator takes leases as fast
// as it has requests.
func (x *exchange) rated() bool { return x.caller.may < accessWrite }

// neverPaced reports whether a caller has no turns at all: root and the group, and one whose token
// may change pools. Other programs of its host, or of others behind the same address, may crowd.
func (x *exchange) neverPaced() bool {
	return x.from.account.privileged || x.caller.kind == callerToken && !x.rated()
}

// await waits for the turn of a request. It ends early where the caller is gone, its connection was
// closed for another one, or this server ends: then it may be answered at once.
func (s *Server) await(ctx context.Context, x *exchange, now time.Time) {
	if x.neverPaced() {
		return
	}
	t := s.pace.reserve(x.from.account, x.rated(), now)
	if t.wait == 0 {
		return
	}
	timer := time.NewTimer(t.wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return
	case <-ctx.Done():
	case <-x.from.hung:
	case <-s.streaming.Done():
	}
	s.pace.release(t)
}
