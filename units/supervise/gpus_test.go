package supervise

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/memory"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

const gib = 1 << 30

// gpuHost stands in for the GPU helper, the log and what models need. The machines' tests have the
// real ones.
type gpuHost struct {
	updates chan nvml.Update
	lines   chan systemd.JournalEntry
	now     nvml.Snapshot

	mu    sync.Mutex
	hung  bool              // NVML does not answer
	asked int               // how often it was asked for a sample
	need  map[string]uint64 // bytes by UUID
	short bool              // a dry run says that there is too little
	tries int
	peaks [][]uint64
}

// twoGPUs is a host with two healthy GPUs of 24 GiB.
func twoGPUs() *gpuHost {
	h := &gpuHost{updates: make(chan nvml.Update, 64), lines: make(chan systemd.JournalEntry, 64)}
	h.now = nvml.Snapshot{Session: "s1", Driver: nvml.Driver{Version: "550.54.14"}}
	for i := range 2 {
		minor := i
		h.now.Devices = append(h.now.Devices,
			nvml.Device{UUID: gpu(i), Index: i, PCI: fmt.Sprintf("00000000:%02x:00.0", 0x65+i), Minor: &minor,
				Name: "Fake 24G", Memory: &nvml.Memory{Total: 24 * gib, Free: 24 * gib}, Recovery: nvml.RecoveryNone,
				Nodes: []string{fmt.Sprintf("/dev/nvidia%d", i)}})
	}
	return h
}

func gpu(i int) string { return fmt.Sprintf("GPU-0000000%d-aaaa-bbbb-cccc-000000000000", i) }

// tell delivers the facts as they are now.
func (h *gpuHost) tell(changes ...func(*nvml.Snapshot)) {
	next := h.now
	next.Devices = append([]nvml.Device(nil), h.now.Devices...)
	next.Taken = time.Now()
	for _, c := range changes {
		c(&next)
	}
	h.mu.Lock()
	h.now = next
	h.mu.Unlock()
	h.updates <- nvml.Update{Snapshot: &next}
	synctest.Wait()
}

// tellFor delivers the same facts every two seconds for a while.
func (h *gpuHost) tellFor(d time.Duration) {
	for range d / (2 * time.Second) {
		time.Sleep(2 * time.Second)
		h.tell()
	}
}

func (h *gpuHost) event(e nvml.Event) {
	e.At = time.Now()
	h.updates <- nvml.Update{Event: &e}
	synctest.Wait()
}

func (h *gpuHost) Follow(ctx context.Context, deliver func(nvml.Update)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case u := <-h.updates:
			deliver(u)
		}
	}
}

// log is the Journal side of the host.
type logOf struct{ *gpuHost }

func (l logOf) Follow(ctx context.Context, _ systemd.JournalQuery, deliver func(systemd.JournalEntry)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-l.lines:
			deliver(e)
		}
	}
}

func (l logOf) Read(context.Context, systemd.JournalQuery, int) ([]systemd.JournalEntry, error) {
	return nil, nil
}

func (h *gpuHost) engineSays(unit, line string) {
	h.lines <- systemd.JournalEntry{Fields: map[string]string{"MESSAGE": line, "_SYSTEMD_UNIT": unit,
		"_TRANSPORT": "stdout"}}
	synctest.Wait()
}

// tight says whether a dry run shall find too little, and returns how often there was one.
func (h *gpuHost) tight(short bool) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.short = short
	return h.tries
}

func (h *gpuHost) Need(context.Context, Load) (memory.Need, error) {
	return memory.Need{Devices: h.need, Source: memory.Estimated}, nil
}

func (h *gpuHost) Try(_ context.Context, _ string, l Load, need memory.Need) *registry.Failure {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tries++
	if !h.short {
		return nil
	}
	return memory.Refusal(need, []wire.Short{{Device: gpu(0), Need: 20 * gib, Free: gib}}, l.Mask)
}

func (h *gpuHost) Record(_ context.Context, _ Load, s memory.Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.peaks = append(h.peaks, s.Devices)
}

func (h *gpuHost) Raise(context.Context, Load, memory.End) bool { return false }

func (h *gpuHost) Lower(context.Context, Load) {}

// onGPU is a pool of one replica on these devices.
func onGPU(id string, mask ...string) pool.Pool {
	return llama(id, func(p *pool.Pool) { p.Devices = [][]string{mask} })
}

