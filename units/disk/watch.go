package disk

import (
	"context"
	"log/slog"
	"time"
)

// Times of a watch.
const (
	lookEvery   = 10 * time.Second // asks the kernel for the free space, which costs nothing
	countEvery  = 5 * time.Minute
	countAtMost = 30 * time.Second // between two countings, also where space is lost fast
)

// What a file system may lose of its free space until it is counted again: parts of it, and fewer
// of one that is nearly full.
const (
	lossShare       = 50
	scarceLossShare = 1000
)

// Watch counts what engines have on the disk: every few minutes, and soon after a file system lost
// much of its free space or has little left.
type Watch struct {
	Engines func() bool // whether there are any
	Urgent  func() bool // whether one is over its bound
	Space   func() ([]Space, error)
	Count   func(ctx context.Context) (map[string]Usage, error)
	Deliver func(Report)
	Log     *slog.Logger

	counted time.Time // when it was tried last
	free    []uint64  // then
	failed  string    // what was logged last
}

// Run looks until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *Watch) look(ctx context.Context) {
	if !w.Engines() {
		return
	}
	spaces, err := w.Space()
	if err == nil && !w.due(spaces) {
		return
	}
	var of map[string]Usage
	if err == nil {
		w.counted, w.free = time.Now(), w.free[:0]
		for _, s := range spaces {
			w.free = append(w.free, s.Free)
		}
		of, err = w.Count(ctx)
	}
	if err != nil {
		w.report(ctx, err)
		return
	}
	w.failed = ""
	r := Report{Of: of, Space: spaces[0]}
	for _, s := range spaces {
		r.Full = r.Full || s.Scarce()
	}
	w.Deliver(r)
}

// due reports whether to count now.
func (w *Watch) due(spaces []Space) bool {
	since := time.Since(w.counted)
	if w.counted.IsZero() || since >= countEvery {
		return true
	}
	if since < countAtMost {
		return false
	}
	if w.Urgent() {
		return true
	}
	for i, s := range spaces {
		share := uint64(lossShare)
		if s.Scarce() {
			share = scarceLossShare
		}
		if i < len(w.free) && s.Free < w.free[i] && w.free[i]-s.Free > s.Bytes/share {
			return true
		}
	}
	return false
}

// report logs why nothing was counted, once for each reason.
func (w *Watch) report(ctx context.Context, err error) {
	if ctx.Err() != nil || err.Error() == w.failed {
		return
	}
	w.failed = err.Error()
	w.Log.Warn("could not count what engines have on the disk; [limits] state_max is not watched", "err", err,
		"hint", "The log of pool-disk.service may have the reason: journalctl -u pool-disk.service.")
}
