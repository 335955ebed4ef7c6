package metrics

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
	"github.com/pool-managerd/pool-managerd/test/golden"
)

// onGPUs is a host with GPUs and three pools on them, scraped so long after its facts were read.
func onGPUs(age time.Duration) (*registry.Registry, *Metrics) {
	reg := registry.New()
	facts := registrytest.Devices()
	m := New(Options{Registry: reg, Version: "1.2.3", Engines: []string{"llamacpp", "vllm"},
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return facts.Taken.Add(age) }, Usage: sameUsage,
		Open: func() (requests, streams int) { return 3, 1 }, Lost: func() uint64 { return 1 },
		InProgress: func() int { return 5 }, Fleet: func() (Fleet, bool) {
			return Fleet{Up: true, Places: []Place{{To: "etcd", Published: true, Since: 1.7e9, Last: 1.8e9, Failures: 1,
				Writes: 7}}, Read: &Read{Good: true, Hosts: 3, Pools: 20}}, true
		}})
	for _, p := range registrytest.OnGPUs([]registry.Pool{registrytest.Gemma(), registrytest.Llama()}) {
		p.Replicas[0].DiskBytes = 5 << 20
		p.Replicas[0].GPULayers = []registry.Layers{{OnGPU: 10, Of: 33}, {OnGPU: 17, Of: 17}}
		reg.Put(p)
	}
	reg.SetDevices(facts)
	return reg, m
}

var ofGPUs = regexp.MustCompile(`^(# (HELP|TYPE) )?(gpu_|vram_|driver_reset_)`)

// gpuLines are the lines of a scrape that are about GPUs.
func gpuLines(t *testing.T, m *Metrics) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(scrape(t, m)) {
		if ofGPUs.MatchString(line) {
			out.WriteString(line)
		}
	}
	return out.String()
}

// samples returns the names of the series that a scrape has, each once.
func samples(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		if name, _, ok := strings.Cut(line, "{"); ok && !strings.HasPrefix(line, "#") && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func TestGoldenScrapeOfGPUs(t *testing.T) {
	_, m := onGPUs(1500 * time.Millisecond)
	m.DriverReset(registrytest.Degraded, "xid")
	m.DriverReset(registrytest.Degraded, "xid")
	m.DriverReset(registrytest.Lost, "lost")
	golden.File(t, filepath.Join("testdata", "scrape-gpus.golden"), gpuLines(t, m), *update)
}

// TestFactsThatMayBeWrongHaveNoSeries: what does not change stays, what changes from moment to
// moment goes.
func TestFactsThatMayBeWrongHaveNoSeries(t *testing.T) {
	lasting := []string{"gpu_health", "vram_total_bytes"}
	all := []string{"gpu_health", "gpu_utilization", "vram_free_bytes", "vram_total_bytes", "vram_used_bytes"}
	unwell := func(h registry.Health) func(*registry.Devices) {
		return func(d *registry.Devices) {
			for i := range d.Devices {
				d.Devices[i].Health = h
			}
		}
	}
	for _, c := range []struct {
		name   string
		age    time.Duration
		change func(*registry.Devices)
		want   []string
	}{
		{"fresh", 0, nil, all},
		{"from_a_clock_that_is_ahead", -time.Minute, nil, all},
		{"as_old_as_they_may_be", registry.MaxFactsAge, nil, all},
		{"older", registry.MaxFactsAge + time.Millisecond, nil, lasting},
		{"of_devices_that_do_not_answer", 0, unwell(registry.HealthLost), lasting},
		{"of_devices_of_which_nothing_is_known_now", 0, unwell(registry.HealthUnknown), lasting},
		{"of_devices_that_need_a_reset_and_answer", 0, unwell(registry.HealthReset), all},
		{"of_a_driver_that_tells_nothing", 0, func(d *registry.Devices) { d.Devices = nil }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg, m := onGPUs(c.age)
			d := registrytest.Devices()
			if c.change != nil {
				c.change(&d)
			}
			reg.SetDevices(d)
			got := gpuLines(t, m)
			if names := samples(got); !slices.Equal(names, c.want) {
				t.Errorf("series of %v, want %v", names, c.want)
			}
			if want := fmt.Sprintf("\ngpu_facts_age_seconds %g\n", max(0, c.age).Seconds()); !strings.Contains(got,
				want) {
				t.Errorf("no %q in\n%s", want, got)
			}
			if old := c.age > registry.MaxFactsAge; c.change == nil &&
				strings.Contains(got, `gpu_health{device="`+registrytest.Ampere+`",health="unknown"} 1`) != old {
				t.Errorf("health of a GPU with facts that are %s old:\n%s", c.age, got)
			}
		})
	}
	t.Run("there_never_were_any", func(t *testing.T) {
		if got := gpuLines(t, newMetrics(registry.New())); strings.Contains(got, "gpu_facts_age") {
			t.Errorf("an age of nothing:\n%s", got)
		}
	})
}

