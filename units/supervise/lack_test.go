package supervise

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/memory"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// raising is a GPU host whose need is raised by loads that end for want of memory.
type raising struct {
	*gpuHost
	limit time.Duration // how long it holds
	up    *memory.Need
	ends  []memory.End
	lows  int
}

func (h *raising) Need(context.Context, Load) (memory.Need, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.up != nil && !h.up.Over(time.Now()) {
		return *h.up, nil
	}
	return memory.Need{Devices: h.need, Source: memory.Estimated}, nil
}

// Try compares with what the newest facts have, as the helper does.
func (h *raising) Try(_ context.Context, _ string, l Load, need memory.Need) *registry.Failure {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tries++
	if free := h.now.Devices[0].Memory.Free; free < need.Devices[gpu(0)] {
		return registry.Fail(registry.CodeInsufficientVRAM, fmt.Sprintf("%d is free", free), "")
	}
	return nil
}

func (h *raising) Raise(_ context.Context, _ Load, end memory.End) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ends = append(h.ends, end)
	r, ok := end.Raise()
	if ok {
		h.up = &memory.Need{Devices: map[string]uint64{gpu(0): r.Devices[0]}, Source: memory.Estimated,
			Raised: &memory.RaisedNeed{Code: r.Code, Until: time.Now().Add(h.limit), Devices: h.need}}
	}
	return ok
}

func (h *raising) Lower(context.Context, Load) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up, h.lows = nil, h.lows+1
}

// outOfMemory is the line of a load of which 2 GiB were refused.
const outOfMemory = "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 2048.00 MiB on device 0: " +
	"cudaMalloc failed: out of memory"

// loads is a manager with a pool of 5 GiB that has loaded 4 GiB of 6, and the world's log of its
// first run.
func (h *raising) loads(t *testing.T, w *world) *manager {
	h.need = map[string]uint64{gpu(0): 5 * gib}
	l := &runLog{lines: map[string][]string{firstRun: {"load_tensors", outOfMemory}}}
	p := llama("a", func(p *pool.Pool) { p.Devices, p.Restart.BreakerFailures = [][]string{{"0"}}, 20 })
	m := w.manage(t, pools(p), func(o *Options) { o.GPUs, o.Memory, o.Journal = h, h, l })
	h.tell(h.used(0, 6*gib))
	m.wantState("a", registry.StateStarting, false)
	h.tell(h.used(4*gib, 2*gib))
	return m
}

func (h *raising) used(engine, free uint64) func(*nvml.Snapshot) {
	return func(s *nvml.Snapshot) {
		s.Devices[0].Memory = &nvml.Memory{Total: 24 * gib, Free: free}
		s.Devices[0].Processes = nil
		if engine > 0 {
			s.Devices[0].Processes = []nvml.Process{{PID: 1001, Unit: unitOf("a"), Used: &engine}}
		}
	}
}

// outOfMemoryEnds is the end of a load by the engine itself.
func outOfMemoryEnds(st *systemd.Status) {
	ends("exit-code", cldExited, 1)(st)
	st.WasActive = false
}

// wantNeed checks what the unit's first step waits for.
func (w *world) wantNeed(t *testing.T, bytes int) {
	t.Helper()
	pre := w.property(unitOf("a"), "ExecStartPre")
	if !strings.Contains(pre, fmt.Sprintf("%s=%d", gpu(0), bytes)) {
		t.Errorf("ExecStartPre = %s, want %d bytes", pre, bytes)
	}
}

