//go:build machine

package bench

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
)

// onGPUs has n pools, p0 to p(n-1), each with one stand-in engine on a fake GPU of its own; it
// returns when all are ready.
func (s site) onGPUs(n int) {
	s.b.Helper()
	s.check(s.LoadGPUs(s.b.Context(), fmt.Sprintf("--gpus %d", n)))
	s.must(fmt.Sprintf(`cd %s; for i in $(seq 0 %d); do cat >p$i.toml <<END
engine = "llamacpp"
model = "file:%s"
devices = [$i]
vram = "2G"
args = ["--vram", "2147483648"]
[provisioning]
binary = "%s"
[restart]
breaker_failures = 100
END
done
systemctl reload pool-managerd`, host.PoolsDir, n-1, host.TinyModel, host.StubEngine))
	s.ready(n)
}

// BenchmarkXid is the time from an Xid of the driver until the API reports ready=false of the pool
// on that GPU: fifty times, on ten GPUs in turn. The fake library looks for events every five
// milliseconds, which is part of it.
func BenchmarkXid(b *testing.B) {
	s := on(b)
	const gpus, rounds = 10, 5
	s.onGPUs(gpus)
	for b.Loop() {
		var times []float64
		for range rounds {
			for i := range gpus {
				var seen struct{ USec int64 }
				s.check(json.Unmarshal([]byte(s.must(fmt.Sprintf("%s %d 95 p%d", xidwatch, i, i))), &seen))
				times = append(times, float64(seen.USec)/1000)
			}
			s.ready(gpus) // the GPUs answer, so that each is used again after its clean re-probe
		}
		slices.Sort(times)
		worst := times[len(times)-1]
		b.ReportMetric(median(times), "ms/xid")
		b.ReportMetric(worst, "ms/worst")
		shared.row("Xid to ready=false", fmt.Sprintf("median %.1f ms, worst %.1f ms of %d", median(times), worst,
			len(times)),
			"the fake library's own poll: 5 ms", "-")
	}
}

// BenchmarkIdleGPUs is the processor time of the daemon and of the helper in a minute in which
// eight GPUs have eight engines and nothing happens. The fake library's polling for events is in
// the helper's.
func BenchmarkIdleGPUs(b *testing.B) {
	s := on(b)
	s.onGPUs(8)
	s.pass("15") // the first samples, the collector
	used := func(unit string) float64 {
		text := strings.Fields(s.must("grep ^usage_usec /sys/fs/cgroup/system.slice/" + unit + "/cpu.stat"))
		n, err := strconv.ParseFloat(text[1], 64)
		s.check(err)
		return n
	}
	for b.Loop() {
		units := []string{host.ManagerUnit, host.HelperUnit, "pool-journal.service"}
		var before, share []float64
		for _, u := range units {
			before = append(before, used(u))
		}
		s.pass("60")
		for i, u := range units {
			share = append(share, (used(u)-before[i])/60e6*100)
		}
		b.ReportMetric(share[0], "%daemon")
		b.ReportMetric(share[1], "%helper")
		shared.row("CPU, 8 GPUs and 8 engines idle",
			fmt.Sprintf("daemon %.2f %%, helper %.2f %% of a core", share[0], share[1]),
			fmt.Sprintf("journalctl that follows the log: %.2f %%", share[2]), "-")
		shared.row("helper's and daemon's RSS, 8 GPUs",
			fmt.Sprintf("%.1f and %.1f MiB", s.rss(host.HelperUnit), s.rss(host.ManagerUnit)), "", "-")
	}
}

// rss is a service's resident memory in MiB.
func (s site) rss(unit string) float64 {
	s.b.Helper()
	u, err := s.Unit(s.b.Context(), unit)
	s.check(err)
	text := strings.Fields(s.must(fmt.Sprintf("grep ^VmRSS: /proc/%d/status", u.MainPID)))
	n, err := strconv.ParseFloat(text[1], 64)
	s.check(err)
	return n / 1024
}
