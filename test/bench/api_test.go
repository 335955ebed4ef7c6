//go:build machine

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// BenchmarkAsk is how often a second the API answers with a pool's health, beside a bare net/http
// server with the same bytes in a process of its own, in turn.
func BenchmarkAsk(b *testing.B) {
	s := on(b)
	s.stubs(1)
	for b.Loop() {
		for _, c := range []struct {
			connections int
			target      string
		}{{1, "≥ 0.9 x bare"}, {64, "≥ 0.8 x bare"}} {
			var r struct {
				Ours float64 `json:"ours_per_sec"`
				Bare float64 `json:"bare_per_sec"`
				// Processor time of the servers for each answer, in microseconds.
				OursUSec float64 `json:"ours_cpu_usec"`
				BareUSec float64 `json:"bare_cpu_usec"`
			}
			s.check(json.Unmarshal([]byte(s.must(fmt.Sprintf("%s health p0 %d 16", askload, c.connections))), &r))
			b.ReportMetric(r.Ours/r.Bare, fmt.Sprintf("ratio@%d", c.connections))
			b.ReportMetric(r.BareUSec/r.OursUSec, fmt.Sprintf("cpu-ratio@%d", c.connections))
			shared.row(fmt.Sprintf("GET of a pool's health, %d connections", c.connections),
				fmt.Sprintf("%.0f/s = %.2f x bare; %.0f µs of a processor each", r.Ours, r.Ours/r.Bare, r.OursUSec),
				fmt.Sprintf("bare net/http in a unit of its own: %.0f/s, %.0f µs", r.Bare, r.BareUSec), c.target)
		}
	}
}

// BenchmarkStreams is what 1000 streams of events cost the manager while engines are probed and
// nothing else happens: memory for each, and processor time beside the same half minute without
// them.
func BenchmarkStreams(b *testing.B) {
	const streams, probed, half = 1000, 100, "30"
	s := on(b)
	s.externals(probed)
	spend := func() float64 {
		before := s.cpuUSec()
		s.pass(half)
		return float64(s.cpuUSec()-before) / 30e6 * 100
	}
	for b.Loop() {
		s.pass("20")
		rss, without := s.kib("VmRSS"), spend()
		s.must(fmt.Sprintf("systemd-run --quiet --collect --unit=bench-streams -p LimitNOFILE=8192 %s streams %d 120",
			askload, streams))
		b.Cleanup(func() { _, _ = s.Shell(context.WithoutCancel(b.Context()), "systemctl stop bench-streams") })
		s.pass("10")
		open := strings.TrimSpace(s.must("grep -c api.sock /proc/net/unix"))
		with, each := spend(), (s.kib("VmRSS")-rss)/streams
		b.ReportMetric(each, "KiB/stream")
		b.ReportMetric(with-without, "%cpu-more")
		shared.row(fmt.Sprintf("%d streams of events, %d pools probed each 5 s", streams, probed),
			fmt.Sprintf("%.1f KiB each; %.2f %% of a core with their comments each 15 s", each, with),
			fmt.Sprintf("%.2f %% without them; %s connections", without, open), "")
		s.must("systemctl stop bench-streams")
	}
}

// BenchmarkFlat is the manager's memory after ten million requests of several kinds, beside that
// after ten thousand; each time half a minute later, when what is not used was given up.
func BenchmarkFlat(b *testing.B) {
	const few, slice, slices = 10_000, 500_000, 20
	s := on(b)
	s.stubs(1)
	asked := func(n int) {
		s.must(fmt.Sprintf("%s many p0 16 %d", askload, n))
	}
	settled := func() (rss, anon float64) {
		s.pass("30")
		return s.kib("VmRSS") / 1024, s.kib("RssAnon") / 1024
	}
	for b.Loop() {
		asked(few)
		rss, anon := settled()
		for range slices {
			asked(slice)
		}
		rssAfter, anonAfter := settled()
		b.ReportMetric(rss, "MiB@10k")
		b.ReportMetric(rssAfter, "MiB@10M")
		b.ReportMetric(anonAfter/anon, "ratio-anon")
		shared.row("manager's memory after ten million requests of several kinds",
			fmt.Sprintf("%.1f MiB, of it %.1f not shared with the file", rssAfter, anonAfter),
			fmt.Sprintf("after ten thousand: %.1f MiB, of it %.1f", rss, anon), "flat")
	}
}
