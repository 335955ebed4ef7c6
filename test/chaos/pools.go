package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/test/chaos/truth"
	"github.com/pool-managerd/pool-managerd/test/e2e/host"
)

// The twenty pools, by what they are.
var (
	quick      = names("p", 14)             // of the CPU
	slow       = []string{"s0", "s1"}       // load for two seconds
	contenders = []string{"g0", "g1", "g2"} // of GPU 0, on which two of them fit
	alone      = []string{"g3"}             // of GPU 1
)

// fit is how many of the contenders run.
const fit = 2

// need is the memory that each pool of a GPU takes; a GPU has 8 GiB, of which 512 MiB are the
// driver's.
const need = 3 << 30

func names(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%s%02d", prefix, i))
	}
	return all
}

// everyone are all pools.
func everyone() []string { return slices.Concat(quick, slow, contenders, alone) }

// poolFile is the file of a pool. Its times are short enough for a test, as long as the machine
// needs at its pace, and crashes that the test asks for do not add up to a storm or open the
// breaker.
func poolFile(id string, p pace) string {
	devices, args, more := "[]", []string{"--metrics"}, ""
	switch {
	case slices.Contains(slow, id):
		args = append(args, "--load", "2s")
	case slices.Contains(contenders, id):
		devices, args = "[0]", append(args, "--vram", fmt.Sprint(need))
		more = fmt.Sprintf("shared = true\nvram = %d\n", need)
	case slices.Contains(alone, id):
		devices, args = "[1]", append(args, "--vram", fmt.Sprint(need))
		more = fmt.Sprintf("vram = %d\n", need)
	}
	return fmt.Sprintf(`engine = "llamacpp"
model = "file:%s"
devices = %s
slots = 4
args = ["%s"]
%s[provisioning]
binary = %q
[health]
interval = %[6]q
timeout = %[6]q
failures = 2
successes = 2
escalate_after = %[7]q
[restart]
initial = "300ms"
max = "1s"
jitter = 0.5
breaker_failures = 100
storm_restarts = 1000
[drain]
deadline = "2s"
`, host.TinyModel, devices, strings.Join(args, `", "`), more, host.StubEngine,
		p.times(500*time.Millisecond), p.times(30*time.Second))
}

// begin is what the steps of a round may change. What one of the pools that share a GPU releases,
// another may take.
func begin(round int, steps []Step, kinds []Kind) truth.Begin {
	b := truth.Begin{Round: round, May: make(map[string]int)}
	for _, s := range steps {
		k := kinds[slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == s.Kind })]
		b.Refuses = b.Refuses || k.Refuses
		b.Lines += k.Lines
		if k.Unchecked {
			b.Unchecked = contenders
		}
		if k.Runs == 0 {
			continue
		}
		for _, p := range s.Pools {
			b.May[p] += k.Runs
		}
		if slices.ContainsFunc(s.Pools, func(p string) bool { return slices.Contains(contenders, p) }) {
			for _, p := range contenders {
				b.May[p] = max(b.May[p], k.Runs) + 1
			}
		}
	}
	return b
}

// recovered is what is not yet as it should be, "" when all pools serve that can.
func recovered(list host.PoolList) string {
	var wrong []string
	serving := 0
	if len(list.Problems) > 0 {
		wrong = append(wrong, fmt.Sprintf("problems %+v", list.Problems))
	}
	known := make(map[string]bool)
	for _, p := range list.Pools {
		known[p.ID] = true
		ready := p.Ready && p.Reload == nil && len(p.Replicas) == 1
		switch {
		case slices.Contains(contenders, p.ID):
			if ready {
				serving++
			} else if p.Code() != "INSUFFICIENT_VRAM" { // it waits, or PID 1 tries again and again
				wrong = append(wrong, p.String())
			}
		case !slices.Contains(everyone(), p.ID) || !ready:
			wrong = append(wrong, p.String())
		}
	}
	if serving != fit {
		wrong = append(wrong, fmt.Sprintf("%d of %v are ready, want %d", serving, contenders, fit))
	}
	for _, id := range everyone() {
		if !known[id] {
			wrong = append(wrong, "no pool "+id)
		}
	}
	return strings.Join(wrong, "; ")
}
