package serve

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/owner"
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
		c.until("used memory", func(r wire.Reply) bool { return r.Snapshot != nil && r.Snapshot.Devices[0].Memory.Used == gib })
		if late := time.Since(changed); late > DefaultInterval {
			t.Errorf("told after %v", late)
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
		slow, fast := h.open(wire.Request{Op: wire.OpFollow, IntervalMS: 10_000}), h.open(wire.Request{Op: wire.OpFollow, IntervalMS: 500})
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

func TestRequests(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"version", `{"pool_gpu":2,"op":"follow"}` + "\n", "pool-gpu speaks protocol 1, and the request is of protocol 2"},
		{"no_version", `{"op":"follow"}` + "\n", "is of protocol 0"},
		{"operation", `{"pool_gpu":1,"op":"explode"}` + "\n", `knows no operation "explode"`},
		{"no_json", "GET / HTTP/1.1\n", "no JSON object of protocol 1"},
		{"no_needs", `{"pool_gpu":1,"op":"reserve"}` + "\n", "names no device"},
		{"no_unit", `{"pool_gpu":1,"op":"reserve","needs":{"G0":1}}` + "\n", "process 1000 is in no unit of pool-engines.slice"},
		{"unknown_device", `{"pool_gpu":1,"op":"reserve","unit":"x","needs":{"G7":1}}` + "\n", "no device G7; there are: G0"},
		{"too_long", strings.Repeat("x", wire.MaxLine), "longer than 1048576 bytes"},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			h := start(t, newFake(t, gpu("G0")))
			conn := h.dial(c.line)
			if r := conn.next(); !strings.Contains(r.Error, c.want) || r.Snapshot != nil {
				t.Errorf("got %+v, want an error with %q", r, c.want)
			}
			if _, err := conn.read(); err == nil {
				t.Error("the connection goes on")
			}
			conn.Close()
			h.end()
		})
	}
	inBubble(t, "silent_caller_is_let_go", func(t *testing.T) {
		h := start(t, newFake(t))
		c, began := h.dial(`{"pool_gpu":1`), time.Now()
		r := c.next()
		if !strings.Contains(r.Error, "not a whole line") || time.Since(began) != requestWithin {
			t.Errorf("after %v: %+v", time.Since(began), r)
		}
		c.Close()
		h.end()
	})
	inBubble(t, "only_root_holds_memory", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		h.peer = Peer{PID: 5, UID: 1000}
		needs := map[string]uint64{"G0": gib}
		for _, req := range []wire.Request{{Op: wire.OpReserve, Needs: needs, Unit: "x"}, {Op: wire.OpRelease, Unit: "x"}} {
			if r := h.ask(req); !strings.Contains(r.Error, "only root may "+req.Op) || r.Granted {
				t.Errorf("%s by a user: %+v", req.Op, r)
			}
		}
		if r := h.ask(wire.Request{Op: wire.OpReserve, Needs: needs, DryRun: true}); !r.Granted {
			t.Errorf("a question by a user: %+v", r)
		}
		if r := h.ask(wire.Request{Op: wire.OpSnapshot}); r.Snapshot == nil {
			t.Errorf("a snapshot by a user: %+v", r)
		}
		h.end()
	})
}

