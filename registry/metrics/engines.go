package metrics

import (
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/pool-managerd/pool-managerd/registry"
)

// anyPriority is the value of the label priority, which the metrics contract asks for: no engine
// counts by the priority of its requests.
const anyPriority = "any"

// engines collects what engines report of their work. A scrape asks no engine: it shows what was
// read with health probes. What was counted goes with its replica, and starts again from 0 with
// another version of the engine.
type engines struct {
	registry *registry.Registry
	kinds    []string // the values of the label engine

	tokensIn, tokensOut, inProgress, held, cache *prometheus.Desc // of a replica
	queue                                        *prometheus.Desc // of a pool
	firstToken, decode                           latencyDesc
	omitted                                      *prometheus.Desc
	otel                                         *otelNames // nil: not asked for

	mu      sync.Mutex
	workers map[replicaKey]*worked
	pools   map[poolVersion]*latencies
}

type poolVersion struct{ pool, version string }

// worked is what a replica's engine has counted; nil: it does not count it.
type worked struct {
	version string
	in, out *uint64
}

// latencies are those of a pool's engines of one version; nil: they do not measure it.
type latencies struct{ firstToken, decode *registry.Latency }

// latencyDesc is a histogram with the upper bounds of its buckets, in milliseconds.
type latencyDesc struct {
	*prometheus.Desc
	bounds []float64
}

func newEngines(r *registry.Registry, kinds []string) *engines {
	worker := []string{"engine", "engine_version", "pool_id", "replica_id"}
	pool := []string{"engine", "engine_version", "pool_id", "priority"}
	return &engines{
		registry: r, kinds: kinds,
		workers: make(map[replicaKey]*worked), pools: make(map[poolVersion]*latencies),
		tokensIn: prometheus.NewDesc("tokens_in_total",
			"Tokens of prompts that the replica's engine processed, by its own counter.", worker, nil),
		tokensOut: prometheus.NewDesc("tokens_out_total",
			"Tokens that the replica's engine generated, by its own counter.", worker, nil),
		inProgress: prometheus.NewDesc("requests_in_progress",
			"Requests that the replica's engine works on, by its own count.", worker, nil),
		held: prometheus.NewDesc("tokens_in_flight",
			"Tokens of the requests in progress that the replica's engine keeps.", worker, nil),
		cache: prometheus.NewDesc("kv_cache_usage_ratio",
			"Share of the KV cache of the replica's engine that requests in progress use, 0 to 1.", worker, nil),
		queue: prometheus.NewDesc("queue_depth",
			"Requests that wait inside the ready engines of the pool, by their own counts.", pool, nil),
		firstToken: latencyDesc{prometheus.NewDesc("latency_first_token_ms",
			"Time until the first token of a request, as the engines of the pool measure it, in milliseconds.", pool,
			nil), []float64{50, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000}},
		decode: latencyDesc{prometheus.NewDesc("latency_decode_ms",
			"Time from the first token of a request to its last, as the engines of the pool measure it, in "+
				"milliseconds.", pool, nil),
			[]float64{250, 500, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 12000}},
		omitted: prometheus.NewDesc("engine_figures_omitted",
			"Replicas without series of what their engine counts, beyond the limit of 1024.", nil, nil),
	}
}

// Counted adds what the engine of a replica has counted since it was last asked.
func (m *Metrics) Counted(p registry.Pool, replica, version string, c registry.Counted) {
	m.engines.counted(replicaKey{p.ID, replica}, version, c)
}

func (c *engines) counted(of replicaKey, version string, n registry.Counted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.workers[of]
	if w == nil || w.version != version {
		w = &worked{version: version}
		c.workers[of] = w
	}
	w.in, w.out = grown(w.in, n.TokensIn), grown(w.out, n.TokensOut)
	if n.FirstToken == nil && n.Decode == nil {
		return
	}
	key := poolVersion{of.pool, version}
	l := c.pools[key]
	if l == nil {
		l = &latencies{}
		c.pools[key] = l
	}
	l.firstToken, l.decode = merged(l.firstToken, n.FirstToken), merged(l.decode, n.Decode)
}

// grown adds to a counter; nil: nothing was ever counted.
func grown(total, by *uint64) *uint64 {
	if by == nil {
		return total
	}
	if total == nil {
		total = new(uint64)
	}
	*total += *by
	return total
}

