package supervise

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
)

// TestDeviceNodes: a start waits for the device nodes that it needs, and is no failure meanwhile.
func TestDeviceNodes(t *testing.T) {
	without := func(faults ...nvml.NodeFault) func(*nvml.Snapshot) {
		return func(s *nvml.Snapshot) { s.Driver.NodeFaults = faults }
	}
	missing := nvml.NodeFault{Path: nvml.MemoryNode, Missing: true}
	for name, c := range map[string]struct {
		fault      nvml.NodeFault
		says, hint string
	}{
		"unified_memory_is_loaded_late": {missing, "/dev/nvidia-uvm does not exist", "nvidia-modprobe -u -c0"},
		"a_gpu_without_its_node": {nvml.NodeFault{Path: "/dev/nvidia0", Missing: true}, "/dev/nvidia0 does not exist",
			"nvidia-modprobe -c0,"},
		"a_mode_for_root_alone": {nvml.NodeFault{Path: "/dev/nvidia0", Mode: 0o600},
			"/dev/nvidia0 has mode 0600, and engines may not open it", "chmod 0666 /dev/nvidia0"},
	} {
		scenario(t, name, func(t *testing.T, w *world) {
			h := twoGPUs()
			m := w.manage(t, pools(onGPU("a", "0"), onGPU("b", "1")), withGPUs(h))
			h.tell(without(c.fault))
			h.tellFor(50 * time.Second)
			m.wantState("a", registry.StateWaiting, false)
			m.wantCode("a", registry.CodeGPUUnavailable)
			p := m.pool("a")
			if !strings.Contains(p.LastError.Message, c.says) || !strings.Contains(p.LastError.Hint, c.hint) {
				t.Errorf("%s (%s)", p.LastError.Message, p.LastError.Hint)
			}
			if shared := c.fault == missing; shared != (m.pool("b").State == registry.StateWaiting) {
				t.Errorf("the pool on the other GPU is %s", m.pool("b").State)
			}
			h.tell(without())
			m.wantState("a", registry.StateStarting, false)
			w.passGate(unitOf("a"))
			m.wantState("a", registry.StateReady, true)
			if p := m.pool("a"); p.RestartCount != 0 || p.LastError != nil || p.Breaker != "closed" {
				t.Errorf("restarts %d, breaker %s, error %v", p.RestartCount, p.Breaker, p.LastError)
			}
		})
	}
	failures := func(m *manager) (n int) {
		m.s.post(func() {
			for _, r := range m.s.entries["a"].replicas {
				n += r.past.State.Failures
			}
		})
		synctest.Wait()
		return n
	}
	refused := func(st *systemd.Status) {
		ends("exit-code", 0, 0)(st)
		st.WasActive, st.MainRan, st.PreCode, st.PreStatus = false, 0, cldExited, exit.NoNode
	}
	scenario(t, "nor_is_it_a_failure_at_pid_1s_start_limit", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := onReadyGPU(t, w, h)
		w.change(unitOf("a"), func(st *systemd.Status) { refused(st); atLimit(st) })
		h.tell(without(missing))
		h.tellFor(50 * time.Second)
		m.wantState("a", registry.StateWaiting, false)
		h.tell(without())
		m.wantState("a", registry.StateStarting, false)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		if p := m.pool("a"); p.Breaker != "closed" || failures(m) != 0 {
			t.Errorf("breaker %s, %d failures", p.Breaker, failures(m))
		}
	})
	scenario(t, "a_restart_of_pid_1_without_the_node_is_a_wait", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := onReadyGPU(t, w, h)
		w.change(unitOf("a"), refused)
		h.tell(without(missing))
		h.tellFor(50 * time.Second)
		m.wantState("a", registry.StateWaiting, false)
		m.wantCode("a", registry.CodeGPUUnavailable)
		starts := w.called("start")
		h.tell(without())
		m.wantState("a", registry.StateStarting, false)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		if p := m.pool("a"); w.called("start") != starts+1 || p.Breaker != "closed" || failures(m) != 0 {
			t.Errorf("calls %v, breaker %s, %d failures", w.calls, p.Breaker, failures(m))
		}
	})
	scenario(t, "no_breaker_opens_where_no_one_reports_the_node", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := onReadyGPU(t, w, h)
		for range 20 {
			w.change(unitOf("a"), refused)
			time.Sleep(time.Minute)
			m.wantState("a", registry.StateStarting, false)
		}
		if p := m.pool("a"); p.Breaker != "closed" || failures(m) != 0 {
			t.Errorf("breaker %s, %d failures", p.Breaker, failures(m))
		}
	})
	scenario(t, "what_runs_goes_on_without", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := onReadyGPU(t, w, h)
		h.tell(without(missing))
		h.tellFor(time.Minute)
		m.wantState("a", registry.StateReady, true)
		if w.called("stop") != 0 {
			t.Errorf("stopped: %v", w.calls)
		}
	})
}
