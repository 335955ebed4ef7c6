package serve

import "time"

// backoff doubles from first to last with each failure.
type backoff struct {
	first, last time.Duration
	now         time.Duration
}

// next returns how long to wait after another failure.
func (b *backoff) next() time.Duration {
	b.now = min(max(b.now*2, b.first), b.last)
	return b.now
}

// reset restarts the backoff, after a success.
func (b *backoff) reset() { b.now = 0 }