// with gives a manager GPUs.
func withGPUs(h *gpuHost) func(*Options) {
	return func(o *Options) { o.GPUs, o.Memory, o.Journal = h, h, logOf{h} }
}

// onReadyGPU is a manager with one ready pool on GPU 0.
func onReadyGPU(t *testing.T, w *world, h *gpuHost) *manager {
	m := w.manage(t, pools(onGPU("a", "0")), withGPUs(h))
	h.tell()
	w.passGate(unitOf("a"))
	m.wantState("a", registry.StateReady, true)
	return m
}

// property returns what PID 1 was sent.
func (w *world) property(unit, name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, p := range w.props[unit] {
		if p.Name == name {
			out = append(out, fmt.Sprint(p.Value))
		}
	}
	return strings.Join(out, " ")
}

func TestGPUMask(t *testing.T) {
	scenario(t, "index_becomes_the_full_uuid", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := w.manage(t, pools(onGPU("a", "1")), withGPUs(h))
		m.wantState("a", registry.StatePreparing, false)
		h.tell()
		m.wantState("a", registry.StateStarting, false)
		if env := w.property(unitOf("a"), "Environment"); !strings.Contains(env, "CUDA_VISIBLE_DEVICES="+gpu(1)) {
			t.Errorf("Environment = %s", env)
		}
		if allow := w.property(unitOf("a"), "DeviceAllow"); !strings.Contains(allow, "/dev/nvidia1 ") ||
			strings.Contains(allow, "/dev/nvidia0 ") {
			t.Errorf("DeviceAllow = %s", allow)
		}
		if p := m.pool("a"); len(p.Devices) != 1 || p.Devices[0].UUID != gpu(1) || p.DeviceMask[0] != gpu(1) {
			t.Errorf("devices = %+v, mask = %v", p.Devices, p.DeviceMask)
		}
	})
	scenario(t, "nobody_tells_so_nothing_starts", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := w.manage(t, pools(onGPU("a", "0"), llama("cpu")), withGPUs(h))
		m.wantState("cpu", registry.StateStarting, false)
		time.Sleep(gpuGrace + time.Second)
		m.wantState("a", registry.StateFailed, false)
		m.wantCode("a", registry.CodeGPUUnavailable)
		h.tell()
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "a_gpu_that_is_not_there", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := w.manage(t, pools(onGPU("a", "7")), withGPUs(h))
		h.tell()
		m.wantState("a", registry.StateFailed, false)
		m.wantCode("a", registry.CodeDeviceMaskInvalid)
	})
	scenario(t, "a_mask_that_another_pool_has", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := w.manage(t, pools(onGPU("a", "0"), onGPU("b", gpu(0))), withGPUs(h))
		h.tell()
		m.wantState("a", registry.StateStarting, false)
		m.wantState("b", registry.StateFailed, false)
		m.wantCode("b", registry.CodeDeviceMaskInvalid)
		m.apply(pools(onGPU("b", gpu(0))))
		time.Sleep(time.Minute)
		m.wantState("b", registry.StateStarting, false)
	})
	scenario(t, "two_pools_that_swap_their_gpus", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := w.manage(t, pools(onGPU("a", "0"), onGPU("b", "1")), withGPUs(h))
		h.tell()
		w.passGate(unitOf("a"))
		w.passGate(unitOf("b"))
		m.wantState("b", registry.StateReady, true)
		b := m.pool("b").Replicas[0].Endpoint
		w.with(func() { w.busy[b] = 1 }) // it works on, so that a is first
		m.apply(pools(onGPU("a", "1"), onGPU("b", "0")))
		time.Sleep(time.Second)
		m.wantState("a", registry.StateWaiting, false)
		m.wantCode("a", registry.CodeGPUUnavailable)
		w.with(func() { w.busy[b] = 0 })
		time.Sleep(time.Second)
		for id, uuid := range map[string]string{"a": gpu(1), "b": gpu(0)} {
			m.wantState(id, registry.StateStarting, false)
			if env := w.property(unitOf(id), "Environment"); !strings.Contains(env, "CUDA_VISIBLE_DEVICES="+uuid) {
				t.Errorf("%s: %s", id, env)
			}
		}
	})
	scenario(t, "helper_that_is_away_at_a_restart_touches_nothing", func(t *testing.T, w *world) {
		h := twoGPUs()
		onReadyGPU(t, w, h).kill()
		m := w.manage(t, pools(onGPU("a", "0")), withGPUs(twoGPUs()))
		m.wantState("a", registry.StateReady, true)
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateReady, true)
		if n := w.called("stop") + w.called("start"); n != 1 {
			t.Errorf("touched: %v", w.calls)
		}
	})
}

