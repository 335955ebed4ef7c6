package fleet

import (
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// Progress is how publishing in one place goes. The publisher writes it, and any goroutine may read
// it. The methods of a nil one do nothing.
type Progress struct {
	mu  sync.Mutex
	now wire.FleetPublishing
}

// NewProgress is of a publisher that has not published yet.
func NewProgress(to string) *Progress {
	return &Progress{now: wire.FleetPublishing{To: to, SinceMS: time.Now().UnixMilli()}}
}

// Wrote is a success: this host is published, and so many keys or requests were taken.
func (p *Progress) Wrote(n int) {
	p.change(func(s *wire.FleetPublishing) {
		s.Published, s.Conflict, s.LastError = true, false, ""
		s.Writes += uint64(n)
		s.LastMS = time.Now().UnixMilli()
	})
}

// Failed is an attempt that failed: this host is not published until the next success.
func (p *Progress) Failed(err error) {
	p.change(func(s *wire.FleetPublishing) {
		s.Published, s.Conflict, s.LastError = false, false, err.Error()
		s.Failures++
	})
}

// Ended is that this host is no longer published, and that no attempt failed.
func (p *Progress) Ended() {
	p.change(func(s *wire.FleetPublishing) { s.Published = false })
}

// Conflicted is that another host is published with the machine-id of this one.
func (p *Progress) Conflicted(err error) {
	p.change(func(s *wire.FleetPublishing) { s.Published, s.Conflict, s.LastError = false, true, err.Error() })
}

// Status is how it goes.
func (p *Progress) Status() wire.FleetPublishing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *Progress) change(f func(*wire.FleetPublishing)) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.now
	f(&p.now)
	if p.now.Published != before.Published || p.now.Conflict != before.Conflict {
		p.now.SinceMS = time.Now().UnixMilli()
	}
}
