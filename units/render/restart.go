package render

import (
	"hash/fnv"
	"math"
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/restarts"
)

// restartLines are what PID 1 does by itself when the engine ends, also while the manager is down.
func restartLines(in Input) []Line {
	r := in.Pool.Restart
	interval := restarts.Window(r, in.Pool.Health.StartTimeout) // the manager's breaker counts over the same
	lines := []Line{
		inUnit(span("StartLimitIntervalSec", "StartLimitIntervalUSec", interval,
			"long enough for the burst's delays and stalled loads, or the limit could never be reached")),
		inUnit(number("StartLimitBurst", uint32(max(r.BreakerFailures, 0)),
			"after so many starts PID 1 gives up, as the manager's breaker does while it is up; the manager tries again after breaker_timeout")),
		text("Restart", "on-failure", "a crash, a failed gate and an OOM kill start the engine again; an exit with status 0 is a stop"),
	}
	lines = append(lines, delayLines(in)...)
	return append(lines,
		span("TimeoutStartSec", "TimeoutStartUSec", startTimeout(in),
			"only for a gate that hangs: the gate itself fails a load that stalls. Half an hour, the stall time, and "+
				"the model read at 5 MB/s"),
		span("TimeoutStopSec", "TimeoutStopUSec", in.Adapter.StopTimeout(),
			"how long this engine was found to need after SIGTERM; requests were drained before"),
	)
}

// delayLines are the backoff. PID 1 waits RestartSec= before the first restart and grows
// geometrically to RestartMaxDelaySec= over RestartSteps= restarts (service_restart_usec_next in
// systemd's source). Where it cannot grow, the manager stretches the delay.
func delayLines(in Input) []Line {
	r := in.Pool.Restart
	delay, why := firstDelay(in)
	lines := []Line{span("RestartSec", "RestartUSec", delay, why)}
	if steps := restartSteps(delay, r); steps > 0 && in.Host.RestartSteps && in.Host.RestartMaxDelay {
		lines = append(lines,
			number("RestartSteps", steps, "so many restarts until the longest delay, the smallest number that grows "+
				"by no more than factor"),
			span("RestartMaxDelaySec", "RestartMaxDelayUSec", r.Max, "the longest delay"))
	}
	if jitter := scale(r.Initial, 2*r.Jitter); jitter > 0 && in.Host.RandomizedDelay {
		lines = append(lines, span("RestartRandomizedDelaySec", "RestartRandomizedDelayUSec", jitter,
			"up to so much is added to each delay: engines that fell together do not start together"))
	}
	return lines
}

// firstDelay is the initial delay with its jitter. PID 1's own random part is added to the delay
// and lies between nothing and its limit (seen on 262), so the delay begins below by the jitter.
func firstDelay(in Input) (time.Duration, string) {
	r := in.Pool.Restart
	if in.Host.RandomizedDelay {
		return scale(r.Initial, 1-r.Jitter).Round(time.Millisecond),
			"the first delay less its jitter; PID 1 adds a random part"
	}
	return jittered(r, replica(in).Unit()), "the first delay, moved by a fraction of jitter that the unit's name " +
		"decides, " +
		"so that engines that fell together do not start together"
}

// restartSteps returns the smallest n for which (max/delay)^(1/n) is not above factor, 0 where the
// delay does not grow.
func restartSteps(delay time.Duration, r pool.Restart) uint32 {
	if delay <= 0 || r.Max <= delay || r.Factor <= 1 {
		return 0
	}
	n := math.Log(float64(r.Max)/float64(delay)) / math.Log(r.Factor)
	// A power that is whole up to rounding is whole: 1 s to 64 s by 2 are 6 steps, not 7.
	return uint32(min(max(math.Ceil(n-1e-9), 1), 1000))
}

// jittered moves the first delay by at most ± jitter, the same for a unit each time.
func jittered(r pool.Restart, unit string) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(unit))
	fraction := float64(h.Sum64()>>11)/(1<<53)*2 - 1 // -1 up to 1, from the hash's upper 53 bits
	return scale(r.Initial, 1+fraction*r.Jitter).Round(time.Millisecond)
}

// scale multiplies a span, without running over.
func scale(d time.Duration, by float64) time.Duration {
	return time.Duration(min(max(float64(d)*by, 0), float64(math.MaxInt64/4)))
}

// startTimeout bounds a start whose gate does not decide. Loads are bounded by stall, so it is
// wide.
func startTimeout(in Input) time.Duration {
	const slowestDisk = 5_000_000 // bytes a second
	read := time.Duration(max(in.Staged.SizeBytes, 0)/slowestDisk) * time.Second
	return (30*time.Minute + in.Pool.Health.StartTimeout + read).Truncate(time.Minute) + time.Minute
}

// accountingLines count what the engine uses. PID 1's defaults differ by release. CPU time is
// counted without being asked for, and systemd 262 has no CPUAccounting= any more.
func accountingLines() []Line {
	const why = "usage is read from the cgroup's files, whatever the host's defaults are"
	var lines []Line
	for _, what := range []string{"Memory", "IO", "Tasks", "IP"} {
		lines = append(lines, yes(what+"Accounting", why))
	}
	return lines
}
