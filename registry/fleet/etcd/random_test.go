package etcd

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pool-managerd/pool-managerd/test/etcd"
)

// world are hosts and members, and what is true of the hosts.
type world struct {
	t       *testing.T
	cluster *etcd.Cluster
	c       *clientv3.Client
	random  *rand.Rand
	hosts   [3]*host    // nil: it is off
	truth   [3][]string // its pools, as state has them
	boots   int
}

func (w *world) options(i int) Options {
	o := testOptions(w.cluster.Endpoints(), fmt.Sprintf("boot-%d", w.boots), nil)
	o.Host.MachineID = strings.Repeat(strconv.Itoa(i), 32)
	return o
}

func (w *world) start(i int) {
	w.hosts[i] = runs(w.t, w.options(i))
	w.hosts[i].has(w.truth[i]...)
}

// want is what etcd must have.
func (w *world) want() string {
	var all []string
	for i, h := range w.hosts {
		if h == nil {
			continue
		}
		all = append(all, "hosts "+h.o.Host.BootID)
		for _, p := range w.truth[i] {
			s := state(p).Pools[0]
			all = append(all, s.ID+" "+s.State)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// change has a host report other pools.
func (w *world) change(i int) {
	w.truth[i] = nil
	for n := range w.random.IntN(5) {
		w.truth[i] = append(w.truth[i], fmt.Sprintf("p%d-%d%s", i, n, []string{"", "!"}[w.random.IntN(2)]))
	}
	if w.hosts[i] != nil {
		w.hosts[i].has(w.truth[i]...)
	}
}

// faults are what happens, by name.
func (w *world) faults() map[string]func(i int) {
	return map[string]func(i int){
		"publisher_killed": func(i int) {
			if w.hosts[i] != nil {
				w.hosts[i].close()
				w.change(i)
				w.start(i)
			}
		},
		"host_dies": func(i int) {
			if w.hosts[i] != nil {
				w.hosts[i].close()
				w.hosts[i] = nil
			}
		},
		"host_boots": func(i int) {
			if w.hosts[i] != nil {
				w.hosts[i].close()
			}
			w.boots++
			w.start(i)
		},
		"member_killed": func(i int) {
			w.cluster.Kill(i)
			w.change(i)
			time.Sleep(time.Second)
			w.cluster.Run(i)
		},
		"member_hangs": func(i int) {
			w.cluster.Stop(i)
			w.change(i)
			time.Sleep(2 * time.Second)
			w.cluster.Continue(i)
		},
		"quorum_lost": func(i int) {
			w.cluster.Kill(i)
			w.cluster.Kill((i + 1) % 3)
			w.change(i)
			time.Sleep(2 * time.Second)
			w.cluster.Run(i)
			w.cluster.Run((i + 1) % 3)
		},
		"leases_revoked": func(int) { revokeAll(w.t, w.c) },
		"compaction": func(int) {
			if resp, err := w.c.Get(w.t.Context(), "/"); err == nil {
				_, _ = w.c.Compact(w.t.Context(), resp.Header.Revision) // it may be compacted already
			}
		},
	}
}

// TestAtRandom makes one fault after another, each with a change of a host's pools, and waits until
// etcd has exactly what is true. How long each took is logged. FLEET_FAULTS is how long, and
// FLEET_SEED repeats a run.
func TestAtRandom(t *testing.T) {
	t.Parallel()
	duration := 10 * time.Second
	if text := os.Getenv("FLEET_FAULTS"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("FLEET_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("FLEET_SEED=%d", seed)
	cluster := etcd.Start(t, etcd.Options{Members: 3})
	w := &world{t: t, cluster: cluster, c: cluster.Client(), random: rand.New(rand.NewPCG(seed, 0))}
	for i := range w.hosts {
		w.change(i)
		w.start(i)
	}
	faults := w.faults()
	var names []string
	for name := range faults {
		names = append(names, name)
	}
	slices.Sort(names)
	longest := map[string]time.Duration{}
	for end := time.Now().Add(duration); time.Now().Before(end) && !t.Failed(); {
		name := names[w.random.IntN(len(names))]
		settled(t, cluster, w.c)
		i := w.random.IntN(3)
		faults[name](i)
		w.change(w.random.IntN(3))
		settled(t, cluster, w.c)
		begun := time.Now()
		eventually(t, right+longestRetry, w.c, w.want())
		longest[name] = max(longest[name], time.Since(begun))
	}
	for _, name := range names {
		if d, is := longest[name]; is {
			t.Logf("%s: right after %s at most", name, d.Round(time.Millisecond))
		}
	}
}
