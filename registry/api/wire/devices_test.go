package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// encoded returns v as a program gets it.
func encoded(t *testing.T, v any) string {
	t.Helper()
	body, err := Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(body))
}

// TestDevicesOf: what is not known is absent, and a list that is empty is a list.
func TestDevicesOf(t *testing.T) {
	taken := registrytest.Start()
	now := taken.Add(90 * time.Second)
	hung := registry.Fail(registry.CodeGPUUnavailable, "nvmlInit_v2 hangs", "Restart the host.")
	one := func(d registry.Device) registry.Devices {
		return registry.Devices{Taken: taken.Add(90 * time.Second), Devices: []registry.Device{d}}
	}
	off := false
	for _, c := range []struct {
		name string
		in   registry.Devices
		want string
	}{
		{"nothing_known", registry.Devices{}, `{"driver":{},"devices":[]}`},
		{"no_driver", registry.Devices{Taken: taken, Driver: registry.Driver{Problem: "no-library", Failure: registry.Fail(registry.CodeGPUUnavailable, "none", "")}},
			`{"driver":{"problem":"no-library","last_error":"GPU_UNAVAILABLE: none"},"taken_ms":1700000000000,"devices":[]}`},
		{"stale", registry.Devices{Taken: taken, Stale: hung},
			`{"driver":{},"taken_ms":1700000000000,"stale":{"age_ms":90000,"last_error":"GPU_UNAVAILABLE: nvmlInit_v2 hangs","hint":"Restart the host."},"devices":[]}`},
		{"stale_before_there_were_facts", registry.Devices{Stale: hung},
			`{"driver":{},"stale":{"last_error":"GPU_UNAVAILABLE: nvmlInit_v2 hangs","hint":"Restart the host."},"devices":[]}`},
		{"stale_by_a_clock_that_is_ahead", registry.Devices{Taken: now.Add(time.Hour), Stale: hung},
			`{"driver":{},"taken_ms":1700003690000,"stale":{"age_ms":0,"last_error":"GPU_UNAVAILABLE: nvmlInit_v2 hangs","hint":"Restart the host."},"devices":[]}`},
		{"too_old_to_say_that_a_gpu_is_healthy", registry.Devices{Taken: taken, Stale: hung, Devices: []registry.Device{{UUID: "GPU-0", Health: registry.HealthOK}}},
			`{"driver":{},"taken_ms":1700000000000,"stale":{"age_ms":90000,"last_error":"GPU_UNAVAILABLE: nvmlInit_v2 hangs","hint":"Restart the host."},` +
				`"devices":[{"uuid":"GPU-0","index":0,"processes":[],"health":"unknown","since_ms":1700000000000,"pools":[]}]}`},
		{"a_gpu_that_tells_nothing", one(registry.Device{Index: 3, PCI: "00000000:a1:00.0"}),
			`{"driver":{},"taken_ms":1700000090000,"devices":[{"index":3,"pci":"00000000:a1:00.0","processes":[],"health":"unknown","pools":[]}]}`},
		{"zeros_that_are_known", one(registry.Device{UUID: "GPU-0", Health: registry.HealthOK, Memory: &registry.VRAM{Total: 1}, UtilizationPct: new(int),
			PowerState: new(int), Minor: new(int), ECC: &registry.ECC{Uncorrectable: new(uint64)}}),
			`{"driver":{},"taken_ms":1700000090000,"devices":[{"uuid":"GPU-0","index":0,"minor":0,"vram_total_bytes":1,"vram_free_bytes":0,"vram_used_bytes":0,"utilization_percent":0,` +
				`"power_state":0,"ecc":{"enabled":false,"uncorrectable":0},"processes":[],"health":"healthy","pools":[]}]}`},
		{"mig_mode_off_has_no_partitions", one(registry.Device{UUID: "GPU-0", Health: registry.HealthOK, MIG: &off}),
			`{"driver":{},"taken_ms":1700000090000,"devices":[{"uuid":"GPU-0","index":0,"mig":false,"partitions":[],"processes":[],"health":"healthy","pools":[]}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := encoded(t, DevicesOf(&c.in, now)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestEveryFactOfADeviceIsServed: whatever the registry learns to know of a GPU, the answer has.
func TestEveryFactOfADeviceIsServed(t *testing.T) {
	facts := registrytest.Devices()
	var body struct{ Devices []map[string]any }
	if err := json.Unmarshal([]byte(encoded(t, DevicesOf(&facts, facts.Taken))), &body); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, d := range body.Devices {
		for name := range d {
			seen[name] = true
		}
	}
	for _, name := range []string{"uuid", "index", "pci", "minor", "name", "compute_capability", "vram_total_bytes", "vram_free_bytes", "vram_used_bytes",
		"vram_reserved_bytes", "utilization_percent", "temperature_celsius", "power_state", "power_milliwatts", "ecc", "row_remap", "recovery_action", "mig",
		"partitions", "processes", "health", "since_ms", "last_error", "hint", "pools"} {
		if !seen[name] {
			t.Errorf("%s is served of no GPU", name)
		}
	}
}

// TestCapacity: what placement reads of a pool's GPUs is true of all of them, or not said.
func TestCapacity(t *testing.T) {
	gpu := func(change ...func(*registry.PoolDevice)) registry.PoolDevice {
		d := registry.PoolDevice{ID: "0", UUID: "GPU-0", ComputeCapability: "8.6",
			Memory: &registry.VRAM{Total: 10, Free: 4}, Health: registry.HealthOK}
		for _, c := range change {
			c(&d)
		}
		return d
	}
	health := func(h registry.Health) func(*registry.PoolDevice) {
		return func(d *registry.PoolDevice) { d.Health = h }
	}
	compute := func(c string) func(*registry.PoolDevice) {
		return func(d *registry.PoolDevice) { d.ComputeCapability = c }
	}
	noMemory := func(d *registry.PoolDevice) { d.Memory = nil }
	const total, free, capability = `"vram_total_bytes"`, `"vram_free_bytes"`, `"compute_capability"`
	for _, c := range []struct {
		name    string
		devices []registry.PoolDevice
		want    []string
		absent  []string
	}{
		{"no_gpu", nil, nil, []string{total, free, capability}},
		{"one", []registry.PoolDevice{gpu()}, []string{total + ":10", free + ":4", capability + `:"8.6"`}, nil},
		{"two", []registry.PoolDevice{gpu(), gpu(compute("10.0"))}, []string{total + ":20", free + ":8", capability + `:"8.6"`}, nil},
		{"the_lowest_comes_last", []registry.PoolDevice{gpu(compute("10.0")), gpu(compute("9.0"))}, []string{capability + `:"9.0"`}, nil},
		{"lower_by_the_minor", []registry.PoolDevice{gpu(compute("8.9")), gpu(compute("8.6"))}, []string{capability + `:"8.6"`}, nil},
		{"one_of_two_is_not_known", []registry.PoolDevice{gpu(), gpu(noMemory, compute(""))}, nil, []string{total, free, capability}},
		{"the_first_of_two_is_not_known", []registry.PoolDevice{gpu(noMemory, compute("")), gpu()}, nil, []string{total, free, capability}},
		{"one_of_two_is_lost", []registry.PoolDevice{gpu(), gpu(health(registry.HealthLost))}, []string{total + ":20"}, []string{free}},
		{"facts_are_stale", []registry.PoolDevice{gpu(health(registry.HealthUnknown))}, []string{total + ":10", capability + `:"8.6"`}, []string{free}},
		{"it_is_degraded_and_its_facts_are_old", []registry.PoolDevice{gpu(health(registry.HealthDegraded), func(d *registry.PoolDevice) { d.Old = true })}, []string{total + ":10"}, []string{free}},
		{"it_needs_a_reset_and_answers", []registry.PoolDevice{gpu(health(registry.HealthReset))}, []string{total + ":10", free + ":4"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := encoded(t, HealthOf(&registry.Pool{ID: "p", Devices: c.devices}))
			for _, part := range c.want {
				if !strings.Contains(got, part+",") {
					t.Errorf("no %s in %s", part, got)
				}
			}
			for _, part := range c.absent {
				if strings.Contains(got, part) {
					t.Errorf("%s in %s", part, got)
				}
			}
		})
	}
}

// TestAnswersDoNotChangeTheRegistry: what is encoded is shared by all readers.
func TestAnswersDoNotChangeTheRegistry(t *testing.T) {
	facts := registrytest.Devices()
	before := encoded(t, DevicesOf(&facts, facts.Taken))
	p := registrytest.OnGPUs([]registry.Pool{registrytest.Gemma()})[0]
	_ = HealthOf(&p)
	_ = HealthOf(&p) // a sum that was written into the registry would grow
	if after := encoded(t, DevicesOf(&facts, facts.Taken)); after != before {
		t.Error("encoding the facts changed them")
	}
	if m, want := p.Devices[0].Memory, registrytest.Devices().Devices[0].Memory; m.Total != want.Total ||
		m.Free != want.Free {
		t.Errorf("memory of a pool's device changed: %+v, was %+v", *m, *want)
	}
}