// TestUsedMemory: 0 is said only where it is known.
func TestUsedMemory(t *testing.T) {
	held := func(pool string, used *uint64) registry.GPUProcess {
		return registry.GPUProcess{PID: 7, Pool: pool, Replica: "r0", Used: used}
	}
	three, four := uint64(3), uint64(4)
	for _, c := range []struct {
		name      string
		pid       int
		processes []registry.GPUProcess
		want      string // the sample's value, "" for no series
	}{
		{"of_one_process", 7, []registry.GPUProcess{held("gemma", &three), held("other", &four)}, "3"},
		{"of_several_processes", 7, []registry.GPUProcess{held("gemma", &three), held("gemma", &four)}, "7"},
		{"of_a_driver_that_does_not_tell", 7, []registry.GPUProcess{held("gemma", &three), held("gemma", nil)}, ""},
		{"while_the_engine_holds_none_yet", 7, nil, ""},
		{"of_a_replica_that_does_not_run", 0, []registry.GPUProcess{held("other", &four)}, "0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg, m := onGPUs(0)
			p := registrytest.OnGPUs([]registry.Pool{registrytest.Gemma()})[0]
			p.Replicas[0].PID = c.pid
			reg.Put(p)
			d := registrytest.Devices()
			d.Devices[0].Processes = c.processes
			reg.SetDevices(d)
			_, rest, found := strings.Cut(gpuLines(t, m), `vram_used_bytes{device="`+registrytest.Ampere+
				`",engine="llamacpp",engine_version="b5000",pool_id="gemma",replica_id="r0"} `)
			value, _, _ := strings.Cut(rest, "\n")
			if found != (c.want != "") || value != c.want && found {
				t.Errorf("vram_used_bytes of gemma is %q, want %q", value, c.want)
			}
		})
	}
}

// TestMemoryOutsideTheMaskIsSeen: an engine that holds memory of a GPU that it was not given must
// not be hidden.
func TestMemoryOutsideTheMaskIsSeen(t *testing.T) {
	reg, m := onGPUs(0)
	d := registrytest.Devices()
	used := uint64(5)
	d.Devices[1].Processes = []registry.GPUProcess{{PID: 4711, Pool: "gemma", Replica: "r0", Used: &used}}
	reg.SetDevices(d)
	if want := `vram_used_bytes{device="` + registrytest.Degraded +
		`",engine="llamacpp",engine_version="b5000",pool_id="gemma",replica_id="r0"} 5`; !strings.Contains(gpuLines(t,
		m), want) {
		t.Errorf("no %s", want)
	}
}

func TestSeriesOfGPUsGoWithTheirPool(t *testing.T) {
	reg, m := onGPUs(0)
	reg.Remove("qwen")
	got := gpuLines(t, m)
	if strings.Contains(got, `pool_id="qwen"`) || !strings.Contains(got, `pool_id="gemma"`) {
		t.Errorf("series after qwen was removed:\n%s", got)
	}
	reg.SetDevices(registry.Devices{Taken: registrytest.Devices().Taken})
	if got := gpuLines(t, m); len(samples(got)) > 0 {
		t.Errorf("series of GPUs that are not there:\n%s", got)
	}
}

// TestSickDevicesBreakNoScrape: two GPUs without a UUID, or the same one twice, are no error of the
// exposition.
func TestSickDevicesBreakNoScrape(t *testing.T) {
	reg, m := onGPUs(0)
	d := registrytest.Devices()
	d.Devices = append(d.Devices, d.Devices[0], registry.Device{PCI: "00000000:c1:00.0", Index: 5},
		registry.Device{Index: 6}, registry.Device{Index: 7},
		registry.Device{UUID: "GPU-\xff", Index: 8, Health: registry.HealthOK})
	reg.SetDevices(d)
	got := gpuLines(t, m)
	for _, want := range []string{`gpu_health{device="00000000:c1:00.0",health="unknown"} 1`,
		`gpu_health{device="GPU-?",health="healthy"} 1`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func TestCardinalityOfGPUs(t *testing.T) {
	reg, m := onGPUs(0)
	for i := range 200 {
		p := registrytest.OnGPUs([]registry.Pool{registrytest.Gemma()})[0]
		p.ID = fmt.Sprintf("pool-%03d", i)
		p.Replicas = nil
		for n := range 8 {
			r := registrytest.Gemma().Replicas[0]
			r.ID, r.EngineVersion, r.PID = fmt.Sprintf("r%d", n), fmt.Sprintf("b%d", i), 0
			p.Replicas = append(p.Replicas, r)
		}
		reg.Put(p)
	}
	unknown := registrytest.OnGPUs([]registry.Pool{registrytest.Gemma()})[0]
	unknown.ID, unknown.Engine = "a-later-version's", "sglang"
	reg.Put(unknown)
	got := gpuLines(t, m)
	// llama3-8b would be on two
	if n := strings.Count(got, "\ngpu_utilization{"); n < maxReplicas || n > maxReplicas+1 {
		t.Errorf("%d series of gpu_utilization, want about %d", n, maxReplicas)
	}
	versions := regexp.MustCompile(`engine_version="([^"]*)"`)
	seen := make(map[string]bool)
	for _, match := range versions.FindAllStringSubmatch(got, -1) {
		seen[match[1]] = true
	}
	if len(seen) > maxVersions || !seen["other"] {
		t.Errorf("%d versions, budget %d", len(seen), maxVersions)
	}
	if strings.Contains(got, "sglang") || strings.Contains(got, "gpu_replicas_omitted 0\n") {
		t.Error("an engine beyond the limit has series, or the omitted ones are not counted")
	}
	for i := range 1000 {
		m.DriverReset(fmt.Sprintf("GPU-%d", i), fmt.Sprintf("kind-%d", i))
	}
	if n := strings.Count(gpuLines(t, m), "\ndriver_reset_events_total{"); n > maxDevices+maxReasons {
		t.Errorf("%d series of driver_reset_events_total", n)
	}
}

// TestAMaskAsWritten: a replica's mask may still be as in the pool file, and not yet UUIDs.
func TestAMaskAsWritten(t *testing.T) {
	reg, m := onGPUs(0)
	p := registrytest.OnGPUs([]registry.Pool{registrytest.Gemma()})[0]
	p.Replicas[0].DeviceMask = []string{"0"}
	reg.Put(p)
	if got := gpuLines(t, m); !strings.Contains(got, `gpu_utilization{device="`+registrytest.Ampere+
		`",engine="llamacpp",engine_version="b5000",pool_id="gemma"`) {
		t.Errorf("no series:\n%s", got)
	}
}
