//go:build machine

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
)

// crashes is how many crashes one figure is the median of.
const crashes = 7

// peerUnit is an engine as an administrator without pool-managerd would run it: a hand-written unit
// with the same restart delay.
const (
	peerUnit = "peer.service"
	peerFile = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\nExecStart=" + host.StubEngine +
		" --port 25000\nRestart=on-failure\nRestartSec=1s\n"
)

// peer starts the peer, until the benchmark ends.
func (s site) peer() {
	s.b.Helper()
	s.check(s.WriteFile(s.b.Context(), "/etc/systemd/system/"+peerUnit, peerFile))
	s.must("systemctl daemon-reload; systemctl start " + peerUnit)
	s.b.Cleanup(func() {
		_, _ = s.Shell(context.WithoutCancel(s.b.Context()), "systemctl stop "+peerUnit+"; rm /etc/systemd/system/"+
			peerUnit)
	})
}

// crash is one crash as crashwatch saw it, in microseconds.
type crash struct {
	KillUSec int64 `json:"kill_usec"`
	BusUSec  int64 `json:"bus_usec"`
	APIUSec  int64 `json:"api_usec"`
}

// crash kills the unit's process; a pool is watched in the API as well.
func (s site) crash(unit string, pool ...string) (crash, host.Unit) {
	s.b.Helper()
	before, err := s.Unit(s.b.Context(), unit)
	s.check(err)
	var c crash
	s.check(json.Unmarshal([]byte(s.must(fmt.Sprintf("%s %s %d %s", crashwatch, unit, before.MainPID,
		strings.Join(pool, " ")))), &c))
	return c, before
}

// back waits until a unit runs again in another run than before.
func (s site) back(unit string, before host.Unit) (after host.Unit) {
	s.b.Helper()
	s.until(func(ctx context.Context) (err error) {
		after, err = s.Unit(ctx, unit)
		if err == nil && (after.ActiveState != "active" || after.InvocationID == before.InvocationID) {
			err = fmt.Errorf("not back yet: %+v", after)
		}
		return err
	})
	return after
}

// BenchmarkRestart is the time from SIGKILL of an engine until PID 1 has executed the next one,
// beside a hand-written unit.
func BenchmarkRestart(b *testing.B) {
	s := on(b)
	s.stubs(1)
	s.peer()
	restart := func(unit string) float64 {
		c, before := s.crash(unit)
		// PID 1's own clock, the same that crashwatch read.
		return float64(s.back(unit, before).ExecStartUSec-c.KillUSec) / 1000
	}
	var ours, theirs []float64
	for b.Loop() {
		for range crashes {
			// In turn, so that other load on the processor affects both.
			ours = append(ours, restart(host.EngineUnit("p0")))
			theirs = append(theirs, restart(peerUnit))
		}
	}
	mine, peer := median(ours), median(theirs)
	b.ReportMetric(mine, "ms/restart")
	b.ReportMetric(mine/peer, "ratio")
	shared.row("crash to new process", fmt.Sprintf("%.0f ms = %.3f x peer", mine, mine/peer),
		fmt.Sprintf("hand-written unit, same RestartSec: %.0f ms", peer), "≤ 1.1 x peer")
}

// BenchmarkCrashSeen is the time from SIGKILL of an engine until the API reports ready=false,
// beside a bare D-Bus subscriber.
func BenchmarkCrashSeen(b *testing.B) {
	s := on(b)
	s.stubs(1)
	unit := host.EngineUnit("p0")
	var bus, api []float64
	for b.Loop() {
		for range crashes {
			c, before := s.crash(unit, "p0")
			bus, api = append(bus, float64(c.BusUSec)/1000), append(api, float64(c.APIUSec)/1000)
			s.back(unit, before)
			s.until(func(ctx context.Context) error {
				p, err := s.Pool(ctx, "p0")
				if err == nil && !p.Ready {
					err = fmt.Errorf("%s", p)
				}
				return err
			})
		}
	}
	mine, peer := median(api), median(bus)
	b.ReportMetric(mine, "ms/crash")
	b.ReportMetric(mine/peer, "ratio")
	shared.row("crash to ready=false", fmt.Sprintf("%.1f ms = %.2f x peer", mine, mine/peer),
		fmt.Sprintf("bare D-Bus subscriber: %.1f ms", peer), "≤ 2 x peer")
}

// BenchmarkMemory is the manager's resident memory with one and with a hundred pools.
func BenchmarkMemory(b *testing.B) {
	s := on(b)
	for b.Loop() {
		for _, c := range []struct {
			pools  int
			target string
		}{{1, "≤ 16 MiB"}, {100, "≤ 22 MiB"}} {
			s.stubs(c.pools)
			s.pass("30") // probes go round, and the collector has run
			rss, anon := s.kib("VmRSS"), s.kib("RssAnon")
			b.ReportMetric(rss/1024, fmt.Sprintf("MiB@%d", c.pools))
			shared.row(fmt.Sprintf("manager's RSS, %d pools", c.pools), fmt.Sprintf("%.1f MiB", rss/1024),
				fmt.Sprintf("of it not shared with the file: %.1f MiB", anon/1024), c.target)
		}
	}
}