func TestPromises(t *testing.T) {
	reserve := func(bytes uint64) wire.Request {
		return wire.Request{Op: wire.OpReserve, Needs: map[string]uint64{"G0": bytes}}
	}
	inBubble(t, "reserve_refuse_release", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		h.group = unit("a")
		if r := h.ask(reserve(20 * gib)); !r.Granted {
			t.Fatalf("a: %+v", r)
		}
		h.group = unit("b")
		r := h.ask(reserve(20 * gib))
		if r.Granted || len(r.Short) != 1 || r.Short[0].Promised != 20*gib || r.Short[0].Holders[0].Unit != "a" {
			t.Fatalf("b: %+v", r)
		}
		h.group = unit("a")
		for range 2 {
			if r := h.ask(wire.Request{Op: wire.OpRelease}); !r.Granted {
				t.Errorf("release: %+v", r)
			}
		}
		h.group = unit("b")
		if r := h.ask(reserve(20 * gib)); !r.Granted {
			t.Errorf("b, after a gave it back: %+v", r)
		}
		h.end()
	})
	inBubble(t, "dry_run_promises_nothing", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		for _, u := range []string{"a", "b"} {
			req := reserve(20 * gib)
			req.DryRun, req.Unit = true, u
			if r := h.ask(req); !r.Granted {
				t.Errorf("%s: %+v", u, r)
			}
		}
		h.end()
	})
	inBubble(t, "unit_is_the_callers_not_the_named_one", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		h.group = unit("a")
		req := reserve(20 * gib)
		req.Unit = "b"
		h.ask(req)
		h.group = unit("b")
		if r := h.ask(reserve(20 * gib)); r.Granted || r.Short[0].Holders[0].Unit != "a" {
			t.Errorf("b: %+v", r)
		}
		h.end()
	})
	inBubble(t, "a_hundred_at_once_get_what_there_is", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		granted := make(chan bool)
		for i := range 100 {
			go func() {
				req := reserve(5 * gib)
				req.Unit = "u" + string(rune('0'+i/10)) + string(rune('0'+i%10))
				granted <- h.ask(req).Granted
			}()
		}
		n := 0
		for range 100 {
			if <-granted {
				n++
			}
		}
		if n != 4 {
			t.Errorf("%d of 5 GiB were promised from 24 GiB", n)
		}
		h.end()
	})
	inBubble(t, "ends_when_the_unit_has_no_process", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		h.populated = func(g owner.Group) bool { return g.Unit != "a" }
		h.group = unit("a")
		h.ask(reserve(20 * gib))
		time.Sleep(emptyFor - sweepEvery)
		h.group = unit("b")
		if r := h.ask(reserve(20 * gib)); r.Granted {
			t.Error("ended too early")
		}
		time.Sleep(3 * sweepEvery)
		if r := h.ask(reserve(20 * gib)); !r.Granted {
			t.Errorf("after %v without a process: %+v", emptyFor, r)
		}
		h.end()
	})
	inBubble(t, "no_driver_promises_nothing", func(t *testing.T) {
		f := newFake(t)
		f.opening = &nvml.Problem{Kind: nvml.ProblemNoDriver, Code: 9, Text: "the NVIDIA kernel module is not loaded"}
		h := start(t, f)
		h.group = unit("a")
		if r := h.ask(reserve(gib)); r.Granted || r.Short != nil || !strings.Contains(r.Error, "kernel module is not loaded") {
			t.Errorf("got %+v", r)
		}
		h.end()
	})
}

