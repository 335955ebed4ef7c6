package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
	"github.com/pool-managerd/pool-managerd/test/etcd"
)

// What each host of the simulation has and does. A host reads its manager each fleet.Poll; a fifth
// of its pools has other slots then, and one in a hundred becomes ready or not.
const (
	poolsPerHost = 20
	useChanges   = 0.2
	readyChanges = 0.01
	steady       = 30 * time.Second
	away         = time.Minute
)

// BenchmarkFleet has many publishers, as pool-fleet has one, publish in one real etcd: how long
// until all are there, the load while pools change, how late a reader sees a change, and how long
// until all are there again after etcd was away for a minute. The processor time of the publishers
// is that of all of them in this one process, and attempts are sessions that each host began.
func BenchmarkFleet(b *testing.B) {
	for _, hosts := range []int{100, 1000} {
		b.Run(fmt.Sprintf("hosts_%d", hosts), func(b *testing.B) {
			for b.Loop() {
				simulate(b, hosts)
			}
		})
	}
}

func simulate(b *testing.B, hosts int) {
	cluster := etcd.Start(b, etcd.Options{})
	c := cluster.Client()
	ctx, stop := context.WithCancel(b.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	var attempts atomic.Int64
	ends := reasons{by: map[string]int{}}
	begun, used := time.Now(), ownCPU(b)
	for i := range hosts {
		o := testOptions(cluster.Endpoints(), strconv.Itoa(i), nil)
		o.Host.MachineID, o.TTL = fmt.Sprintf("%032x", i), 10*time.Second
		o.Log, o.Status = slog.New(slog.DiscardHandler), ends.add
		p, box := New(o), fleet.NewMailbox()
		connect := p.connect
		p.connect = func() (store, error) {
			attempts.Add(1)
			return connect()
		}
		all.Go(func() {
			p.Run(ctx, box)
			p.Close()
		})
		all.Go(func() { changes(ctx, box) })
	}
	there(b, c, hosts, 0)
	b.ReportMetric(time.Since(begun).Seconds(), "s-to-publish")
	b.Logf("sessions that did not begin, or ended: %v", ends.take())
	b.ReportMetric((ownCPU(b) - used).Seconds(), "cpu-s-to-publish")
	b.ReportMetric(float64(attempts.Load())/float64(hosts), "attempts-to-publish")

	before := sampleOf(b, cluster, c)
	used = ownCPU(b)
	late, lateReady := watch(ctx, c, steady)
	after := sampleOf(b, cluster, c)
	b.ReportMetric(100*(ownCPU(b)-used).Seconds()/steady.Seconds(), "%-of-a-core-publishers")
	b.ReportMetric(float64(attempts.Load())/float64(hosts), "attempts-after-steady")
	b.ReportMetric(float64(len(late))/steady.Seconds(), "keys/s")
	b.ReportMetric(float64(after.revision-before.revision)/steady.Seconds(), "transactions/s")
	b.ReportMetric(100*(after.cpu-before.cpu).Seconds()/steady.Seconds(), "%-of-a-core")
	b.ReportMetric(float64(after.size-before.size)*3600/steady.Seconds()/(1<<20), "MiB/hour")
	percentiles(b, late, "ms-p")
	percentiles(b, lateReady, "ms-ready-p")
	b.Logf("the same, while pools changed: %v", ends.take())
	cluster.Kill(0) // keys are there after it: a lease begins again with the member
	time.Sleep(away)
	cluster.Run(0)
	begun = time.Now()
	attempts.Store(0)
	there(b, cluster.Client(), hosts, after.revision)
	b.ReportMetric(time.Since(begun).Seconds(), "s-to-publish-again")
	b.ReportMetric(cluster.CPU(0).Seconds(), "etcd-cpu-s-to-publish-again")
	b.ReportMetric(float64(attempts.Load())/float64(hosts), "attempts-to-publish-again")
	b.Logf("the same, while etcd was away and after that: %v", ends.take())
	b.ReportMetric(0, "ns/op")
}

// reasons count why sessions ended.
type reasons struct {
	mu sync.Mutex
	by map[string]int
}

func (r *reasons) add(status string) {
	if _, why, failed := strings.Cut(status, "failed attempts: "); failed {
		_, why, _ = strings.Cut(why, ": ")
		r.mu.Lock()
		defer r.mu.Unlock()
		r.by[why]++
	}
}

// take returns what was counted since it was called last.
func (r *reasons) take() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.by
	r.by = map[string]int{}
	return was
}

