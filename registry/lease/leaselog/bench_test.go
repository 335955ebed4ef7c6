package leaselog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/lease"
)

// inMemory returns a path on a file system in memory, as /run is.
func inMemory(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "lease-bench-")
	if err != nil {
		b.Skip("needs /dev/shm, a file system in memory: ", err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "leases.db")
}

// BenchmarkLease is a lease that is taken and released, both in the file before they are answered.
func BenchmarkLease(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(callers, "_callers"), func(b *testing.B) {
			f, r := Open(inMemory(b), nil)
			if r != (Report{}) {
				b.Fatalf("%+v", r)
			}
			defer f.Close()
			book, err := lease.Open(f, func() lease.Moment { return lease.Moment(time.Now().UnixNano()) }, nil)
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			var running sync.WaitGroup
			running.Go(func() { _ = book.Run(ctx, func([]lease.Ended) {}) })
			defer running.Wait()
			defer cancel()
			// RunParallel multiplies by the processors: -cpu 1 is as many callers as the name says.
			slots := callers * runtime.GOMAXPROCS(0)
			seat := lease.Seat{Replica: "r0", Run: "run", Slots: slots, Open: true}
			book.SetPool("a", lease.Pool{Seats: []lease.Seat{seat}}, nil)
			b.SetParallelism(callers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					l, err := book.Acquire(ctx, lease.Ask{Pool: "a", Holder: "me", TTL: time.Minute})
					if err != nil {
						b.Error(err)
						return
					}
					if err := book.Release(ctx, "a", l.ID); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkLongestSave is the longest of ten thousand writes while 100,000 leases are held and the
// file is replaced.
func BenchmarkLongestSave(b *testing.B) {
	f, _ := Open(inMemory(b), nil)
	defer f.Close()
	for n := range 100_000 {
		if err := f.Save([]lease.Lease{sample(n, 0)}, nil); err != nil {
			b.Fatal(err)
		}
	}
	var longest time.Duration
	for b.Loop() {
		for round := range 100 {
			var batch []lease.Lease
			for n := range 1000 {
				batch = append(batch, sample(round*1000+n, round))
			}
			began := time.Now()
			if err := f.Save(batch, nil); err != nil {
				b.Fatal(err)
			}
			longest = max(longest, time.Since(began))
		}
	}
	b.ReportMetric(float64(longest.Microseconds())/1000, "ms/longest")
}
