package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/lease"
)

// TestLeasesAreShown: what the book counts is in the registry before the caller has its answer, and
// each lease that ends before it was released is an event with the reason.
func TestLeasesAreShown(t *testing.T) {
	d := configured(t, "", "")
	d.o.runtimeDir = t.TempDir()
	if err := d.openLeases(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.leases.book.Run(t.Context(), d.leases.report) // its error is the context's
	}()
	t.Cleanup(func() { <-ended; _ = d.leaseFile.Close() })
	d.registry.Put(registry.Pool{ID: "a", State: registry.StateReady, Ready: true, Replicas: []registry.Replica{
		{ID: "r0", State: registry.StateReady, Ready: true, SlotsTotal: 2}}})
	runs := func(run string) {
		d.leases.SetPool("a", lease.Pool{Seats: []lease.Seat{{Replica: "r0", Run: run, Slots: 2, Open: true}}},
			func(string) string { return "the engine ended: by SIGSEGV" })
	}
	free := func(want int) {
		t.Helper()
		if p, _ := d.registry.Pool("a"); p.SlotsFree != want {
			t.Errorf("%d slots are free, want %d", p.SlotsFree, want)
		}
	}
	runs("run1")
	l, err := d.leases.book.Acquire(t.Context(), lease.Ask{Pool: "a", Holder: "orchestrator/7", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	free(1)
	runs("run2")
	free(2)
	list, _ := d.registry.Events(0)
	last := list[len(list)-1]
	want := fmt.Sprintf("lease %s of orchestrator/7 ended: the engine ended: by SIGSEGV", l.ID)
	if last.Kind != registry.KindLease || last.PoolID != "a" || last.ReplicaID != "r0" || last.Cause != want {
		t.Errorf("the last event is %+v, want %q", last, want)
	}
}

// TestBootTime: leases are counted on the clock of /proc/uptime (proc_uptime(5)), which no one
// sets.
func TestBootTime(t *testing.T) {
	uptime := func() time.Duration {
		text, err := os.ReadFile("/proc/uptime")
		if err != nil {
			t.Fatal(err)
		}
		seconds, _, _ := strings.Cut(string(text), " ")
		d, err := time.ParseDuration(seconds + "s")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	before := uptime()
	now := time.Duration(bootTime())
	if after := uptime() + 10*time.Millisecond; now < before || now > after {
		t.Errorf("%s since the boot, /proc/uptime says %s to %s", now, before, after)
	}
}
