package serve

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

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
		h.library.set(func() { h.library.lost["G0"] = true })
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
			t.Error("followers got no event that events may have been missed")
		}
		h.end()
	})
	inBubble(t, "hanging_wait_is_told_and_samples_go_on", func(t *testing.T) {
		f := newFake(t, gpu("G0"))
		f.waitHang = make(chan struct{})
		h := start(t, f)
		c := h.follow()
		c.until("word of the wait", func(r wire.Reply) bool {
			return r.Event != nil && strings.Contains(r.Event.Text, "hangs")
		})
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
		r := c.until("a new session", func(r wire.Reply) bool {
			return r.Snapshot != nil && r.Snapshot.Driver.Problem == nil
		})
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
			return r.Snapshot != nil && r.Snapshot.Driver.Problem != nil &&
				r.Snapshot.Driver.Problem.Kind == nvml.ProblemMismatch
		})
		sent := time.Now()
		c.drain()
		if err := <-h.ended; !errors.Is(err, ErrMismatch) {
			t.Errorf("Run: %v", err)
		}
		if after := time.Since(sent); after != mismatchExit {
			t.Errorf("ended %v after followers got it", after)
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
		f.set(func() { f.lost["G0"] = true })
		r := c.until("the lost GPU", func(r wire.Reply) bool {
			return r.Snapshot != nil && r.Snapshot.Devices[0].Problem != nil
		})
		if r.Snapshot.Devices[1].Problem != nil || r.Snapshot.Driver.Problem != nil {
			t.Errorf("more than the lost GPU has a problem: %+v", r.Snapshot)
		}
		go func() {
			time.Sleep(10 * time.Minute)
			f.set(func() { delete(f.lost, "G0") })
		}()
		r = c.until("the GPU", func(r wire.Reply) bool {
			return r.Snapshot != nil && r.Snapshot.Devices[0].Problem == nil
		})
		if r.Snapshot.Session != first {
			t.Error("the session has another name, though the driver was never away: what is held against the other " +
				"GPU would end")
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

func TestGPUThatComesLate(t *testing.T) {
	inBubble(t, "is_registered_for_events_too", func(t *testing.T) {
		f := newFake(t, gpu("G0"), gpu("G1"))
		f.lost["G1"] = true
		h := start(t, f)
		c := h.follow()
		c.snapshot()
		f.set(func() { delete(f.lost, "G1") }) // without a new session
		c.until("the GPU", func(r wire.Reply) bool { return r.Snapshot != nil && r.Snapshot.Devices[1].Problem == nil })
		go c.drain()
		time.Sleep(time.Minute)
		if n := f.count(&f.opens); n != 2 { // the second one began when both answered
			t.Errorf("%d sessions", n)
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
		if r := h.ask(wire.Request{Op: wire.OpReserve, Unit: "a",
			Needs: map[string]uint64{"G0": 1}}); r.Stalled == nil || r.Granted {
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
