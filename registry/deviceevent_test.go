package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

// gpus makes the GPUs of a host from their healths: the first has index 0 and UUID GPU-0, and an
// empty one is not listed.
func gpus(healths ...Health) Devices {
	var d Devices
	for i, h := range healths {
		if h == "" {
			continue
		}
		one := Device{UUID: fmt.Sprintf("GPU-%d", i), Index: i, Name: "NVIDIA L4",
			PCI: fmt.Sprintf("00000000:0%d:00.0", i), Health: h}
		if h != HealthOK && h != HealthUnknown {
			one.Failure = Fail(CodeDriverError, "Xid 119", "Reset it.")
		}
		d.Devices = append(d.Devices, one)
	}
	return d
}

func stale(d Devices) Devices {
	d.Stale = Fail(CodeDriverError, "pool-gpu does not answer", "systemctl status pool-gpu")
	return d
}

// nameless is a GPU that is too sick to tell its UUID.
func nameless(h Health) Devices {
	return Devices{Devices: []Device{{PCI: "00000000:a1:00.0", Health: h,
		Failure: Fail(CodeGPUUnavailable, "it does not answer", "")}}}
}

func TestDeviceEvents(t *testing.T) {
	cases := []struct {
		name  string
		steps []Devices
		want  []string // device was>is: cause
	}{
		{"each_gpu_is_found_once", []Devices{gpus(HealthOK, HealthOK), gpus(HealthOK, HealthOK)},
			[]string{"GPU-0 >healthy: it was found", "GPU-1 >healthy: it was found"}},
		{"sick_from_the_start", []Devices{gpus(HealthLost)}, []string{"GPU-0 >lost: Xid 119"}},
		{"unknown_from_the_start_is_no_news", []Devices{gpus(HealthUnknown), gpus(HealthOK)},
			[]string{"GPU-0 unknown>healthy: it was checked again and has no fault"}},
		{"falls_ill_and_recovers", []Devices{gpus(HealthOK), gpus(HealthReset), gpus(HealthReset), gpus(HealthOK)},
			[]string{"GPU-0 >healthy: it was found", "GPU-0 healthy>needs-reset: Xid 119", "GPU-0 needs-reset>healthy: it was checked again and has no fault"}},
		{"from_bad_to_worse", []Devices{gpus(HealthDegraded), gpus(HealthLost)},
			[]string{"GPU-0 >degraded: Xid 119", "GPU-0 degraded>lost: Xid 119"}},
		{"stale_facts_say_why", []Devices{gpus(HealthOK), stale(gpus(HealthUnknown))},
			[]string{"GPU-0 >healthy: it was found", "GPU-0 healthy>unknown: pool-gpu does not answer"}},
		{"a_gpu_that_is_not_listed_any_more_and_comes_back", []Devices{gpus(HealthOK, HealthOK), gpus(HealthOK), gpus(HealthOK, HealthOK)},
			[]string{"GPU-0 >healthy: it was found", "GPU-1 >healthy: it was found", "GPU-1 healthy>unknown: the driver no longer lists it", "GPU-1 >healthy: it was found"}},
		{"a_gpu_without_a_uuid_goes_by_its_place", []Devices{nameless(HealthLost), nameless(HealthLost)},
			[]string{"00000000:a1:00.0 >lost: it does not answer"}},
		{"an_index_that_changes_is_no_event", []Devices{gpus("", HealthOK), func() Devices { d := gpus("", HealthOK); d.Devices[0].Index = 0; return d }()},
			[]string{"GPU-1 >healthy: it was found"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := New()
			var observed, kept []string
			text := func(e Event) string { return fmt.Sprintf("%s %s>%s: %s", e.Device, e.Was, e.Health, e.Cause) }
			r.Observe(func(e Event, p *Pool) {
				if p != nil || !e.OfDevice() {
					t.Errorf("event %+v with pool %v", e, p)
				}
				observed = append(observed, text(e))
			})
			for _, d := range c.steps {
				r.SetDevices(d)
			}
			events, _ := r.Events(0)
			for i, e := range events {
				kept = append(kept, text(e))
				if e.Seq != uint64(i+1) || e.PoolID != "" || (e.Health == HealthOK) != (e.Failure == nil) &&
					e.Health != HealthUnknown {
					t.Errorf("event %d: %+v", i, e)
				}
			}
			if !slices.Equal(kept, c.want) || !slices.Equal(observed, kept) {
				t.Errorf("events\n%s\nwant\n%s\nobserved\n%s", strings.Join(kept, "\n"), strings.Join(c.want, "\n"),
					strings.Join(observed, "\n"))
			}
		})
	}
}

