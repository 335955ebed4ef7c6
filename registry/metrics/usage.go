package metrics

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pool-managerd/pool-managerd/registry"
)

// Usage is the memory of a unit's cgroup. A nil field is not known.
type Usage struct {
	Cgroup      uint64   // identifies the cgroup: a new cgroup of the same name has another number
	MemoryBytes *uint64  // in use, page cache included
	Pressure    *float64 // share of the last 10 s in which a task waited for memory, 0 to 1
	OOMKills    *uint64  // processes killed in this cgroup since it was made
}

// usage collects the memory of engines from their cgroups, only at scrapes. Its only state is the
// counts of OOM kills, which a removed cgroup loses.
type usage struct {
	registry *registry.Registry
	engines  []string // the values of the label engine
	read     func(unit string) (Usage, bool)

	memory, pressure, kills, disk, onGPU, layers, omitted *prometheus.Desc

	mu     sync.Mutex
	killed map[replicaKey]*kills
}

type replicaKey struct{ pool, replica string }

// kills counts the OOM kills of one replica over its cgroups.
type kills struct {
	cgroup    uint64 // the cgroup of seen
	seen      uint64 // in that cgroup
	past      uint64 // in former cgroups, and kills that no cgroup counted
	unmatched uint64 // read from a cgroup and not yet reported as the end of an engine
}

func newUsage(r *registry.Registry, engines []string, read func(unit string) (Usage, bool)) *usage {
	of := []string{"engine", "engine_version", "pool_id", "replica_id"}
	ofModel := append(slices.Clone(of), "model") // model, or draft
	return &usage{
		registry: r, engines: engines, read: read, killed: make(map[replicaKey]*kills),
		memory: prometheus.NewDesc("engine_memory_bytes",
			"Main memory in use by the replica's engine, page cache included, in bytes.", of, nil),
		pressure: prometheus.NewDesc("engine_memory_pressure_ratio",
			"Share of the last 10 seconds in which a task of the replica's engine waited for memory, 0 to 1.", of, nil),
		kills: prometheus.NewDesc("engine_oom_kills_total",
			"Processes of the replica's engine killed by the kernel for lack of memory, since the manager started.", of,
			nil),
		disk: prometheus.NewDesc("engine_disk_bytes",
			"Disk space in use by the replica's state and cache directory, in bytes.", of, nil),
		onGPU: prometheus.NewDesc("engine_gpu_layers",
			"Layers of the model that the replica's engine has on its GPUs, as it logged.", ofModel, nil),
		layers: prometheus.NewDesc("engine_model_layers",
			"Layers of the model that the replica's engine has loaded, as it logged.", ofModel, nil),
		omitted: prometheus.NewDesc("engine_replicas_omitted",
			"Replicas without series of their engine's memory, beyond the limit of 1024.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *usage) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.memory, c.pressure, c.kills, c.disk, c.onGPU, c.layers, c.omitted} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *usage) Collect(ch chan<- prometheus.Metric) {
	s := c.registry.Snapshot()
	versions := vocabulary{limit: maxVersions} // of this scrape, so that versions of removed pools do not count
	shown, omitted := 0, 0
	known := make(map[replicaKey]bool)
	for i, p := range s.Pools {
		for j := range p.Replicas {
			r := &p.Replicas[j]
			known[replicaKey{p.ID, r.ID}] = true
			if r.Unit == "" {
				continue // an engine that is not started here
			}
			if i >= maxPools || shown == maxReplicas || !slices.Contains(c.engines, p.Engine) {
				omitted++
				continue
			}
			shown++
			labels := []string{p.Engine, versions.fold(r.EngineVersion), p.ID, r.ID}
			c.collect(ch, r.Unit, labels)
			if r.DiskBytes > 0 {
				ch <- prometheus.MustNewConstMetric(c.disk, prometheus.GaugeValue, float64(r.DiskBytes), labels...)
			}
			c.collectLayers(ch, r.GPULayers, labels)
		}
	}
	ch <- prometheus.MustNewConstMetric(c.omitted, prometheus.GaugeValue, float64(omitted))
	c.forget(known)
}

// collectLayers sends where the layers of a replica's models are. An engine has a model and at most
// one beside it that matters, a draft model.
func (c *usage) collectLayers(ch chan<- prometheus.Metric, models []registry.Layers, labels []string) {
	for i, name := range []string{"model", "draft"} {
		if i == len(models) {
			return
		}
		of := append(slices.Clone(labels), name)
		ch <- prometheus.MustNewConstMetric(c.onGPU, prometheus.GaugeValue, float64(models[i].OnGPU), of...)
		ch <- prometheus.MustNewConstMetric(c.layers, prometheus.GaugeValue, float64(models[i].Of), of...)
	}
}

// collect sends the series of one replica; labels are those of its descriptions.
func (c *usage) collect(ch chan<- prometheus.Metric, unit string, labels []string) {
	now, running := c.read(unit)
	if now.MemoryBytes != nil {
		ch <- prometheus.MustNewConstMetric(c.memory, prometheus.GaugeValue, float64(*now.MemoryBytes), labels...)
	}
	if now.Pressure != nil {
		ch <- prometheus.MustNewConstMetric(c.pressure, prometheus.GaugeValue, *now.Pressure, labels...)
	}
	if n, counted := c.count(replicaKey{labels[2], labels[3]}, now, running); counted {
		ch <- prometheus.MustNewConstMetric(c.kills, prometheus.CounterValue, float64(n), labels...)
	}
}

// count returns the OOM kills of a replica so far. A replica whose cgroup was never read has no
// count.
func (c *usage) count(of replicaKey, now Usage, running bool) (uint64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, found := c.killed[of]
	if running && now.OOMKills != nil {
		if !found {
			k = &kills{cgroup: now.Cgroup}
			c.killed[of] = k
		}
		k.follow(now)
	} else if !found {
		return 0, false
	}
	return k.past + k.seen, true
}

// follow takes in what a cgroup counts now.
func (k *kills) follow(now Usage) {
	if k.cgroup != now.Cgroup {
		k.past, k.seen, k.cgroup = k.past+k.seen, 0, now.Cgroup
	}
	if n := *now.OOMKills; n > k.seen {
		k.unmatched += n - k.seen
		k.seen = n
	}
}

// crashed is the registry's observer: an engine that the kernel killed may have taken its cgroup,
// and what that counted, with it.
func (c *usage) crashed(e registry.Event, p *registry.Pool) {
	if e.Kind != registry.KindCrash || e.Failure == nil || e.Failure.Code != registry.CodeEngineOOM || p == nil {
		return
	}
	at := slices.IndexFunc(p.Replicas, func(r registry.Replica) bool { return r.ID == e.ReplicaID })
	if at < 0 {
		return
	}
	now, running := c.read(p.Replicas[at].Unit)
	c.mu.Lock()
	defer c.mu.Unlock()
	of := replicaKey{e.PoolID, e.ReplicaID}
	k, found := c.killed[of]
	if !found {
		k = &kills{}
		c.killed[of] = k
	}
	if running && now.OOMKills != nil {
		k.follow(now)
	}
	if k.unmatched == 0 {
		k.past++ // no scrape has seen this kill, and its cgroup is gone
	}
	k.unmatched = 0
}

// forget drops the counts of replicas that are gone.
func (c *usage) forget(known map[replicaKey]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for of := range c.killed {
		if !known[of] {
			delete(c.killed, of)
		}
	}
}
