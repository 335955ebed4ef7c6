package registry

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestLeasesAreCounted(t *testing.T) {
	two := func() Pool {
		return Pool{ID: "a", Ready: true, State: StateReady, Replicas: []Replica{
			{ID: "r0", Ready: true, State: StateReady, SlotsTotal: 4}, {ID: "r1", State: StateBackoff, SlotsTotal: 4}}}
	}
	held := map[string]int{"r0": 1, "r1": 2}
	r := New()
	r.CountLeases(func(_, replica string) int { return held[replica] })
	want := func(t *testing.T, active, free int) {
		t.Helper()
		if p, _ := r.Pool("a"); p.ActiveLeases != active || p.SlotsFree != free {
			t.Errorf("%d active, %d free; want %d, %d", p.ActiveLeases, p.SlotsFree, active, free)
		}
	}
	t.Run("of_a_replica_that_is_not_ready_nothing_is_free", func(t *testing.T) {
		r.Put(two())
		want(t, 3, 3)
	})
	t.Run("a_change_shows_without_a_new_status", func(t *testing.T) {
		before := r.Snapshot()
		held["r0"] = 4
		r.LeasesChanged("a")
		want(t, 6, 0)
		if p, _ := before.Pool("a"); p.ActiveLeases != 3 || p.Replicas[0].ActiveLeases != 1 {
			t.Error("a snapshot changed under its reader")
		}
	})
	t.Run("more_leases_than_slots_leave_nothing", func(t *testing.T) {
		held["r0"] = 9
		r.LeasesChanged("a")
		want(t, 11, 0)
	})
	t.Run("a_pool_that_drains_has_nothing_free", func(t *testing.T) {
		held["r0"] = 1
		p := two()
		p.Draining = true
		r.Put(p)
		want(t, 3, 0)
	})
	t.Run("an_unknown_pool_is_nothing", func(t *testing.T) { r.LeasesChanged("b") })
}

// TestLeasesAtOnce: with concurrent writers, the last status has the last count.
func TestLeasesAtOnce(t *testing.T) {
	var active atomic.Int64
	r := New()
	r.CountLeases(func(string, string) int { return int(active.Load()) })
	p := Pool{ID: "a", Ready: true, State: StateReady,
		Replicas: []Replica{{ID: "r0", Ready: true, State: StateReady, SlotsTotal: 1000}}}
	r.Put(p)
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() {
			active.Add(1)
			r.LeasesChanged("a")
			if got, _ := r.Pool("a"); got.SlotsFree < 0 || got.SlotsFree > 999 {
				t.Errorf("%d free", got.SlotsFree)
			}
			r.Put(Pool{ID: "a", Ready: true, State: StateReady, Replicas: []Replica{p.Replicas[0]}})
		})
	}
	all.Wait()
	if got, _ := r.Pool("a"); got.SlotsFree != 0 || got.ActiveLeases != 1000 {
		t.Errorf("%d free, %d active", got.SlotsFree, got.ActiveLeases)
	}
}
