package probe

import (
	"testing"
	"time"
)

// TestOnGrid: probes of engines that became ready at different moments fall on the same moments,
// without a probe that comes much earlier or later than its interval asks for.
func TestOnGrid(t *testing.T) {
	for _, interval := range []time.Duration{500 * time.Millisecond, 5 * time.Second, 7300 * time.Millisecond,
		time.Minute} {
		t.Run(interval.String(), func(t *testing.T) {
			grid := min(interval/4, gridMax)
			start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			for offset := time.Duration(0); offset < 2*interval; offset += interval / 37 {
				now := start.Add(offset)
				for probe := range 5 {
					wait := onGrid(now, interval, interval)
					if off := wait - interval; off > grid/2 || off < -grid/2 {
						t.Fatalf("probe %d from %s waits %s", probe, offset, wait)
					}
					now = now.Add(wait)
					if !now.Equal(now.Round(grid)) {
						t.Fatalf("probe %d from %s is at %s, beside the grid", probe, offset, now)
					}
				}
			}
		})
	}
}
