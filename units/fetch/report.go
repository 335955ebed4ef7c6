package fetch

import (
	"time"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// report prints how far a download is, until it is done.
func (f *fetcher) report(total int64, q *queue, done <-chan struct{}) {
	tick := time.NewTicker(f.set.tick)
	defer tick.Stop()
	have, _ := q.now()
	was, at, rate := f.complete.Load()+have, time.Now(), 0.0
	for first := true; ; first = false {
		select {
		case <-done:
			return
		case now := <-tick.C:
			have, name := q.now()
			is := f.complete.Load() + have
			last := float64(max(is-was, 0)) / max(now.Sub(at).Seconds(), 1e-3)
			// The mean of some seconds: one of them alone says little.
			if rate = 0.7*rate + 0.3*last; first {
				rate = last
			}
			was, at = is, now
			f.print(wire.Event{Kind: wire.Progress, Bytes: is, Total: total, Rate: int64(rate), File: name})
		}
	}
}

// bytes returns the size of all files together, 0 if that of one is unknown.
func (p plan) bytes() (total int64) {
	for _, file := range p.files {
		if file.size < 0 {
			return 0
		}
		total += file.size
	}
	return total
}
