package history

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

func pool(id string, state registry.State) registry.Pool {
	p := registry.Pool{ID: id, State: state, Ready: state == registry.StateReady, SlotsTotal: 8, ActiveLeases: 3}
	p.Replicas = []registry.Replica{{ID: "r0", State: state, Ready: p.Ready, Reason: "because", SlotsTotal: 4, SlotsFree: 1},
		{ID: "r1", State: registry.StateBackoff, SlotsTotal: 4}}
	return p
}

// TestPoints: a point a minute, the newest sixty.
func TestPoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := registry.New()
		b := New(reg)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			b.Run(ctx)
		}()
		began := time.Now()
		reg.Put(pool("a", registry.StateReady))
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if got := b.Of("a"); len(got.Points) != 0 || got.PoolID != "a" || got.IntervalMS != 60_000 {
			t.Errorf("before the first minute: %+v", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		got := b.Of("a").Points
		if len(got) != 1 || got[0].AtMS != began.Add(time.Minute).UnixMilli() || got[0].State != "ready" ||
			!got[0].Ready ||
			got[0].SlotsTotal != 8 || got[0].SlotsUsed != 3 || got[0].ActiveLeases != 3 || got[0].TokensPerS != nil ||
			got[0].FirstTokenMS != nil {
			t.Errorf("after a minute: %+v", got)
		}
		time.Sleep(100 * time.Minute)
		synctest.Wait()
		got = b.Of("a").Points
		if len(got) != mostPoints || got[0].AtMS != began.Add(42*time.Minute).UnixMilli() ||
			got[mostPoints-1].AtMS != began.Add(101*time.Minute).UnixMilli() {
			t.Errorf("%d points, from %d to %d", len(got), got[0].AtMS, got[len(got)-1].AtMS)
		}
		reg.Remove("a")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := b.Of("a"); len(got.Points)+len(got.Changes) != 0 || len(b.pools) != 0 {
			t.Errorf("of a pool that is gone: %+v", got)
		}
		cancel()
		<-ended
	})
}

// TestChanges: each state that a pool enters, with its reason, and the newest thirty-two of them.
func TestChanges(t *testing.T) {
	reg := registry.New()
	b := New(reg)
	ready, failed := pool("a", registry.StateReady), pool("a", registry.StateBackoff)
	failed.LastError = registry.Fail(registry.CodeEngineCrashed, "m", "h")
	stillReady := ready
	stillReady.ActiveLeases = 4
	for _, p := range []registry.Pool{ready, stillReady, failed, ready} {
		reg.Put(p)
	}
	got := ""
	for _, c := range b.Of("a").Changes {
		code := "-"
		if c.Code != nil {
			code = *c.Code
		}
		got += fmt.Sprintln(c.State, c.Reason, code)
	}
	if want := "ready because -\nbackoff because ENGINE_CRASHED\nready because -\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for range 100 {
		reg.Put(failed)
		reg.Put(ready)
	}
	if n := len(b.Of("a").Changes); n != mostChanges {
		t.Errorf("%d changes are kept, want %d", n, mostChanges)
	}
	if got := b.Of("nobody"); got.Points == nil || got.Changes == nil {
		t.Error("the lists of an unknown pool are null")
	}
}