func TestLogDeviceEvents(t *testing.T) {
	var lines bytes.Buffer
	r := New()
	r.Observe(LogEvents(slog.New(slog.NewJSONHandler(&lines, nil))))
	r.SetDevices(gpus(HealthOK))
	r.SetDevices(gpus(HealthReset))
	r.SetDevices(stale(gpus(HealthUnknown)))
	want := []map[string]any{
		{"level": "INFO", "msg": "GPU 0 (NVIDIA L4, GPU-0) is healthy: it was found", "device": "GPU-0", "health": "healthy", "was": "", "last_error": nil},
		{"level": "WARN", "msg": "GPU 0 (NVIDIA L4, GPU-0) needs a reset: Xid 119", "was": "healthy", "last_error": "DRIVER_ERROR: Xid 119", "hint": "Reset it."},
		{"level": "INFO", "msg": "GPU 0 (NVIDIA L4, GPU-0) does not report: pool-gpu does not answer", "last_error": "DRIVER_ERROR: pool-gpu does not answer"},
	}
	dec := json.NewDecoder(&lines)
	for i, w := range want {
		var got map[string]any
		if err := dec.Decode(&got); err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
		for key, value := range w {
			if got[key] != value {
				t.Errorf("line %d: %s = %v, want %v", i, key, got[key], value)
			}
		}
	}
	if dec.More() {
		t.Error("more lines than events")
	}
}

func TestReasonOf(t *testing.T) {
	because := func(c Code) *Failure { return Fail(c, "", "") }
	for _, c := range []struct {
		state State
		why   *Failure
		want  Reason
	}{
		{StateReady, because(CodeGPUUnavailable), ReasonHealthy},
		{StateWaiting, because(CodeGPUUnavailable), ReasonGPU},
		{StateWaiting, because(CodeDriverError), ReasonGPU},
		{StateDraining, because(CodeDriverError), ReasonGPU},
		{StateUnhealthy, because(CodeGPUUnavailable), ReasonGPU},
		{StateBackoff, because(CodeDriverError), ReasonGPU},
		{StateWaiting, because(CodeInsufficientVRAM), ReasonMemory},
		{StateWaiting, because(CodeInsufficientRAM), ReasonMemory},
		{StateWaiting, because(CodeDeviceMaskInvalid), ReasonRefused},
		{StateWaiting, nil, ReasonRestart},
		{StateDraining, nil, ReasonDrain},
		{StateStopped, because(CodeGPUUnavailable), ReasonStop},
		{StateInvalid, because(CodeDeviceMaskInvalid), ReasonRefused},
		{StateBackoff, because(CodeEngineOOM), ReasonOOM},
		{StateBackoff, because(CodeCUDAOOM), ReasonCrash},
		{StateDraining, because(CodeEngineOOM), ReasonDrain},
	} {
		name := string(c.state)
		if c.why != nil {
			name += "_" + string(c.why.Code)
		}
		t.Run(name, func(t *testing.T) {
			if got := reasonOf(c.state, c.why); got != c.want {
				t.Errorf("reason %s, want %s", got, c.want)
			}
			if !slices.Contains(Reasons(), c.want) {
				t.Errorf("%s is not in the closed list", c.want)
			}
		})
	}
}

// TestDevicesOfAPoolPassThrough: the supervisor resolves them, and nothing follows from replicas.
func TestDevicesOfAPoolPassThrough(t *testing.T) {
	p := replicas(StateReady)
	p.Devices = []PoolDevice{{ID: "0", UUID: "GPU-0", Memory: &VRAM{Total: 1}, Health: HealthOK}}
	if got := Aggregate(p).Devices; len(got) != 1 || got[0] != p.Devices[0] {
		t.Errorf("%+v", got)
	}
}
