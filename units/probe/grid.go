package probe

import "time"

// gridMax is the widest grid. Probes of many engines that fall on the same moments wake the process
// once for all of them: that is most of what an idle manager costs, a probe by itself costs little.
const gridMax = time.Second

// onGrid returns the wait until the point of a common grid that is nearest to now+wait. The grid is
// a quarter of the interval, at most gridMax, so that a probe moves by no more than an eighth of
// its interval.
func onGrid(now time.Time, wait, interval time.Duration) time.Duration {
	at := now.Add(wait)
	return max(at.Round(min(interval/4, gridMax)).Sub(now.Round(0)), 0)
}
