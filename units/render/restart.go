package render

import (
	"hash/fnv"
	"math"
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/restarts"
)

// restartLines configure what PID 1 does when the engine ends, also while the manager is down.
func restartLines(in Input) []Line {
	r := in.Pool.Restart
	interval := restarts.Window(r, in.Pool.Health.StartTimeout) // the same window as the manager's breaker
	lines := []Line{
		inUnit(span("StartLimitIntervalSec", "StartLimitIntervalUSec", interval,
			"long enough for the delays and stalled loads of the burst, or the limit would never be reached")),
		inUnit(number("StartLimitBurst", uint32(max(r.BreakerFailures, 0)),
			"after so many starts PID 1 stops restarting, like the manager's breaker; the manager retries after breaker_timeout")),
		restartLine(r),
	}
	lines = append(lines, delayLines(in)...)
	return append(lines,
		span("TimeoutStartSec", "TimeoutStartUSec", startTimeout(in),
			"only for a gate that hangs: the gate itself fails a load that stalls. Half an hour, the stall time, and "+
				"the model read at 5 MB/s"),
		span("TimeoutStopSec", "TimeoutStopUSec", in.Adapter.StopTimeout(in.Pool),
			"how long this engine needs after SIGTERM; requests were drained before"),
	)
}

// restartLine says which ends are followed by a restart. With either value, PID 1 restarts no unit
// that it was asked to stop.
func restartLine(r pool.Restart) Line {
	if r.OnExit == pool.ExitStops {
		return text("Restart", "on-failure",
			"restart after a crash, a failed gate and an OOM kill; on_exit says that an exit with status 0 is a stop")
	}
	return text("Restart", "always",
		"restart however the engine ended, with status 0 or by a stray SIGTERM, too; systemctl stop is respected")
}

// delayLines configure the backoff. PID 1 waits RestartSec= before the first restart; the delay
// grows geometrically to RestartMaxDelaySec= over RestartSteps= restarts (service_restart_usec_next
// in systemd's source). If PID 1 cannot do that, the manager extends the delay.
func delayLines(in Input) []Line {
	r := in.Pool.Restart
	delay, why := firstDelay(in)
	lines := growthOf(in).lines(delay, r.Max, why)
	if jitter := scale(r.Initial, 2*r.Jitter); jitter > 0 && in.Host.RandomizedDelay {
		lines = append(lines, span("RestartRandomizedDelaySec", "RestartRandomizedDelayUSec", jitter,
			"a random delay up to this is added: engines that failed together do not start together"))
	}
	return lines
}

// firstDelay is the initial delay with its jitter. PID 1 adds a random part between zero and its
// limit (seen on 262), so the delay is reduced by the jitter.
func firstDelay(in Input) (time.Duration, string) {
	r := in.Pool.Restart
	if in.Host.RandomizedDelay {
		return scale(r.Initial, 1-r.Jitter).Round(time.Millisecond),
			"the first delay less its jitter; PID 1 adds a random part"
	}
	return jittered(r, replica(in).Unit()), "the first delay, changed by a fraction of jitter that depends on " +
		"the unit's name, so that engines that failed together do not start together"
}

// growth is how the delay of a unit grows.
type growth struct {
	factor float64
	steps  bool // PID 1 can let it grow
}

func growthOf(in Input) growth {
	return growth{in.Pool.Restart.Factor, in.Host.RestartSteps && in.Host.RestartMaxDelay}
}

// lines are those of a delay that grows up to the longest.
func (g growth) lines(delay, longest time.Duration, why string) []Line {
	lines := []Line{span("RestartSec", "RestartUSec", delay, why)}
	if steps := restartSteps(delay, longest, g.factor); steps > 0 && g.steps {
		lines = append(lines,
			number("RestartSteps", steps, "the number of restarts until the longest delay, the smallest that grows "+
				"by at most factor"),
			span("RestartMaxDelaySec", "RestartMaxDelayUSec", longest, "the longest delay"))
	}
	return lines
}

// WithPolicy is the unit as it is started after failures. The spec hash stays: the pool did not
// change.
func (u Unit) WithPolicy(p restarts.UnitPolicy) Unit {
	if p == (restarts.UnitPolicy{}) {
		return u
	}
	lines := make([]Line, 0, len(u.Lines))
	for _, l := range u.Lines {
		switch l.Key {
		case "RestartSec":
			lines = append(lines, u.growth.lines(p.Delay.Round(time.Millisecond), p.Longest,
				"the delay after the next failure, which is not the first; it has its jitter")...)
		case "RestartSteps", "RestartMaxDelaySec", "RestartRandomizedDelaySec":
		case "StartLimitBurst":
			if p.Starts > 0 {
				l = inUnit(number(l.Key, uint32(p.Starts),
					"as many as the manager's breaker allows after the failures that it has counted"))
			}
			lines = append(lines, l)
		default:
			lines = append(lines, l)
		}
	}
	u.Lines = lines
	return u
}

// restartSteps returns the smallest n for which (longest/delay)^(1/n) is at most factor, 0 if the
// delay does not grow.
func restartSteps(delay, longest time.Duration, factor float64) uint32 {
	if delay <= 0 || longest <= delay || factor <= 1 {
		return 0
	}
	n := math.Log(float64(longest)/float64(delay)) / math.Log(factor)
	// Tolerate rounding errors: 1 s to 64 s by 2 are 6 steps, not 7.
	return uint32(min(max(math.Ceil(n-1e-9), 1), 1000))
}

// jittered changes the first delay by at most ± jitter, always the same for a unit.
func jittered(r pool.Restart, unit string) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(unit))
	fraction := float64(h.Sum64()>>11)/(1<<53)*2 - 1 // -1 up to 1, from the hash's upper 53 bits
	return scale(r.Initial, 1+fraction*r.Jitter).Round(time.Millisecond)
}

// scale multiplies a duration and saturates.
func scale(d time.Duration, by float64) time.Duration {
	return time.Duration(min(max(float64(d)*by, 0), float64(math.MaxInt64/4)))
}

// startTimeout bounds a start whose gate hangs. The gate bounds loads by stall, so it is generous.
func startTimeout(in Input) time.Duration {
	const slowestDisk = 5_000_000 // bytes a second
	read := time.Duration(max(in.Staged.SizeBytes, 0)/slowestDisk) * time.Second
	return (30*time.Minute + in.Pool.Health.StartTimeout + read).Truncate(time.Minute) + time.Minute
}

// accountingLines enable resource accounting, whose defaults differ by release. CPU time is always
// counted, and systemd 262 has dropped CPUAccounting=.
func accountingLines() []Line {
	const why = "the manager reads usage from the cgroup, whatever the host's defaults are"
	var lines []Line
	for _, what := range []string{"Memory", "IO", "Tasks", "IP"} {
		lines = append(lines, yes(what+"Accounting", why))
	}
	return lines
}
