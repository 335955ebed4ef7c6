package main

import (
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
		want    int
	}{
		{"idle", gcCalm, time.Minute, 4 * mib, gcCalm},
		{"now_and_then", gcCalm, time.Second, 4 * mib, gcCalm},
		{"busy", gcCalm, 10 * time.Millisecond, 4 * mib, gcBusyMost},
		{"busy_with_much_in_use", gcCalm, 10 * time.Millisecond, 16 * mib, 100},
		{"busy_with_very_much_in_use", gcCalm, 10 * time.Millisecond, 500 * mib, gcCalm},
		{"busy_with_next_to_nothing_in_use", gcCalm, 10 * time.Millisecond, 0, gcBusyMost},
		{"still_busy_with_the_higher_limit", gcBusyMost, time.Second, 4 * mib, gcBusyMost},
		{"calm_again", gcBusyMost, gcSeldom, 4 * mib, gcCalm},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := nextPercent(c.percent, c.since, c.live); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}
