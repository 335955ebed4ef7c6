//go:build machine

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
)

// BenchmarkBack is the time from SIGKILL of an engine until it serves again: of a pool until the
// API reports ready, of a unit written by hand until its own health page answers.
func BenchmarkBack(b *testing.B) {
	s := on(b)
	s.stubs(1)
	s.peer()
	// back returns the milliseconds from the kill, and those from the execution of the new process.
	back := func(unit, url, word string) (killed, executed float64) {
		u, err := s.Unit(b.Context(), unit)
		s.check(err)
		var took, at int64
		_, err = fmt.Sscan(s.must(fmt.Sprintf("%s %d %s '%s'", backwatch, u.MainPID, url, word)), &took, &at)
		s.check(err)
		u, err = s.Unit(b.Context(), unit)
		s.check(err)
		return float64(took) / 1000, float64(at-u.ExecStartUSec) / 1000
	}
	var ours, theirs, loaded, bare []float64
	for b.Loop() {
		for range crashes {
			killed, executed := back(host.EngineUnit("p0"), "http://api/v1/pools/p0/health", `"ready":true`)
			ours, loaded = append(ours, killed), append(loaded, executed)
			killed, executed = back(peerUnit, "http://127.0.0.1:25000/health", "ok")
			theirs, bare = append(theirs, killed), append(bare, executed)
		}
	}
	mine, peer := median(ours), median(theirs)
	b.ReportMetric(mine, "ms/restart")
	b.ReportMetric(mine/peer, "ratio")
	b.ReportMetric(median(loaded), "ms/executed")
	shared.row("crash to ready again", fmt.Sprintf("%.0f ms = %.3f x peer", mine, mine/peer),
		fmt.Sprintf("hand-written unit, same RestartSec, until its health page answers: %.0f ms", peer), "")
	shared.row("process executed to ready again", fmt.Sprintf("%.1f ms", median(loaded)),
		fmt.Sprintf("that unit's health page: %.1f ms", median(bare)), "≤ 15 ms")
}

// BenchmarkLease is a lease that is taken and released over the API's socket, by 1, 8 and 64
// callers, in turn with two peers that answer the same requests. The manager and the peers have one
// processor, the callers the others.
func BenchmarkLease(b *testing.B) {
	s := on(b)
	s.stubs(1)
	s.must("sed -i '1i slots = 200' " + host.PoolsDir + "/p0.toml && systemctl reload pool-managerd")
	s.until(func(ctx context.Context) error {
		list, err := s.Pools(ctx)
		if err == nil && (len(list.Pools) != 1 || !list.Pools[0].Ready || list.Pools[0].SlotsTotal != 200) {
			err = errors.New("the pool is not ready with 200 slots")
		}
		return err
	})
	// From its start: Go's scheduler spins on a processor that it believes to have.
	const pinned = "/run/systemd/system/" + host.ManagerUnit + ".d/pinned.conf"
	const again = "systemctl daemon-reload && systemctl restart " + host.ManagerUnit
	s.must("mkdir -p $(dirname " + pinned + ") && printf '[Service]\\nCPUAffinity=0\\n' >" + pinned + " && " + again)
	b.Cleanup(func() { _, _ = s.Shell(context.WithoutCancel(b.Context()), "rm "+pinned+" && "+again) })
	s.ready(1)
	var out string
	for b.Loop() {
		out = s.must("taskset -c 1-$(($(nproc) > 2 ? $(nproc) - 1 : 1)) " + leaseload +
			" p0 5 8000 $(systemctl show -P MainPID " + host.ManagerUnit + ")")
	}
	by := make(map[string]leases)
	for line := range strings.Lines(out) {
		var l leases
		s.check(json.Unmarshal([]byte(line), &l))
		by[fmt.Sprint(l.Target, l.Callers)] = l
	}
	for _, callers := range []int{1, 8, 64} {
		get := func(target string) leases { return by[fmt.Sprint(target, callers)] }
		ours, bolt, none := get("manager"), get("bbolt"), get("none")
		b.ReportMetric(ours.PerSec, fmt.Sprintf("pairs/s-%d", callers))
		b.ReportMetric(ours.CPU/none.CPU, fmt.Sprintf("cpu-to-no-store-%d", callers))
		shared.row(fmt.Sprintf("lease taken and released, %d callers", callers), ours.String(),
			fmt.Sprintf("same requests and a bbolt file: %s, ratio %.2f; and no store: %s, ratio %.2f",
				bolt, ours.PerSec/bolt.PerSec, none, ours.PerSec/none.PerSec),
			map[int]string{64: "≥ 20000/s, p99 ≤ 5 ms, longest ≤ 50 ms"}[callers])
	}
}