// merged adds to a histogram; nil: nothing was ever measured.
func merged(total, by *registry.Latency) *registry.Latency {
	if by == nil {
		return total
	}
	if total == nil {
		total = &registry.Latency{Buckets: make([]uint64, len(by.Buckets))}
	}
	total.Count, total.SumMS = total.Count+by.Count, total.SumMS+by.SumMS
	for i := range min(len(total.Buckets), len(by.Buckets)) {
		total.Buckets[i] += by.Buckets[i]
	}
	return total
}

// Describe implements prometheus.Collector.
func (c *engines) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.tokensIn, c.tokensOut, c.inProgress, c.held, c.cache, c.queue,
		c.firstToken.Desc, c.decode.Desc, c.omitted} {
		ch <- d
	}
	if c.otel != nil {
		ch <- c.otel.firstToken.Desc
		ch <- c.otel.tokens
	}
}

// Collect implements prometheus.Collector.
func (c *engines) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.registry.Snapshot()
	versions := vocabulary{limit: maxVersions} // of this scrape, so that versions of removed pools do not count
	shown, omitted := 0, 0
	workers, pools := make(map[replicaKey]bool), make(map[poolVersion]bool)
	for i, p := range s.Pools {
		queued := make(map[string]int)
		running := make(map[string]bool)
		var all generated
		for j := range p.Replicas {
			r := &p.Replicas[j]
			workers[replicaKey{p.ID, r.ID}] = true
			if i >= maxPools || shown == maxReplicas || !slices.Contains(c.kinds, p.Engine) {
				omitted++ // only an orphan can have an engine unknown to this version
				continue
			}
			shown++
			running[r.EngineVersion] = true
			if r.Ready && r.QueueDepth != nil {
				queued[r.EngineVersion] += *r.QueueDepth
			}
			w := c.workers[replicaKey{p.ID, r.ID}]
			c.collect(ch, w, r, []*dto.LabelPair{pair("engine", p.Engine),
				pair("engine_version", versions.fold(r.EngineVersion)), pair("pool_id", p.ID), pair("replica_id", r.ID)})
			all.add(w, r)
		}
		for _, v := range slices.Sorted(maps.Keys(running)) {
			key := poolVersion{p.ID, v}
			pools[key] = true
			c.collectPool(ch, key, queued, []*dto.LabelPair{pair("engine", p.Engine),
				pair("engine_version", versions.fold(v)), pair("pool_id", p.ID), pair("priority", anyPriority)})
			if l := c.pools[key]; l != nil {
				all.firstToken = merged(all.firstToken, l.firstToken)
			}
		}
		if c.otel != nil {
			c.otel.collect(ch, p, all)
		}
	}
	ch <- prometheus.MustNewConstMetric(c.omitted, prometheus.GaugeValue, float64(omitted))
	maps.DeleteFunc(c.workers, func(k replicaKey, _ *worked) bool { return !workers[k] })
	maps.DeleteFunc(c.pools, func(k poolVersion, _ *latencies) bool { return !pools[k] })
}

// collect sends the series of one replica.
func (c *engines) collect(ch chan<- prometheus.Metric, w *worked, r *registry.Replica, labels []*dto.LabelPair) {
	send := func(d *prometheus.Desc, counter bool, v float64) {
		ch <- &series{d, counter, v, labels}
	}
	if w != nil && w.version == r.EngineVersion {
		if w.in != nil {
			send(c.tokensIn, true, float64(*w.in))
		}
		if w.out != nil {
			send(c.tokensOut, true, float64(*w.out))
		}
	}
	if n := r.Work.InProgress; n != nil {
		send(c.inProgress, false, float64(*n))
	}
	if n := r.Work.TokensInFlight; n != nil {
		send(c.held, false, float64(*n))
	}
	if n := r.Work.KVCacheUsage; n != nil {
		send(c.cache, false, *n)
	}
}

// collectPool sends the series of a pool's engines of one version.
func (c *engines) collectPool(ch chan<- prometheus.Metric, of poolVersion, queued map[string]int,
	labels []*dto.LabelPair) {
	if n, known := queued[of.version]; known {
		ch <- &series{c.queue, false, float64(n), labels}
	}
	l := c.pools[of]
	if l == nil {
		return
	}
	for _, h := range []struct {
		latencyDesc
		*registry.Latency
	}{{c.firstToken, l.firstToken}, {c.decode, l.decode}} {
		if h.Latency != nil {
			now := *h.Latency
			now.Buckets = slices.Clone(now.Buckets) // it is written out when engines may count again
			ch <- &histogram{h.latencyDesc, now, labels}
		}
	}
}
