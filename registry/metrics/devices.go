package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pool-managerd/pool-managerd/registry"
)

// maxReplicas is the limit of the label replica_id: replicas beyond it have no series of a GPU.
const maxReplicas = 1024

// maxVersions is the limit of the label engine_version.
const maxVersions = 64

// maxDevices bounds the label device: more than a host can hold, of GPUs with seven partitions
// each.
const maxDevices = 256

// devices collects the GPUs' current values from a snapshot of the registry at each scrape. It
// keeps no state, so neither a removed pool nor a removed GPU has a series.
type devices struct {
	registry *registry.Registry
	engines  []string // the values of the label engine
	now      func() time.Time

	utilization, used *prometheus.Desc // of each replica on each of its devices
	total, free       *prometheus.Desc // of each device that an engine can be given
	health, age       *prometheus.Desc
	omitted           *prometheus.Desc
}

func newDevices(r *registry.Registry, engines []string, now func() time.Time) *devices {
	of := []string{"engine", "engine_version", "pool_id", "replica_id", "device"}
	return &devices{
		registry: r, engines: engines, now: now,
		utilization: prometheus.NewDesc("gpu_utilization",
			"Utilization of a device that the replica may use, by all processes, in percent. Absent if the driver "+
				"does not report it, as for MIG partitions.", of, nil),
		used: prometheus.NewDesc("vram_used_bytes",
			"Device memory in use by the replica's processes, in bytes. Absent if the driver does not report it.", of,
			nil),
		total: prometheus.NewDesc("vram_total_bytes",
			"Total memory of a GPU, or of each partition of a GPU in MIG mode, in bytes.", []string{"device"}, nil),
		free: prometheus.NewDesc("vram_free_bytes",
			"Free memory of a GPU, or of each partition of a GPU in MIG mode, in bytes.", []string{"device"}, nil),
		health: prometheus.NewDesc("gpu_health", "Health of the GPU: 1 for its current health, 0 for the others.",
			[]string{"device", "health"}, nil),
		age: prometheus.NewDesc("gpu_facts_age_seconds",
			"Age of the facts about GPUs, in seconds. Absent if none were ever read.", nil, nil),
		omitted: prometheus.NewDesc("gpu_replicas_omitted",
			"Replicas without series of their GPUs, beyond the limit of 1024.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *devices) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.utilization, c.used, c.total, c.free, c.health, c.age, c.omitted} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *devices) Collect(ch chan<- prometheus.Metric) {
	s := c.registry.Snapshot()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	now := c.now()
	if !s.Devices.Taken.IsZero() {
		gauge(c.age, max(0, now.Sub(s.Devices.Taken)).Seconds())
	}
	fresh := !s.Devices.Old(now) // a gap in the series shows that the figures are unknown
	facts := s.Devices.At(now)
	all := seriesOf(facts.Devices)
	for _, g := range all {
		if g.memory != nil {
			gauge(c.total, float64(g.memory.Total), g.label)
			if fresh && g.health.Answers() {
				gauge(c.free, float64(g.memory.Free), g.label)
			}
		}
	}
	c.collectHealth(facts.Devices, gauge)
	c.collectReplicas(s, all, fresh, gauge)
}

// collectHealth gives each physical GPU a series for each health, as an OpenMetrics StateSet: a
// change is then a change of values, and no series of an alert vanishes.
func (c *devices) collectHealth(list []registry.Device, gauge func(*prometheus.Desc, float64, ...string)) {
	seen := make(map[string]bool)
	for i := range list {
		label := deviceLabel(list[i].UUID, list[i].PCI)
		if label == "" || seen[label] {
			continue
		}
		seen[label] = true
		for _, h := range registry.Healths() {
			is := list[i].Health == h || list[i].Health == "" && h == registry.HealthUnknown
			gauge(c.health, truth(is), label, string(h))
		}
	}
}

// deviceSeries is a device that an engine can be given: a GPU, or a partition of one in MIG mode.
type deviceSeries struct {
	label       string
	health      registry.Health // of the GPU
	memory      *registry.VRAM
	utilization *int // percent
	processes   []registry.GPUProcess
}

// seriesOf lists the devices that an engine can be given, each once. A GPU in MIG mode is not among
// them, but its partitions are, so that sums over devices count no memory twice.
func seriesOf(list []registry.Device) []deviceSeries {
	var out []deviceSeries
	seen := make(map[string]bool)
	add := func(d deviceSeries) {
		if d.label != "" && !seen[d.label] && len(out) < maxDevices {
			seen[d.label] = true
			out = append(out, d)
		}
	}
	for i := range list {
		d := &list[i]
		if d.MIG == nil || !*d.MIG {
			add(deviceSeries{deviceLabel(d.UUID, d.PCI), d.Health, d.Memory, d.UtilizationPct, d.Processes})
			continue
		}
		for _, p := range d.Partitions {
			add(deviceSeries{label: deviceLabel(p.UUID, ""), health: d.Health, memory: p.Memory,
				processes: p.Processes})
		}
	}
	return out
}

// deviceLabel is the UUID, or the PCI bus id of a GPU that does not report one.
func deviceLabel(uuid, pci string) string {
	if uuid == "" {
		uuid = pci
	}
	return strings.ToValidUTF8(uuid, "?")
}