// leases is what leaseload prints of a target; times are of a pair, in microseconds.
type leases struct {
	Target  string  `json:"target"`
	Callers int     `json:"callers"`
	PerSec  float64 `json:"pairs_per_sec"`
	Median  float64 `json:"median_usec"`
	P99     float64 `json:"p99_usec"`
	Longest float64 `json:"longest_usec"`
	CPU     float64 `json:"processor_usec"` // of the server
}

func (l leases) String() string {
	return fmt.Sprintf("%.0f/s, median %.2f ms, p99 %.2f ms, longest %.1f ms, %.0f µs of the processor each",
		l.PerSec, l.Median/1000, l.P99/1000, l.Longest/1000, l.CPU)
}

// BenchmarkReload reloads one of ten pools while clients use all of them, fifty times a second
// each. A use that fails fails the benchmark: that is a guarantee, not a speed.
func BenchmarkReload(b *testing.B) {
	s := on(b)
	s.must(`cd /srv/models && cp tiny.gguf slow.gguf && chmod 644 slow.gguf; cd ` + host.PoolsDir +
		`; for i in $(seq 0 9); do cat >p$i.toml <<'END'
engine = "llamacpp"
model = "file:` + host.TinyModel + `"
devices = []
slots = 32
[provisioning]
binary = "` + host.StubEngine + `"
END
done
systemctl reload pool-managerd`)
	s.ready(10)
	pools := "p0"
	for i := 1; i < 10; i++ {
		pools += fmt.Sprintf(" p%d=direct", i)
	}
	var one, nine, failed int
	for b.Loop() {
		// The use continues until both reloads are over, however long they take: kill fails where
		// it ended before.
		out := s.must(useload + " 50 3m " + pools + ` >/run/used & sleep 2
			poolctl reload p0 --wait --model file:/srv/models/slow.gguf >/dev/null && poolctl reload p0 --wait --forget >/dev/null &&
			sleep 2 && kill $! && wait $! && cat /run/used`)
		for line := range strings.Lines(out) {
			var u struct {
				Pool    string `json:"pool"`
				Uses    int    `json:"uses"`
				Failed  int    `json:"failed"`
				First   string `json:"first"`
				Engines int    `json:"engines"`
			}
			s.check(json.Unmarshal([]byte(line), &u))
			if failed += u.Failed; u.Failed > 0 {
				b.Errorf("%s: %d of %d uses failed; the first: %s", u.Pool, u.Failed, u.Uses, u.First)
			}
			if u.Pool == "p0" {
				if one += u.Uses; u.Engines < 2 {
					b.Errorf("leases named %d engines: nothing was reloaded", u.Engines)
				}
			} else {
				nine += u.Uses
			}
		}
	}
	if one == 0 || nine == 0 {
		b.Fatal("nothing was used")
	}
	b.ReportMetric(float64(failed), "failed")
	shared.row("two reloads beside, while ten pools are used 50 times a second", fmt.Sprintf("%d failed", failed),
		fmt.Sprintf("%d uses of the reloaded pool by lease, %d of the nine others", one, nine), "0")
}