// kib reads a line of the manager's /proc/PID/status.
func (s site) kib(field string) float64 {
	s.b.Helper()
	u, err := s.Unit(s.b.Context(), host.ManagerUnit)
	s.check(err)
	text := strings.Fields(s.must(fmt.Sprintf("grep ^%s: /proc/%d/status", field, u.MainPID)))
	n, err := strconv.ParseFloat(text[1], 64)
	s.check(err)
	return n
}

// pass lets so many seconds pass by PID 1's clock.
func (s site) pass(seconds string) {
	s.b.Helper()
	s.must("systemd-run --quiet --wait sleep " + seconds)
}

// BenchmarkIdleCPU is the processor time that the manager uses in a minute in which nothing happens
// but probes, beside two programs that only probe, in the same minute: one with the library's
// client, one with a write and a read.
func BenchmarkIdleCPU(b *testing.B) {
	s := on(b)
	s.stubs(100)
	list, err := s.Pools(b.Context())
	s.check(err)
	urls := ""
	for _, p := range list.Pools {
		urls += " " + p.Replicas[0].Endpoint + "/health"
	}
	for b.Loop() {
		before := s.cpuUSec()
		began := time.Now()
		both := s.must(bareprobe + urls + " & " + bareprobe + " -raw" + urls + " | sed 's/cpu/raw/'; wait")
		mine := float64(s.cpuUSec()-before) / float64(time.Since(began).Microseconds()) * 100
		var peer struct {
			CPUUSec int64 `json:"cpu_usec"`
			RawUSec int64 `json:"raw_usec"`
		}
		for line := range strings.Lines(both) {
			s.check(json.Unmarshal([]byte(line), &peer))
		}
		bare := float64(peer.CPUUSec) / float64(time.Minute.Microseconds()) * 100
		raw := float64(peer.RawUSec) / float64(time.Minute.Microseconds()) * 100
		b.ReportMetric(mine, "%cpu")
		b.ReportMetric(mine/bare, "ratio")
		b.ReportMetric(mine/raw, "ratio-raw")
		shared.row("manager's CPU, 100 pools idle",
			fmt.Sprintf("%.3f %% of a core = %.2f x net/http = %.2f x raw", mine, mine/bare, mine/raw),
			fmt.Sprintf("programs that only probe, in the same minute: net/http %.3f %%, raw connections %.3f %%", bare,
				raw), "≤ 0.2 %")
	}
}

// cpuUSec is what the manager has used so far, in microseconds, over all its threads.
func (s site) cpuUSec() int64 {
	s.b.Helper()
	text := strings.Fields(s.must("grep ^usage_usec /sys/fs/cgroup/system.slice/" + host.ManagerUnit + "/cpu.stat"))
	n, err := strconv.ParseInt(text[1], 10, 64)
	s.check(err)
	return n
}

// BenchmarkAdoption is the time from the manager's execution until it is ready, with 200 engines
// that run already, beside one systemctl that reads the same units.
func BenchmarkAdoption(b *testing.B) {
	s := on(b)
	const engines = 200
	s.stubs(engines)
	running, err := s.Processes(b.Context())
	s.check(err)
	for b.Loop() {
		var times []float64
		for range 3 {
			s.must("systemctl restart " + host.ManagerUnit)
			out := strings.Fields(s.must("systemctl show --value -p ExecMainStartTimestampMonotonic -p " +
				"ActiveEnterTimestampMonotonic " + host.ManagerUnit))
			a, errA := strconv.ParseInt(out[0], 10, 64)
			z, errZ := strconv.ParseInt(out[1], 10, 64)
			if errA != nil || errZ != nil {
				b.Fatalf("timestamps %q", out)
			}
			if a > z {
				a, z = z, a
			}
			times = append(times, float64(z-a)/1000)
			list, err := s.Pools(b.Context())
			s.check(err)
			for _, p := range list.Pools {
				if !p.Ready || p.Replicas[0].PID != running[p.Replicas[0].Unit].PID {
					b.Fatalf("the first answer is wrong: %s", p)
				}
			}
		}
		peer := s.M.Run(b.Context(), "systemctl", "show", "pool-engine@*")
		s.check(peer.Check())
		mine := median(times)
		b.ReportMetric(mine, "ms/adoption")
		shared.row(fmt.Sprintf("adoption of %d engines", engines), fmt.Sprintf("%.0f ms", mine),
			fmt.Sprintf("systemctl show of the same units: %d ms", peer.Elapsed.Milliseconds()), "≤ 1000 ms")
	}
}
