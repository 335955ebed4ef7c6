package main

import (
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"time"
)

func TestNextPercent(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name    string
		percent int
		since   time.Duration
		live    uint64
		answers uint64
		want    int
	}{
		{"idle", gcCalm, time.Minute, 4 * mib, gcAnswers, gcCalm},
		{"now_and_then", gcCalm, time.Second, 4 * mib, gcAnswers, gcCalm},
		{"busy", gcCalm, 10 * time.Millisecond, 1 * mib, gcAnswers, gcBusyMost},
		{"busy_with_a_hundred_pools", gcCalm, 10 * time.Millisecond, 4 * mib, gcAnswers, 150},
		{"busy_with_much_in_use", gcCalm, 10 * time.Millisecond, 6 * mib, gcAnswers, 100},
		{"busy_with_more_than_the_calm_limit_allows", gcCalm, 10 * time.Millisecond, 16 * mib, gcAnswers, gcCalm},
		{"busy_with_very_much_in_use", gcCalm, 10 * time.Millisecond, 500 * mib, gcAnswers, gcCalm},
		{"busy_with_next_to_nothing_in_use", gcCalm, 10 * time.Millisecond, 0, gcAnswers, gcBusyMost},
		{"still_busy_with_the_higher_limit", gcBusyMost, time.Second, 1 * mib, gcAnswers, gcBusyMost},
		{"many_pools_start", gcCalm, 10 * time.Millisecond, 4 * mib, gcAnswers - 1, gcCalm},
		{"many_pools_start_and_nobody_asks", gcBusyMost, time.Second, 4 * mib, 0, gcCalm},
		{"calm_again", gcBusyMost, gcSeldom, 4 * mib, gcAnswers, gcCalm},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := nextPercent(c.percent, c.since, c.live, c.answers); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

// TestCollectorCalms: the higher limit ends soon after the work that needed it, without another
// allocation that would cause a collection.
func TestCollectorCalms(t *testing.T) {
	t.Cleanup(func() { debug.SetGCPercent(100) })
	limit := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	until := func(what string, reached func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !reached(); {
			if time.Now().After(deadline) {
				t.Fatalf("the limit is %d %%, %s", limit(), what)
			}
		}
	}
	var answers atomic.Uint64
	tuneCollector(func() uint64 { return answers.Add(gcAnswers) })
	var garbage [][]byte
	until("although there is much work", func() bool {
		garbage = append(garbage[:len(garbage)%8], make([]byte, 64<<10))
		return limit() > gcCalm
	})
	until("although there is no work", func() bool {
		time.Sleep(100 * time.Millisecond)
		return limit() == gcCalm
	})
}