func TestGPUHealth(t *testing.T) {
	xid := func(code int) nvml.Event { return nvml.Event{Kind: nvml.EventXid, Device: gpu(0), Code: code} }
	scenario(t, "reset_needed_drains_stops_and_comes_back", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := onReadyGPU(t, w, h)
		h.event(xid(95))
		if p := m.pool("a"); p.Ready {
			t.Fatalf("ready on a GPU that needs a reset: %+v", p)
		}
		h.tell(func(s *nvml.Snapshot) { s.Devices[0].Recovery = nvml.RecoveryReset })
		time.Sleep(2 * time.Second)
		m.wantState("a", registry.StateWaiting, false)
		m.wantCode("a", registry.CodeGPUUnavailable)
		if w.called("stop") != 1 {
			t.Errorf("not stopped: %v", w.calls)
		}
		h.tellFor(time.Minute)
		m.wantState("a", registry.StateWaiting, false)
		h.tell(func(s *nvml.Snapshot) { s.Devices[0].Recovery = nvml.RecoveryNone })
		h.tellFor(20 * time.Second)
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "comes_back_though_the_answer_to_its_stop_was_lost", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := onReadyGPU(t, w, h)
		w.with(func() { w.stopLost = fmt.Errorf("stop job: %w", systemd.ErrDisconnected) })
		h.event(xid(95))
		h.tell(func(s *nvml.Snapshot) { s.Devices[0].Recovery = nvml.RecoveryReset })
		time.Sleep(10 * time.Second)
		m.wantState("a", registry.StateWaiting, false)
		m.wantCode("a", registry.CodeGPUUnavailable)
		w.with(func() { w.stopLost = nil })
		h.tell(func(s *nvml.Snapshot) { s.Devices[0].Recovery = nvml.RecoveryNone })
		h.tellFor(20 * time.Second)
		m.wantState("a", registry.StateStarting, false)
		if w.called("stop") != 1 || w.called("clear") != 1 {
			t.Errorf("calls %v, want one stop and one clear", w.calls)
		}
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		w.change(unitOf("a"), func(st *systemd.Status) { // by an operator
			st.ActiveState, st.SubState, st.MainPID = "inactive", "dead", 0
		})
		time.Sleep(time.Hour)
		m.wantState("a", registry.StateStopped, false)
	})
	scenario(t, "other_gpus_go_on", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := w.manage(t, pools(onGPU("a", "0"), onGPU("b", "1")), withGPUs(h))
		h.tell()
		w.passGate(unitOf("a"))
		w.passGate(unitOf("b"))
		m.wantState("b", registry.StateReady, true)
		h.event(xid(95))
		if m.pool("a").Ready || !m.pool("b").Ready {
			t.Errorf("a ready=%t, b ready=%t", m.pool("a").Ready, m.pool("b").Ready)
		}
	})
	scenario(t, "helper_that_dies_changes_nothing_that_runs", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := onReadyGPU(t, w, h)
		h.updates <- nvml.Update{Stale: &nvml.Stale{Since: time.Now(),
			Problem: nvml.Problem{Kind: nvml.ProblemHelper, Text: "pool-gpu does not answer"}}}
		time.Sleep(10 * time.Minute)
		m.wantState("a", registry.StateReady, true)
		if d := m.reg.Snapshot().Devices; d.Stale == nil || len(d.Devices) != 2 {
			t.Errorf("devices = %+v", d)
		}
	})
	scenario(t, "application_fault_of_a_process_that_lives_on_restarts_it", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := onReadyGPU(t, w, h)
		h.engineSays(unitOf("a"), "CUDA error: an illegal memory access was encountered")
		m.wantState("a", registry.StateReady, true) // most engines end by themselves
		time.Sleep(faultGrace)
		m.wantState("a", registry.StateBackoff, false)
		m.wantCode("a", registry.CodeCUDAError)
		if w.called("kill") != 1 {
			t.Errorf("kills: %v", w.calls)
		}
		w.again(unitOf("a"))
		w.change(unitOf("a"), func(st *systemd.Status) { st.ActiveState, st.SubState = "active", "running" })
		m.wantState("a", registry.StateReady, true)
		time.Sleep(time.Minute)
		if w.called("kill") != 1 {
			t.Errorf("ended again: %v", w.calls)
		}
	})
	scenario(t, "out_of_memory_explains_the_crash", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := onReadyGPU(t, w, h)
		h.engineSays(unitOf("a"), "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9000 MiB on device 0: "+
			"cudaMalloc failed: out of memory")
		time.Sleep(time.Minute / 2)
		m.wantState("a", registry.StateReady, true)
		w.change(unitOf("a"), func(st *systemd.Status) {
			st.ActiveState, st.SubState, st.Result, st.MainPID = "activating", "auto-restart", "exit-code", 0
			st.ExecMainCode, st.ExecMainStatus = cldExited, 1
		})
		m.wantState("a", registry.StateBackoff, false)
		m.wantCode("a", registry.CodeCUDAOOM)
	})
}

