package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// TestGoldenDevices shows a host with GPUs as a person sees it.
func TestGoldenDevices(t *testing.T) {
	h := newHost(t)
	h.fillGPUs()
	for _, c := range []struct{ name, line string }{
		{"devices", "devices"},
		{"devices-wide", "devices -o wide"},
		{"devices-processes", "devices --processes"},
		{"devices-json", "devices --json"},
		{"status-gpu", "status gemma"},
		{"status-gpus", "status llama3-8b"},
		{"status-partition", "status qwen"},
	} {
		t.Run(c.name, func(t *testing.T) { h.golden(t, c.name, c.line) })
	}
}

// TestGoldenDevicesInTrouble shows the output when data is missing.
func TestGoldenDevicesInTrouble(t *testing.T) {
	silent := registry.Fail(registry.CodeDriverError, "pool-gpu does not answer since nvmlDeviceGetMemoryInfo_v2 hangs",
		"journalctl -u pool-gpu -k; if the driver hangs, restart the host. Engines go on meanwhile.")
	absent := registry.Fail(registry.CodeGPUUnavailable, "no NVIDIA driver library can be loaded",
		"Install the NVIDIA driver, or set require_gpu = false for CPU pools.")
	for _, c := range []struct {
		name   string
		change func(*registry.Devices)
	}{
		{"devices-stale", func(d *registry.Devices) { d.Taken, d.Stale = clock.Add(-12*time.Minute), silent }},
		{"devices-no-driver", func(d *registry.Devices) {
			*d = registry.Devices{Taken: d.Taken, Driver: registry.Driver{Problem: "no-library", Failure: absent}}
		}},
		{"devices-mismatch", func(d *registry.Devices) {
			*d = registry.Devices{Taken: d.Taken, Driver: registry.Driver{Library: "12.570.124.06", Problem: "mismatch",
				Failure: registry.Fail(registry.CodeDriverError,
					"the library is of another version than the kernel module",
					"Restart the host, or unload and load the module.")}}
		}},
		{"devices-driver-silent", func(d *registry.Devices) {
			*d = registry.Devices{Taken: d.Taken,
				Driver: registry.Driver{Failure: registry.Fail(registry.CodeGPUUnavailable, "nvmlInit_v2 is refused",
					"")}}
		}},
		{"devices-none", func(d *registry.Devices) { d.Devices = nil }},
		{"devices-nothing-known", func(d *registry.Devices) { *d = registry.Devices{} }},
		{"devices-never-answered", func(d *registry.Devices) { *d = registry.Devices{Stale: silent} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			d := registrytest.Devices()
			c.change(&d)
			h.reg.SetDevices(d)
			h.golden(t, c.name, "devices")
		})
	}
}

func TestNoProcesses(t *testing.T) {
	h := newHost(t)
	d := registrytest.Devices()
	d.Devices = d.Devices[3:]
	h.reg.SetDevices(d)
	if r := h.run("devices", "-p"); r.code != exitOK || !strings.Contains(r.out, "No process holds memory of a GPU.") {
		t.Errorf("%d %s%s", r.code, r.out, r.errOut)
	}
}

// TestDevicesInJSONAreTheAnswer: nothing is added, dropped or made null on the way.
func TestDevicesInJSONAreTheAnswer(t *testing.T) {
	h := newHost(t)
	h.fillGPUs()
	r := h.run("devices", "-o", "json")
	var list wire.DeviceList
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || len(list.Devices) != 4 || list.Driver.Version == "" {
		t.Errorf("%v: %s", err, r.out)
	}
	if strings.Contains(r.out, "null") || strings.Count(r.out, "\n") != 1 {
		t.Errorf("%s", r.out)
	}
}

func TestWatchDevices(t *testing.T) {
	h := newHost(t)
	d := registrytest.Devices()
	h.reg.SetDevices(d)
	w := watch(t, false, "devices", "--watch", "--socket", h.socket)
	w.until("# ", 1)
	for n := range 20 { // readings are no change
		d.Devices = slices.Clone(d.Devices)
		d.Devices[0].UtilizationPct, d.Devices[0].TemperatureC, d.Taken = &n, &n, d.Taken.Add(time.Second)
		h.reg.SetDevices(d)
		time.Sleep(time.Millisecond)
	}
	d.Devices = slices.Clone(d.Devices)
	d.Devices[0].Health = registry.HealthReset
	h.reg.SetDevices(d)
	w.until("needs-reset", 1)
	if got := w.end(); strings.Count(got, "# 2023-11-14T22:14:20Z\n") != 2 {
		t.Errorf("two states were printed otherwise than twice:\n%s", got)
	}
}

func TestShortUUIDs(t *testing.T) {
	device := func(uuid string, partitions ...string) wire.GPUDevice {
		d := wire.GPUDevice{UUID: uuid}
		for _, p := range partitions {
			d.Partitions = append(d.Partitions, wire.MIGPartition{UUID: p})
		}
		return d
	}
	list := []wire.GPUDevice{
		device("GPU-00000000-1111-4222-8333-444444444444", "MIG-00000000-1111-4222-8333-444444444444"),
		device("GPU-5a7d1c02-9e4b-4f60-8c13-0d2a7b61e9f4"),
		device("GPU-5a7d1c02-11aa-4c0e-b7d9-6f5e3a2c8b10"),
		device("GPU-77777777-9e4b-4f60-8c13-0d2a7b61e9f4"), device("GPU-77777777-9e4b-4f60-8c13-0d2a7b61e9f5"),
		device("GPU-x"), device(""),
	}
	short := shortUUIDs(list)
	for _, c := range []struct{ name, uuid, pci, want string }{
		{"eight_digits", list[0].UUID, "", "GPU-00000000"},
		{"a_partition_by_its_own", list[0].Partitions[0].UUID, "", "MIG-00000000"},
		{"more_where_two_begin_alike", list[1].UUID, "", "GPU-5a7d1c02-9"},
		{"the_other_of_them", list[2].UUID, "", "GPU-5a7d1c02-1"},
		{"whole_where_only_the_last_digit_differs", list[3].UUID, "", list[3].UUID},
		{"one_that_is_short", "GPU-x", "", "GPU-x"},
		{"none_has_its_place", "", "00000000:a1:00.0", "0000:a1:00.0"},
		{"a_wide_domain_stays", "", "00010000:a1:00.0", "00010000:a1:00.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := short(c.uuid, c.pci); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