// changes reports a host's pools as its manager does, with the time in each pool that changed.
func changes(ctx context.Context, box fleet.Mailbox) {
	pools := make([]wire.Pool, poolsPerHost)
	for i := range pools {
		model, endpoint := "hf:org/model-8b:Q4_K_M", "http://127.0.0.1:"+strconv.Itoa(21000+i)
		pools[i] = wire.Pool{ID: fmt.Sprintf("pool-%02d", i), Engine: "llamacpp", State: "ready", Ready: true,
			Live: true, ModelID: &model, DeviceMask: []string{"0"}, SlotsTotal: 8, SlotsFree: 8,
			Replicas: []wire.Replica{{ID: "r0", State: "ready", Ready: true, Endpoint: &endpoint,
				DeviceMask: []string{"0"}, SlotsTotal: 8}}}
	}
	box.Put(fleet.State{Known: true, Pools: slices.Clone(pools)})
	pause := time.Duration(rand.Float64() * float64(fleet.Poll))
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = fleet.Poll
		now := strconv.FormatInt(time.Now().UnixNano(), 10)
		ready := readyMark + now
		for i := range pools {
			p := &pools[i]
			switch {
			case rand.Float64() < readyChanges:
				p.Ready, p.EngineVersion = !p.Ready, &ready
			case rand.Float64() < useChanges:
				p.SlotsFree, p.EngineVersion = (p.SlotsFree+1+rand.IntN(8))%9, &now
			}
		}
		box.Put(fleet.State{Known: true, Pools: slices.Clone(pools)})
	}
}

// there waits until etcd has so many hosts that were written after a revision, which they are with
// their pools.
func there(b *testing.B, c *clientv3.Client, want int, after int64) {
	b.Helper()
	logged := time.Now()
	for end := logged.Add(5 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
		resp, err := c.Get(ctx, "/test/hosts/", clientv3.WithPrefix(), clientv3.WithKeysOnly(),
			clientv3.WithMinModRev(after+1))
		cancel()
		has := 0
		if err == nil {
			has = len(resp.Kvs)
		}
		if has == want {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("etcd has %d of %d hosts: %v", has, want, err)
		}
		if time.Since(logged) > 10*time.Second {
			logged = time.Now()
			b.Logf("%s before the end etcd has %d of %d hosts: %v", end.Sub(logged).Round(time.Second), has, want, err)
		}
	}
}

// ownCPU is the processor time that this process has used.
func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// readyMark begins the time of a change of readiness, which is written before those of slots.
const readyMark = "ready "

// watch is how late each change of a pool was at a reader, and of them each of readiness.
func watch(ctx context.Context, c *clientv3.Client, d time.Duration) (all, ready []time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for resp := range c.Watch(ctx, "/test/pools/", clientv3.WithPrefix()) {
		now := time.Now().UnixNano()
		for _, e := range resp.Events {
			var p record.Pool
			if json.Unmarshal(e.Kv.Value, &p) != nil {
				continue
			}
			text, marked := strings.CutPrefix(p.EngineVersion, readyMark)
			at, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				continue
			}
			all = append(all, time.Duration(now-at))
			if marked {
				ready = append(ready, time.Duration(now-at))
			}
		}
	}
	return all, ready
}

func percentiles(b *testing.B, late []time.Duration, unit string) {
	if len(late) == 0 {
		return
	}
	slices.Sort(late)
	b.ReportMetric(float64(late[len(late)/2].Milliseconds()), unit+"50")
	b.ReportMetric(float64(late[len(late)*99/100].Milliseconds()), unit+"99")
}

// sample is what etcd used so far.
type sample struct {
	revision, size int64
	cpu            time.Duration
}

func sampleOf(b *testing.B, cluster *etcd.Cluster, c *clientv3.Client) sample {
	b.Helper()
	s, err := c.Status(b.Context(), cluster.Endpoints()[0])
	if err != nil {
		b.Fatal(err)
	}
	return sample{s.Header.Revision, s.DbSize, cluster.CPU(0)}
}
