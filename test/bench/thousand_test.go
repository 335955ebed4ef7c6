//go:build machine

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
)

// enginesUnit answers as many engines as there are pools: a thousand units would measure PID 1 and
// not the manager.
const (
	enginesUnit = "bench-engines.service"
	enginesPort = 26000
)

// externals has exactly n pools whose engines the manager only probes, each five seconds; it
// returns when all are ready.
func (s site) externals(n int) {
	s.b.Helper()
	s.must(fmt.Sprintf("systemctl stop %[1]s 2>/dev/null || true; systemd-run --quiet --collect --unit=%[1]s -p "+
		"LimitNOFILE=8192 %[2]s engines %[3]d",
		enginesUnit, askload, enginesPort))
	s.b.Cleanup(func() { _, _ = s.Shell(context.WithoutCancel(s.b.Context()), "systemctl stop "+enginesUnit) })
	s.must(fmt.Sprintf(`cd %s; rm -f *.toml; for i in $(seq 0 %d); do cat >p$i.toml <<END
engine = "command"
slots = 4
[provisioning]
mode = "external"
url = "http://127.1.$((i / 250)).$((1 + i %% 250)):%d"
[health]
interval = "5s"
END
done
systemctl reload pool-managerd`, host.PoolsDir, n-1, enginesPort))
	s.ready(n)
}

// BenchmarkThousand is the manager's resident memory with a thousand pools, and its processor time
// in a minute in which nothing happens but probes, beside programs that only probe at the same
// moments in the same minute. The engines are external: probed and counted, without units.
func BenchmarkThousand(b *testing.B) {
	s := on(b)
	s.externals(1000)
	list, err := s.Pools(b.Context())
	s.check(err)
	var urls strings.Builder
	for _, p := range list.Pools {
		urls.WriteString(" " + p.Replicas[0].Endpoint + "/health")
	}
	s.check(s.WriteFile(b.Context(), "/run/bench-urls", urls.String()))
	for b.Loop() {
		s.pass("30") // probes go round, and the collector has run
		rss := s.kib("VmRSS")
		before, began := s.cpuUSec(), time.Now()
		both := s.must(fmt.Sprintf("%[1]s $(cat /run/bench-urls) & %[1]s -raw $(cat /run/bench-urls) | sed "+
			"'s/cpu/raw/'; wait", bareprobe))
		mine := float64(s.cpuUSec()-before) / float64(time.Since(began).Microseconds()) * 100
		var peer struct {
			CPUUSec float64 `json:"cpu_usec"`
			RawUSec float64 `json:"raw_usec"`
		}
		for line := range strings.Lines(both) {
			s.check(json.Unmarshal([]byte(line), &peer))
		}
		bare, raw := peer.CPUUSec/60e6*100, peer.RawUSec/60e6*100
		b.ReportMetric(rss/1024, "MiB")
		b.ReportMetric(mine, "%cpu")
		b.ReportMetric(mine/bare, "ratio")
		b.ReportMetric(mine/raw, "ratio-raw")
		shared.row("manager's RSS, 1000 pools of external engines", fmt.Sprintf("%.1f MiB", rss/1024), "", "≤ 60 MiB")
		shared.row("manager's CPU, 1000 such pools idle",
			fmt.Sprintf("%.2f %% of a core = %.2f x net/http = %.2f x raw", mine, mine/bare, mine/raw),
			fmt.Sprintf("programs that only probe, in the same minute: net/http %.2f %%, raw connections %.2f %%", bare,
				raw), "≤ 2 %")
	}
}