func TestEvents(t *testing.T) {
	inBubble(t, "told_at_once", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		c := h.follow()
		c.snapshot()
		time.Sleep(300 * time.Millisecond)
		sent := time.Now()
		h.library.events <- nvml.Event{Kind: nvml.EventXid, Device: "G0", Code: 79}
		if r := c.next(); r.Event == nil || r.Event.Code != 79 || !time.Now().Equal(sent) {
			t.Errorf("after %v: %+v", time.Since(sent), r)
		}
		c.Close()
		h.end()
	})
	inBubble(t, "a_sample_follows", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		c := h.follow()
		c.snapshot()
		time.Sleep(300 * time.Millisecond)
		h.library.set(func() { h.library.sick["G0"] = true })
		sent := time.Now()
		h.library.events <- nvml.Event{Kind: nvml.EventXid, Device: "G0", Code: 79}
		c.next()
		if s := c.snapshot(); s.Devices[0].Problem == nil || time.Since(sent) > shortestInterval {
			t.Errorf("after %v: %+v", time.Since(sent), s.Devices[0])
		}
		c.Close()
		h.end()
	})
	inBubble(t, "persistent_error_backs_off_and_is_told", func(t *testing.T) {
		f := newFake(t, gpu("G0"))
		f.waiting = &nvml.Problem{Kind: nvml.ProblemOther, Code: 999, Text: "wait failed"}
		h := start(t, f)
		c := h.follow()
		missed := make(chan int, 1)
		go func() {
			n := 0
			for {
				r, err := c.read()
				if err != nil {
					missed <- n
					return
				}
				if r.Event != nil && r.Event.Kind == nvml.EventMissed {
					n++
				}
			}
		}()
		time.Sleep(10 * time.Minute)
		if n := f.count(&f.waits); n < 10 || n > 20 { // 1+2+4+…+60 s, and then each minute
			t.Errorf("%d waits in ten minutes of errors", n)
		}
		c.Close()
		if n := <-missed; n == 0 {
			t.Error("nobody was told that events may have been missed")
		}
		h.end()
	})
	inBubble(t, "hanging_wait_is_told_and_samples_go_on", func(t *testing.T) {
		f := newFake(t, gpu("G0"))
		f.waitHang = make(chan struct{})
		h := start(t, f)
		c := h.follow()
		c.until("word of the wait", func(r wire.Reply) bool { return r.Event != nil && strings.Contains(r.Event.Text, "hangs") })
		c.snapshot()
		close(f.waitHang)
		c.Close()
		h.end()
	})
	inBubble(t, "driver_without_events", func(t *testing.T) {
		f := newFake(t, gpu("G0"))
		f.noEvents = true
		h := start(t, f)
		c := h.follow()
		c.snapshot()
		c.snapshot()
		if f.count(&f.waits) != 0 {
			t.Error("waited for events of a driver that has none")
		}
		c.Close()
		h.end()
	})
}

