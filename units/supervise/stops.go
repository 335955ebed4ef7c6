package supervise

import (
	"context"
	"sync"
	"time"
)

// maxStops bounds the engines that are stopped at the same time. With each engine the kernel frees
// some thirty seccomp programs; Linux 6.18 was seen to deadlock when a thousand engines ended at
// once (docs/adr/0015-seccomp-programs-cost.md).
const maxStops = 32

// stopShare is how long a stop counts: an engine that takes longer to end, for a request or a hung
// driver, delays no other.
const stopShare = 2 * time.Second

// mayStop waits until one more engine may be stopped, or until ctx ends, and returns what ends the
// stop's share.
func (s *Supervisor) mayStop(ctx context.Context) (done func()) {
	select {
	case s.stops <- struct{}{}:
	case <-ctx.Done():
		return func() {}
	}
	free := sync.OnceFunc(func() { <-s.stops })
	late := time.AfterFunc(stopShare, free)
	return func() {
		late.Stop()
		free()
	}
}