func TestOutOfMemoryWhileLoading(t *testing.T) {
	scenario(t, "the_next_start_waits_for_what_the_load_lacked", func(t *testing.T, w *world) {
		h := &raising{gpuHost: twoGPUs(), limit: time.Hour}
		m := h.loads(t, w)
		w.change(unitOf("a"), outOfMemoryEnds)
		h.tell(h.used(0, 6*gib-1))
		time.Sleep(2 * time.Minute)
		m.wantState("a", registry.StateWaiting, false)
		m.wantCode("a", registry.CodeInsufficientVRAM)
		end := h.ends[0]
		if len(h.ends) != 1 || end.Run != firstRun || end.Code != registry.CodeCUDAOOM || end.Failed == nil ||
			end.Failed.Bytes != 2*gib || len(end.Seen) != 1 ||
			end.Seen[0] != (memory.DeviceUse{Used: 4 * gib, Room: 6 * gib, Most: 24 * gib}) {
			t.Fatalf("ends %+v", h.ends)
		}
		n := m.pool("a").Replicas[0].Need
		if n == nil || n.RaisedAfter != registry.CodeCUDAOOM || n.VRAM != 6*gib+1<<20 {
			t.Errorf("shown need %+v", n)
		}
		if w.called("start") != 1 {
			t.Errorf("started without that memory: %v", w.calls)
		}
		h.tell(h.used(0, 7*gib))
		m.wantState("a", registry.StateStarting, false)
		w.wantNeed(t, 6*gib+1<<20)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		if n = m.pool("a").Replicas[0].Need; h.lows != 1 || n.RaisedAfter != "" {
			t.Errorf("lowered %d times, need %+v", h.lows, n)
		}
	})
	scenario(t, "a_need_that_was_raised_too_far_ends", func(t *testing.T, w *world) {
		h := &raising{gpuHost: twoGPUs(), limit: 10 * time.Minute}
		m := h.loads(t, w)
		w.change(unitOf("a"), outOfMemoryEnds)
		h.tell(h.used(0, 6*gib-1))
		time.Sleep(9 * time.Minute)
		m.wantState("a", registry.StateWaiting, false)
		time.Sleep(2 * time.Minute)
		m.wantState("a", registry.StateStarting, false)
		w.wantNeed(t, 5*gib)
	})
	scenario(t, "the_unit_of_a_raised_need_is_not_started_again_as_it_is", func(t *testing.T, w *world) {
		h := &raising{gpuHost: twoGPUs(), limit: time.Hour}
		m := h.loads(t, w)
		w.change(unitOf("a"), outOfMemoryEnds)
		h.tell(h.used(0, 7*gib))
		time.Sleep(2 * time.Minute)
		m.wantState("a", registry.StateStarting, false)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		h.tell(h.used(0, 5*gib))
		w.change(unitOf("a"), ends("signal", cldKilled, 11))
		time.Sleep(2 * time.Minute)
		m.wantState("a", registry.StateStarting, false)
		w.wantNeed(t, 5*gib)
	})
	scenario(t, "an_engine_that_served_raises_nothing", func(t *testing.T, w *world) {
		h := &raising{gpuHost: twoGPUs(), limit: time.Hour}
		m := h.loads(t, w)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		time.Sleep(20 * time.Second)
		m.wantCode("a", registry.CodeCUDAOOM)
		if len(h.ends) != 0 {
			t.Errorf("ends %+v", h.ends)
		}
	})
	scenario(t, "killed_without_memory_max", func(t *testing.T, w *world) {
		h := &raising{gpuHost: twoGPUs()}
		m := w.manage(t, pools(llama("a")), func(o *Options) { o.Memory = h })
		w.change(unitOf("a"), func(st *systemd.Status) {
			ends("oom-kill", cldKilled, 9)(st)
			st.WasActive = false
		})
		time.Sleep(20 * time.Second)
		m.wantCode("a", registry.CodeEngineOOM)
		if len(h.ends) != 1 || h.ends[0].Code != registry.CodeEngineOOM || h.ends[0].MemoryMax != 0 {
			t.Errorf("ends %+v", h.ends)
		}
	})
	scenario(t, "killed_at_memory_max", func(t *testing.T, w *world) {
		h := &raising{gpuHost: twoGPUs()}
		p := llama("a", func(p *pool.Pool) { p.Limits.MemoryMaxBytes = 4 * gib })
		m := w.manage(t, pools(p), func(o *Options) { o.Memory = h })
		w.change(unitOf("a"), func(st *systemd.Status) {
			ends("oom-kill", cldKilled, 9)(st)
			st.WasActive = false
		})
		time.Sleep(20 * time.Second)
		m.wantCode("a", registry.CodeEngineOOM)
		if len(h.ends) != 1 || h.ends[0].MemoryMax != 4*gib || len(h.ends[0].Targets) != 0 {
			t.Errorf("ends %+v", h.ends)
		}
	})
}
