//go:build machine

package bench

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
)

// BenchmarkHostile is how long root's poolctl list takes while twenty clients of six kinds, of
// another user, hold as many connections as they can, over the socket that root shares with them
// and over its own. Beside it, in turn: the same without an attack, and a command that connects to
// nothing, which is what the machine itself takes at that load.
func BenchmarkHostile(b *testing.B) {
	const times, clients, each = 200, 20, 64
	things := [][]string{{"poolctl", "list"}, {"poolctl", "--socket", host.Socket, "list"}, {"poolctl", "--help"}}
	s := on(b)
	s.stubs(1)
	timed := func() []host.Timings {
		seen, err := s.Timed(b.Context(), hostileload, times, things)
		s.check(err)
		return seen
	}
	for b.Loop() {
		quiet := timed()
		s.must(fmt.Sprintf("systemd-run --quiet --collect --unit=bench-hostile -p DynamicUser=yes "+
			"-p LimitNOFILE=65536 %s attack unix %s %d %d 300", hostileload, host.Socket, clients, each))
		b.Cleanup(func() { _, _ = s.Shell(context.WithoutCancel(b.Context()), "systemctl stop bench-hostile") })
		s.pass("2") // until they hold what they can
		attacked := timed()
		held := strings.TrimSpace(s.must(`curl -sS --unix-socket /run/pool-managerd/admin.sock http://api/metrics |
			sed -n 's/^api_connections{kind="request"} //p'`))
		s.must("systemctl stop bench-hostile")
		help := attacked[len(things)-1]
		b.ReportMetric(attacked[0].P99, "ms/p99")
		b.ReportMetric(attacked[1].P99, "ms/p99-shared")
		for i, what := range things[:2] {
			if attacked[i].Failed > 0 {
				b.Errorf("%v was refused %d times of %d: %q", what, attacked[i].Failed, times, attacked[i].Failures)
			}
			shared.row(fmt.Sprintf("%s, while %d hostile clients hold %s connections", strings.Join(what, " "), clients,
				held),
				attacked[i].String(), fmt.Sprintf("without them: %s; poolctl --help, with them: %s, without: %s",
					quiet[i], help, quiet[len(things)-1]), "p99 ≤ 100 ms")
		}
	}
}