func TestGPUMemory(t *testing.T) {
	needs := func(h *gpuHost) { h.need = map[string]uint64{gpu(0): 20 * gib} }
	free := func(bytes uint64) func(*nvml.Snapshot) {
		return func(s *nvml.Snapshot) { s.Devices[0].Memory = &nvml.Memory{Total: 24 * gib, Free: bytes} }
	}
	scenario(t, "too_little_is_no_start_and_enough_is_one_at_once", func(t *testing.T, w *world) {
		h := twoGPUs()
		needs(h)
		h.short = true
		m := w.manage(t, pools(onGPU("a", "0")), withGPUs(h))
		h.tell(free(gib))
		m.wantState("a", registry.StateWaiting, false)
		m.wantCode("a", registry.CodeInsufficientVRAM)
		if w.called("start") != 0 {
			t.Error("started without memory")
		}
		time.Sleep(10 * time.Minute)
		tries := h.tight(false)
		if tries < 5 || tries > 25 {
			t.Errorf("%d tries in ten minutes", tries)
		}
		h.tell(free(22 * gib))
		m.wantState("a", registry.StateStarting, false)
		if n := h.tight(false); n != tries+1 {
			t.Errorf("%d tries, want one more than %d", n, tries)
		}
	})
	scenario(t, "memory_that_comes_free_cuts_pid_1s_backoff", func(t *testing.T, w *world) {
		h := twoGPUs()
		needs(h)
		m := onReadyGPU(t, w, h)
		h.tell(free(gib))
		w.change(unitOf("a"), func(st *systemd.Status) {
			st.ActiveState, st.SubState, st.Result, st.MainPID = "activating", "auto-restart", "exit-code", 0
			st.PreCode, st.PreStatus = cldExited, 6
		})
		m.wantState("a", registry.StateBackoff, false)
		m.wantCode("a", registry.CodeInsufficientVRAM)
		h.tell(free(22 * gib))
		m.wantState("a", registry.StateStarting, false)
		if w.called("stop-waiting") != 1 || w.called("start") != 2 {
			t.Errorf("calls: %v", w.calls)
		}
	})
	scenario(t, "after_a_stop_the_units_own_step_judges", func(t *testing.T, w *world) {
		h := twoGPUs()
		needs(h)
		m := onReadyGPU(t, w, h)
		tries := h.tight(true) // the driver gives it back late
		m.apply(pools(llama("a", func(p *pool.Pool) { p.Devices, p.Ctx = [][]string{{"0"}}, 4096 })))
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStarting, false)
		if h.tight(true) != tries+1 { // whether both fit was asked
			t.Error("a start was evaluated while the driver still released memory")
		}
	})
	scenario(t, "the_peak_of_a_run_is_kept", func(t *testing.T, w *world) {
		h := twoGPUs()
		onReadyGPU(t, w, h)
		used := func(bytes uint64) func(*nvml.Snapshot) {
			return func(s *nvml.Snapshot) {
				s.Devices[0].Processes = []nvml.Process{{PID: 1001, Unit: unitOf("a"), Used: &bytes}}
			}
		}
		h.tell(used(3 * gib))
		h.tell(used(2 * gib))
		h.tell(used(5 * gib))
		time.Sleep(recordEvery)
		h.tell(used(6 * gib))
		if n := len(h.peaks); n != 2 || h.peaks[0][0] != 3*gib || h.peaks[1][0] != 6*gib {
			t.Errorf("peaks = %v", h.peaks)
		}
	})
}