func TestDriverProblems(t *testing.T) {
	noDriver := &nvml.Problem{Kind: nvml.ProblemNoDriver, Code: 9, Text: "the NVIDIA kernel module is not loaded"}
	changed := &nvml.Problem{Kind: nvml.ProblemMismatch, Code: 18, Text: "the driver was replaced"}
	inBubble(t, "tried_again_with_backoff_until_it_is_there", func(t *testing.T) {
		f := newFake(t, gpu("G0"))
		f.opening = noDriver
		h := start(t, f)
		c := h.follow()
		if s := c.snapshot(); s.Driver.Problem == nil || s.Driver.Problem.Kind != nvml.ProblemNoDriver {
			t.Fatalf("got %+v", s.Driver)
		}
		go func() {
			time.Sleep(30 * time.Minute)
			f.set(func() { f.opening = nil })
		}()
		before := time.Now()
		for {
			s := c.snapshot()
			if silence := time.Since(before); silence > wire.Heartbeat {
				t.Errorf("silent for %v", silence)
			}
			before = time.Now()
			if s.Driver.Problem == nil {
				break
			}
		}
		if n := f.count(&f.openCalls); n < 30 || n > 40 {
			t.Errorf("opened %d times in half an hour", n)
		}
		c.Close()
		h.end()
	})
	inBubble(t, "lost_session_is_begun_anew", func(t *testing.T) {
		f := newFake(t, gpu("G0"))
		h := start(t, f)
		c := h.follow()
		first := c.snapshot().Session
		f.set(func() { f.failing = noDriver })
		c.until("the problem", func(r wire.Reply) bool { return r.Snapshot != nil && r.Snapshot.Driver.Problem != nil })
		f.set(func() { f.failing = nil })
		r := c.until("a new session", func(r wire.Reply) bool { return r.Snapshot != nil && r.Snapshot.Driver.Problem == nil })
		if r.Snapshot.Session == first || r.Snapshot.Session == "" {
			t.Errorf("session %q after %q", r.Snapshot.Session, first)
		}
		c.Close()
		h.end()
	})
	inBubble(t, "replaced_driver_ends_the_process", func(t *testing.T) {
		f := newFake(t, gpu("G0"))
		h := start(t, f)
		c := h.follow()
		c.snapshot()
		f.set(func() { f.failing, f.opening = changed, changed })
		c.until("the mismatch", func(r wire.Reply) bool {
			return r.Snapshot != nil && r.Snapshot.Driver.Problem != nil && r.Snapshot.Driver.Problem.Kind == nvml.ProblemMismatch
		})
		told := time.Now()
		c.drain()
		if err := <-h.ended; !errors.Is(err, ErrMismatch) {
			t.Errorf("Run: %v", err)
		}
		if after := time.Since(told); after != mismatchExit {
			t.Errorf("ended %v after followers were told", after)
		}
		c.Close()
	})
	inBubble(t, "mismatch_from_the_start_is_no_loop", func(t *testing.T) {
		f := newFake(t)
		f.opening = changed
		h := start(t, f)
		c, began := h.follow(), time.Now()
		c.drain()
		if err := <-h.ended; !errors.Is(err, ErrMismatch) || time.Since(began) != mismatchExitNew {
			t.Errorf("Run: %v after %v", err, time.Since(began))
		}
		c.Close()
	})
	inBubble(t, "passing_mismatch_ends_nothing", func(t *testing.T) {
		f := newFake(t, gpu("G0"))
		h := start(t, f)
		c := h.follow()
		c.snapshot()
		f.set(func() { f.failing, f.opening = changed, changed })
		time.Sleep(5 * time.Second)
		f.set(func() { f.failing, f.opening = nil, nil })
		c.until("facts", func(r wire.Reply) bool { return r.Snapshot != nil && r.Snapshot.Driver.Problem != nil })
		c.until("facts", func(r wire.Reply) bool { return r.Snapshot != nil && r.Snapshot.Driver.Problem == nil })
		go c.drain()
		time.Sleep(5 * time.Minute)
		c.Close()
		h.end()
	})
}

func TestLostGPU(t *testing.T) {
	inBubble(t, "others_go_on_and_the_session_is_begun_anew", func(t *testing.T) {
		f := newFake(t, gpu("G0"), gpu("G1"))
		h := start(t, f)
		c := h.follow()
		first := c.snapshot().Session
		f.set(func() { f.sick["G0"] = true })
		r := c.until("the lost GPU", func(r wire.Reply) bool { return r.Snapshot != nil && r.Snapshot.Devices[0].Problem != nil })
		if r.Snapshot.Devices[1].Problem != nil || r.Snapshot.Driver.Problem != nil {
			t.Errorf("more than the lost GPU has a problem: %+v", r.Snapshot)
		}
		go func() {
			time.Sleep(10 * time.Minute)
			f.set(func() { delete(f.sick, "G0") })
		}()
		r = c.until("the GPU", func(r wire.Reply) bool { return r.Snapshot != nil && r.Snapshot.Devices[0].Problem == nil })
		if r.Snapshot.Session == first {
			t.Error("the session is the former one")
		}
		if n := f.count(&f.opens); n < 10 || n > 16 {
			t.Errorf("%d sessions in ten minutes with a lost GPU", n)
		}
		before := f.count(&f.opens)
		go c.drain()
		time.Sleep(10 * time.Minute)
		if n := f.count(&f.opens); n > before+1 {
			t.Errorf("%d more sessions, though every GPU answers", n-before)
		}
		c.Close()
		h.end()
	})
}

