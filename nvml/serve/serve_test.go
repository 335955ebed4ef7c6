package serve

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

func TestFollow(t *testing.T) {
	inBubble(t, "nobody_follows_nothing_is_asked", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		time.Sleep(time.Hour)
		if h.library.openCalls != 0 || h.library.samples != 0 {
			t.Errorf("the driver was opened %d times and sampled %d times", h.library.openCalls, h.library.samples)
		}
		h.end()
	})
	inBubble(t, "snapshot_at_once", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0"), gpu("G1")))
		began := time.Now()
		c := h.follow()
		s := c.snapshot()
		if len(s.Devices) != 2 || s.Session == "" || !s.Taken.Equal(began) {
			t.Errorf("got %d devices, session %q, taken %v later", len(s.Devices), s.Session, s.Taken.Sub(began))
		}
		c.Close()
		h.end()
	})
	inBubble(t, "change_is_told_within_an_interval", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		c := h.follow()
		c.snapshot()
		changed := time.Now()
		h.library.set(func() { h.library.devices = []nvml.Device{gpu("G0", holds(7, "x", gib))} })
		c.until("used memory", func(r wire.Reply) bool {
			return r.Snapshot != nil && r.Snapshot.Devices[0].Memory.Used == gib
		})
		if late := time.Since(changed); late > DefaultInterval {
			t.Errorf("answered after %v", late)
		}
		c.Close()
		h.end()
	})
	inBubble(t, "unchanged_is_told_by_the_heartbeat", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		c := h.follow()
		before := c.snapshot().Taken
		for range 20 {
			taken := c.snapshot().Taken
			if silence := taken.Sub(before); silence > wire.Heartbeat || silence <= DefaultInterval {
				t.Errorf("a line after %v", silence)
			}
			before = taken
		}
		c.Close()
		h.end()
	})
	inBubble(t, "one_sample_for_all", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		var all []*conn
		for range 10 {
			c := h.follow()
			c.snapshot()
			go c.drain()
			all = append(all, c)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := h.library.count(&h.library.samples); n > 10+31 {
			t.Errorf("%d samples in a minute of 2 s intervals", n)
		}
		for _, c := range all {
			c.Close()
		}
		synctest.Wait()
		n := h.library.count(&h.library.samples)
		time.Sleep(time.Minute)
		if after := h.library.count(&h.library.samples); after != n {
			t.Errorf("%d samples after the last follower left", after-n)
		}
		if h.library.watching {
			t.Error("events are still waited for")
		}
		h.end()
	})
	inBubble(t, "shortest_interval_holds", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		slow, fast := h.open(wire.Request{Op: wire.OpFollow, IntervalMS: 10_000}),
			h.open(wire.Request{Op: wire.OpFollow, IntervalMS: 500})
		go slow.drain()
		go fast.drain()
		time.Sleep(10 * time.Second)
		if n := h.library.count(&h.library.samples); n < 20 || n > 23 {
			t.Errorf("%d samples in 10 s at 500 ms", n)
		}
		slow.Close()
		fast.Close()
		h.end()
	})
	inBubble(t, "slow_driver_is_left_alone_half_of_the_time", func(t *testing.T) {
		f := newFake(t, gpu("G0"))
		f.slow = 6 * time.Second // of many calls, none of which takes long
		h := start(t, f)
		c := h.follow()
		go func() {
			c.snapshot()
			for before := time.Now(); ; before = time.Now() {
				if _, err := c.read(); err != nil {
					return
				}
				if silence := time.Since(before); silence > wire.Heartbeat {
					t.Errorf("silent for %v", silence)
				}
			}
		}()
		time.Sleep(100 * time.Second)
		if n := f.count(&f.samples); n < 8 || n > 9 {
			t.Errorf("%d samples of 6 s in 100 s", n)
		}
		c.Close()
		time.Sleep(10 * time.Second)
		h.end()
	})
	inBubble(t, "slow_follower_is_dropped_alone", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		slow, quick := h.follow(), h.follow() // slow never reads
		go func() {
			for i := range 1000 {
				time.Sleep(10 * time.Millisecond)
				h.library.events <- nvml.Event{Kind: nvml.EventXid, Code: i}
			}
		}()
		for i := range 1000 {
			e := quick.until("event", func(r wire.Reply) bool { return r.Event != nil }).Event
			if e.Code != i {
				t.Fatalf("event %d came as %d", i, e.Code)
			}
		}
		n := 0
		for {
			if _, err := slow.read(); err != nil {
				break
			}
			n++
		}
		if n > 1 {
			t.Errorf("the slow one was sent %d lines", n)
		}
		slow.Close()
		quick.Close()
		h.end()
	})
}

func (c *conn) drain() {
	for {
		if _, err := c.read(); err != nil {
			return
		}
	}
}
