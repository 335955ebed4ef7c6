package serve

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/owner"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

func TestRequests(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"version", `{"pool_gpu":2,"op":"follow"}` + "\n", "pool-gpu has protocol version 1, the request has 2"},
		{"no_version", `{"op":"follow"}` + "\n", "the request has 0"},
		{"operation", `{"pool_gpu":1,"op":"explode"}` + "\n", `unknown operation "explode"`},
		{"no_json", "GET / HTTP/1.1\n", "not a JSON object of protocol 1"},
		{"no_needs", `{"pool_gpu":1,"op":"reserve"}` + "\n", "names no device"},
		{"no_devices", `{"pool_gpu":1,"op":"held"}` + "\n", "names no device"},
		{"held_by_no_unit", `{"pool_gpu":1,"op":"held","devices":["G0"]}` + "\n", "process 1000 is not in a unit of pool-engines.slice"},
		{"no_unit", `{"pool_gpu":1,"op":"reserve","needs":{"G0":1}}` + "\n", "process 1000 is not in a unit of pool-engines.slice"},
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
		for _, req := range []wire.Request{{Op: wire.OpReserve, Needs: needs, Unit: "x"},
			{Op: wire.OpRelease, Unit: "x"}} {
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
		if r.Granted || len(r.Short) != 1 || r.Short[0].Reserved != 20*gib || r.Short[0].Holders[0].Unit != "a" {
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
	inBubble(t, "dry_run_reserves_nothing", func(t *testing.T) {
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
	inBubble(t, "own_reservation_is_not_in_the_way", func(t *testing.T) {
		h := start(t, newFake(t, gpu("G0")))
		req := reserve(20 * gib)
		req.Unit = "a"
		h.ask(req)
		req.DryRun = true
		if r := h.ask(req); !r.Granted {
			t.Errorf("the same question again: %+v", r)
		}
		req.Unit = "b"
		if r := h.ask(req); r.Granted {
			t.Error("another unit may have it too: the question ended the reservation")
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
			t.Errorf("%d of 5 GiB were reserved from 24 GiB", n)
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
	inBubble(t, "no_driver_reserves_nothing", func(t *testing.T) {
		f := newFake(t)
		f.opening = &nvml.Problem{Kind: nvml.ProblemNoDriver, Code: 9, Text: "the NVIDIA kernel module is not loaded"}
		h := start(t, f)
		h.group = unit("a")
		if r := h.ask(reserve(gib)); r.Granted || r.Short != nil ||
			!strings.Contains(r.Error, "kernel module is not loaded") {
			t.Errorf("got %+v", r)
		}
		h.end()
	})
}

// FuzzParse: a request that is taken is one that the server can answer.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"pool_gpu":1,"op":"follow","interval_ms":2000}`))
	f.Add([]byte(`{"pool_gpu":1,"op":"reserve","needs":{"GPU-1":5},"unit":"a.service","dry_run":true}`))
	f.Add([]byte(`{"pool_gpu":1,"op":"release"}{}`))
	f.Fuzz(mutate.Many(func(t *testing.T, line []byte) {
		req, err := parse(line)
		known := slices.Contains([]string{wire.OpFollow, wire.OpSnapshot, wire.OpReserve, wire.OpRelease}, req.Op)
		if err == nil && (req.Version != wire.Version || !known || req.Op == wire.OpReserve && len(req.Needs) == 0) {
			t.Errorf("%q was taken as %+v", line, req)
		}
	}))
}