func TestHang(t *testing.T) {
	isStall := func(r wire.Reply) bool { return r.Stalled != nil }
	inBubble(t, "told_answered_and_over", func(t *testing.T) {
		f := newFake(t, gpu("G0"))
		h := start(t, f)
		c := h.follow()
		c.snapshot()
		release := make(chan struct{})
		f.set(func() { f.hangs = release })
		r := c.until("the stall", isStall)
		if r.Stalled.Call != "nvmlDeviceGetMemoryInfo_v2" || time.Since(r.Stalled.Since) != stallAfter {
			t.Errorf("after %v: %+v", time.Since(r.Stalled.Since), r.Stalled)
		}
		// Questions, and a new follower, are answered at once.
		asked := time.Now()
		if r := h.ask(wire.Request{Op: wire.OpSnapshot}); r.Stalled == nil {
			t.Errorf("snapshot: %+v", r)
		}
		if r := h.ask(wire.Request{Op: wire.OpReserve, Unit: "a", Needs: map[string]uint64{"G0": 1}}); r.Stalled == nil || r.Granted {
			t.Errorf("reserve: %+v", r)
		}
		if r := h.ask(wire.Request{Op: wire.OpRelease, Unit: "a"}); !r.Granted {
			t.Errorf("release: %+v", r)
		}
		late := h.follow()
		if r := late.next(); r.Stalled == nil {
			t.Errorf("a new follower: %+v", r)
		}
		if !time.Now().Equal(asked) {
			t.Errorf("answered after %v", time.Since(asked))
		}
		f.set(func() { f.hangs = nil })
		close(release)
		for _, c := range []*conn{c, late} {
			c.until("facts", func(r wire.Reply) bool { return r.Snapshot != nil })
			c.Close()
		}
		h.end()
	})
	inBubble(t, "question_that_waits_is_answered_in_time", func(t *testing.T) {
		f := newFake(t, gpu("G0"))
		release := make(chan struct{})
		f.hangs = release
		h := start(t, f)
		asked := time.Now()
		if r := h.ask(wire.Request{Op: wire.OpSnapshot}); r.Stalled == nil || time.Since(asked) != stallAfter {
			t.Errorf("after %v: %+v", time.Since(asked), r)
		}
		f.set(func() { f.hangs = nil })
		close(release)
		h.end()
	})
	inBubble(t, "heartbeat_goes_on", func(t *testing.T) {
		f := newFake(t, gpu("G0"))
		h := start(t, f)
		c := h.follow()
		c.snapshot()
		release := make(chan struct{})
		f.set(func() { f.hangs = release })
		c.until("the stall", isStall)
		for range 5 {
			before := time.Now()
			if r := c.next(); r.Stalled == nil || time.Since(before) > wire.Heartbeat {
				t.Errorf("after %v: %+v", time.Since(before), r)
			}
		}
		f.set(func() { f.hangs = nil })
		close(release)
		c.Close()
		h.end()
	})
	inBubble(t, "gives_way_after_a_minute", func(t *testing.T) {
		f := newFake(t, gpu("G0"))
		release := make(chan struct{})
		f.hangs = release
		h := start(t, f)
		c, began := h.follow(), time.Now()
		c.drain()
		var hung *HungError
		if err := <-h.ended; !errors.As(err, &hung) || hung.Call != "nvmlDeviceGetMemoryInfo_v2" {
			t.Errorf("Run: %v", err)
		}
		if after := time.Since(began); after < stallExit || after > stallExit+stallEvery+endWithin {
			t.Errorf("ended after %v", after)
		}
		close(release)
		c.Close()
		time.Sleep(2 * waitTimeout) // what the process would leave behind ends too
	})
	inBubble(t, "end_does_not_wait_for_it", func(t *testing.T) {
		f := newFake(t, gpu("G0"))
		release := make(chan struct{})
		f.hangs = release
		h := start(t, f)
		c := h.follow()
		c.until("the stall", isStall)
		asked := time.Now()
		h.end()
		if took := time.Since(asked); took != endWithin {
			t.Errorf("ended after %v", took)
		}
		close(release)
		c.Close()
		time.Sleep(2 * waitTimeout)
	})
}
