package etcd

import (
	"cmp"
	"fmt"
	"maps"
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
	view    *watching
	random  *rand.Rand
	lines   [3][]*cable // of each host to each member
	hosts   [3]*host    // nil: it is off
	truth   [3][]string // its pools, as state has them
	cut     [3]bool     // nothing is carried
	boots   int
	took    map[string][]time.Duration // until all was right, by fault
	serving *serving
	logs    *lines // what publishers reported since the last fault
}

func (w *world) options(i int) Options {
	var endpoints []string
	for _, line := range w.lines[i] {
		endpoints = append(endpoints, "http://"+line.Addr().String())
	}
	o := testOptions(endpoints, fmt.Sprintf("boot-%d", w.boots), nil)
	o.Host.MachineID = strings.Repeat(strconv.Itoa(i), 32)
	o.Status = func(line string) { w.logs.note("host %d: %s", i, line) }
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
		if h == nil || w.cut[i] {
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

// stick has a host's connections carry nothing, or carry again.
func (w *world) stick(i int, is bool) {
	w.cut[i] = is
	for _, line := range w.lines[i] {
		line.stick(is)
	}
}

// memberFaults are what happens to members whose networks are their own.
func (w *world) memberFaults() map[string]func(i int) {
	part := func(name string, cut func(i int)) func(i int) {
		return func(i int) {
			cut(i)
			w.change(i)
			if w.random.IntN(2) == 0 {
				w.rightWithout(i, name+meanwhile)
				w.change(w.random.IntN(3))
				w.rightWithout(i, name+"_again"+meanwhile)
			}
			time.Sleep(time.Duration(w.random.Int64N(int64(ttl))))
			w.cluster.Rejoin(i)
		}
	}
	return map[string]func(i int){
		"member_cut_off":            part("member_cut_off", w.cluster.Cut),
		"member_cut_off_from_peers": part("member_cut_off_from_peers", w.cluster.CutPeers),
	}
}

// faults are what happens, by name.
func (w *world) faults() map[string]func(i int) {
	return map[string]func(i int){
		"host_cut_off": func(i int) {
			w.stick(i, true)
			w.change(i)
			w.right("host_cut_off_is_gone")
			w.change(i)
			w.stick(i, false)
		},
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

// meanwhile is the end of the names of faults that go on while is looked.
const meanwhile = "_meanwhile"

// within is the rule of the documentation, and what a reader needs in addition to find that the
// member which it or a host is connected to is silent.
func within(fault string) time.Duration {
	if strings.HasSuffix(fault, meanwhile) {
		return right + silence
	}
	return right
}

// right waits until etcd and the reader have exactly what is true, and records how long that took
// from when every member could serve. A step that is late is logged with what was there meanwhile.
func (w *world) right(after string) {
	w.t.Helper()
	w.rightWithout(-1, after)
}

// rightWithout is right while one member cannot serve.
func (w *world) rightWithout(member int, after string) {
	w.t.Helper()
	want, begun := w.want(), time.Now()
	var there story
	for {
		in, seen := contentWithin(w.t, w.c, time.Second), w.view.content()
		there.add(want, in, seen)
		if in == want && seen == want {
			break
		}
		if time.Since(begun) > patience {
			w.t.Fatalf("%s: after %s it is wrong:\n%s\n%s", after, patience, &there, w.logs.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	took := time.Since(begun)
	if since := time.Since(w.serving.since(member)); since < took {
		w.t.Logf("%s: right %s after the fault, and %s after every member could serve", after,
			took.Round(time.Millisecond), since.Round(time.Millisecond))
		took = since
	}
	w.took[after] = append(w.took[after], took)
	if took > within(after) {
		w.t.Logf("%s: right only after %s:\n%s\n%s", after, took.Round(time.Millisecond), &there, w.logs.String())
	}
}

// report logs, by fault, how often it was, how often the rule of the documentation was missed, and
// the longest time. Where a duration was asked for, a rule that was missed fails the test.
func (w *world) report() {
	steps, late := 0, 0
	for _, name := range slices.Sorted(maps.Keys(w.took)) {
		over, all := 0, w.took[name]
		for _, d := range all {
			if d > within(name) {
				over++
			}
		}
		steps, late = steps+len(all), late+over
		w.t.Logf("%s: %d times, %d of them right only after more than %s, after %s at most", name, len(all), over,
			within(name), slices.Max(all).Round(time.Millisecond))
	}
	w.t.Logf("%d steps, %d of them right too late; none was wrong for %s", steps, late, patience)
	if late > 0 && os.Getenv("FLEET_FAULTS") != "" {
		w.t.Error("the rule was missed")
	}
}

// TestAtRandom makes one fault after another, each with a change of a host's pools, and waits until
// etcd and a reader have exactly what is true. FLEET_FAULTS is how long, and FLEET_SEED repeats a
// run. Where it may, it runs in a network of its own, so that members can be cut off.
func TestAtRandom(t *testing.T) {
	t.Parallel()
	where := etcd.OwnNetwork(t)
	if where == etcd.Elsewhere {
		return
	}
	duration, err := time.ParseDuration(cmp.Or(os.Getenv("FLEET_FAULTS"), "10s"))
	if err != nil {
		t.Fatal(err)
	}
	now := strconv.FormatInt(time.Now().UnixNano(), 10)
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("FLEET_SEED"), now), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	cluster := etcd.Start(t, etcd.Options{Members: 3, Apart: where == etcd.Inside})
	w := &world{t: t, cluster: cluster, c: cluster.Client(), view: watches(t, cluster.Endpoints()),
		random: rand.New(rand.NewPCG(seed, 0)), took: map[string][]time.Duration{}, logs: &lines{},
		serving: probes(t, cluster.Endpoints())}
	t.Logf("FLEET_SEED=%d, etcd %s", seed, cluster.Version(w.c))
	for i := range w.hosts {
		for _, endpoint := range cluster.Endpoints() {
			w.lines[i] = append(w.lines[i], newCable(t, endpoint))
		}
		w.change(i)
		w.start(i)
	}
	faults := w.faults()
	if where == etcd.Inside {
		maps.Copy(faults, w.memberFaults())
	}
	names := slices.Sorted(maps.Keys(faults))
	for end := time.Now().Add(duration); time.Now().Before(end); {
		name := names[w.random.IntN(len(names))]
		settled(t, cluster, w.c)
		w.logs.reset()
		faults[name](w.random.IntN(3))
		w.change(w.random.IntN(3))
		settled(t, cluster, w.c)
		w.right(name)
	}
	w.report()
}
