//go:build machine

package bench

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
)

// hand starts n sandboxed engines by hand, with the properties that the manager renders, but for
// the groups left out, and stops them again. It returns how long their start took.
func (s site) hand(n int, leftOut ...string) time.Duration {
	s.b.Helper()
	var r struct {
		StartMS int64 `json:"start_ms"`
	}
	s.check(json.Unmarshal([]byte(s.must(fmt.Sprintf("%s %d %s", unitload, n, strings.Join(leftOut, " ")))), &r))
	return time.Duration(r.StartMS) * time.Millisecond
}

// more adds pools to those that are there, until there are n, and returns how long it took until
// all were ready.
func (s site) more(n int) time.Duration {
	s.b.Helper()
	began := time.Now()
	s.stubs(n)
	return time.Since(began)
}

// BenchmarkStart is the time from pool files to ready pools, beside the same sandboxed units
// started by hand: the first hundred, and the third, which must not cost more than the first.
func BenchmarkStart(b *testing.B) {
	s := on(b)
	var ours, hand, third []float64
	for b.Loop() {
		for range 2 {
			hand = append(hand, s.hand(100).Seconds())
			ours = append(ours, s.more(100).Seconds())
			s.empty()
		}
		s.more(200)
		third = append(third, s.more(300).Seconds())
		s.fewer(200)
		s.fewer(100)
		s.empty()
		hand = append(hand, s.hand(100).Seconds())
	}
	mine, peer, last := median(ours), median(hand), median(third)
	b.ReportMetric(mine*10, "ms/pool")
	b.ReportMetric(mine/peer, "ratio")
	b.ReportMetric(last/mine, "third/first")
	shared.row("100 pools from files to ready",
		fmt.Sprintf("%.1f s = %.2f x peer; the third hundred %.1f s", mine, mine/peer, last),
		fmt.Sprintf("the same 100 units started by hand: %.1f s", peer), "≤ 2 x peer, flat")
}

// fewer removes pools until n are left: an engine's end is a hundred filters that the kernel frees,
// so never all at once.
func (s site) fewer(n int) {
	s.b.Helper()
	s.must(fmt.Sprintf(`cd %s; for i in $(seq %d 1000); do rm -f p$i.toml; done; systemctl reload pool-managerd`,
		host.PoolsDir, n))
	s.ready(n)
}

// BenchmarkStartParts is what each group of an engine's properties costs at its start, by leaving
// it out.
func BenchmarkStartParts(b *testing.B) {
	s := on(b)
	parts := [][]string{nil, {"-gate"}, {"-filters"}, {"-mounts"}, {"-user"}, {"-rest"},
		{"-gate", "-filters", "-mounts", "-user", "-rest"}}
	took := make([][]float64, len(parts))
	for b.Loop() {
		for range 3 {
			for i, left := range parts {
				took[i] = append(took[i], s.hand(50, left...).Seconds()*1000/50)
			}
		}
	}
	whole := median(took[0])
	for i, left := range parts {
		name := "whole"
		if len(left) > 0 {
			name = strings.Join(left, "")
		}
		b.ReportMetric(median(took[i]), "ms"+name)
		shared.row("a sandboxed unit by hand, "+name, fmt.Sprintf("%.1f ms", median(took[i])),
			fmt.Sprintf("the whole: %.1f ms", whole), "")
	}
}
