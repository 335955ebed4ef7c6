package poollog

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of the lines about pools that pass in a window: of one pool, and of all. Lines with a
// message id have room of their own, so that what administrators filter for is the last to be left
// out. A pool whose engine crashes once a second writes about ten lines each time.
const (
	window     = time.Minute
	ofPool     = 20
	ofPoolMore = 30 // with those that have a message id
	ofAll      = 400
	ofAllMore  = 600
)

// named is how many pools the line about what was left out names.
const named = 5

// limit counts lines. Lines below info, and those about a request, which have an identity, are not
// counted: the former are for who asked for them, the latter are the audit.
type limit struct {
	mu    sync.Mutex
	began time.Time
	all   int
	pools map[string]int
	left  map[string]int // left out and not reported yet
	some  chan struct{}  // has a value when left has one
}

func newLimit() *limit {
	return &limit{pools: make(map[string]int), left: make(map[string]int), some: make(chan struct{}, 1)}
}

// take reports whether a line about a pool passes; event: it has a message id.
func (l *limit) take(pool string, event bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.began).Abs() >= window {
		l.began, l.all = now, 0
		clear(l.pools)
	}
	mostOfPool, mostOfAll := ofPool, ofAll
	if event {
		mostOfPool, mostOfAll = ofPoolMore, ofAllMore
	}
	if l.pools[pool] >= mostOfPool || l.all >= mostOfAll {
		l.left[pool]++
		select {
		case l.some <- struct{}{}:
		default:
		}
		return false
	}
	l.pools[pool]++
	l.all++
	return true
}

// takeLeft returns what was left out by pool, and begins again.
func (l *limit) takeLeft() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.left
	l.left = make(map[string]int)
	return left
}

// Run reports once a minute what was left out, until ctx ends. It waits without waking up while
// nothing is.
func (h *Handler) Run(ctx context.Context) {
	defer h.report()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.limit.some:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(window):
			h.report()
		}
	}
}

func (h *Handler) report() {
	left := h.limit.takeLeft()
	if len(left) == 0 {
		return
	}
	total := 0
	for _, n := range left {
		total += n
	}
	pools := slices.SortedFunc(maps.Keys(left), func(a, b string) int {
		if left[a] != left[b] {
			return left[b] - left[a]
		}
		return strings.Compare(a, b)
	})
	text := strings.Join(pools[:min(len(pools), named)], ", ")
	if more := len(pools) - named; more > 0 {
		text += fmt.Sprintf(" and %d others", more)
	}
	line := slog.NewRecord(time.Now(), slog.LevelWarn,
		fmt.Sprintf("%d lines about pools were left out, since there were too many in a minute: of %s", total, text), 0)
	line.AddAttrs(slog.Int("count", total), slog.Int("pools", len(pools)),
		slog.Int64("window_ms", window.Milliseconds()))
	_ = h.to.Handle(context.Background(), line) // a log that cannot be written to has no one to report to
}
