package metrics

import (
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/pool-managerd/pool-managerd/registry"
)

// maxPools is the limit of the label pool_id.
const maxPools = 256

// maxReasons is the limit of a label reason.
const maxReasons = 16

// poolGauge is a gauge with one series for each pool.
type poolGauge struct {
	desc *prometheus.Desc
	of   func(*registry.Pool) float64
}

// pools collects from a snapshot of the registry at each scrape. It keeps no state, so a removed
// pool has no series.
type pools struct {
	registry *registry.Registry
	gauges   []poolGauge
	hints    []poolGauge // without a series where the value is 0, which means that it is not known
	model    *prometheus.Desc
	omitted  *prometheus.Desc
}

func newPools(r *registry.Registry) *pools {
	gauge := func(name, help string, of func(*registry.Pool) float64) poolGauge {
		return poolGauge{prometheus.NewDesc(name, help, []string{"pool_id"}, nil), of}
	}
	return &pools{
		registry: r,
		gauges: []poolGauge{
			gauge("pool_ready", "Readiness of the pool: 1 if it serves requests, else 0.", func(p *registry.Pool) float64 { return truth(p.Ready) }),
			gauge("pool_live", "Liveness of the pool: 1 if it serves or is starting, else 0.", func(p *registry.Pool) float64 { return truth(p.Live) }),
			gauge("pool_draining", "Drain of the pool: 1 if it takes no new requests and finishes those in progress, else 0.", func(p *registry.Pool) float64 { return truth(p.Draining) }),
			gauge("slots_total", "Requests that the pool's engines can process at the same time.", func(p *registry.Pool) float64 { return float64(p.SlotsTotal) }),
			gauge("slots_free", "Free slots of ready engines.", func(p *registry.Pool) float64 { return float64(p.SlotsFree) }),
			gauge("active_leases", "Slots in use by leases.", func(p *registry.Pool) float64 { return float64(p.ActiveLeases) }),
			gauge("backoff_delay_ms", "Current delay before PID 1 restarts a crashed engine, in milliseconds; 0 if no restart is due.",
				func(p *registry.Pool) float64 { return float64(p.Backoff.Milliseconds()) }),
			gauge("circuit_breaker_state", "Worst state of the circuit breakers of the pool: 0 closed, 1 open, 2 half-open.",
				func(p *registry.Pool) float64 { return breakerLevel(p.Breaker) }),
			gauge("pool_restarts", "Starts of the pool's engines after a failed run, in all.",
				func(p *registry.Pool) float64 { return float64(p.RestartCount) }),
		},
		hints: []poolGauge{
			gauge("perf_tokens_per_s", "Tokens per second of one stream, of the slowest ready replica, as measured and by the engine's own counters.",
				func(p *registry.Pool) float64 { return p.TokensPerS }),
			gauge("perf_first_token_ms", "Time from a request to its first output, of the slowest ready replica, as measured and by the engine's own counters, in milliseconds.",
				func(p *registry.Pool) float64 { return p.FirstTokenMS }),
		},
		model: prometheus.NewDesc("model_state",
			"State of a model: 1 if a pool serves it in this state, 0 if a pool only asks for it.",
			[]string{"model_id", "state"}, nil),
		omitted: prometheus.NewDesc("pools_omitted", "Pools without series, beyond the limit of 256.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *pools) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range slices.Concat(c.gauges, c.hints) {
		ch <- g.desc
	}
	ch <- c.model
	ch <- c.omitted
}

// Collect implements prometheus.Collector.
func (c *pools) Collect(ch chan<- prometheus.Metric) {
	list := c.registry.Snapshot().Pools
	shown := list[:min(len(list), maxPools)]
	models := make(map[string]bool)
	for _, p := range shown {
		labels := []*dto.LabelPair{pair("pool_id", p.ID)}
		for _, g := range c.gauges {
			ch <- &series{g.desc, false, g.of(p), labels}
		}
		for _, g := range c.hints {
			if v := g.of(p); v > 0 {
				ch <- &series{g.desc, false, v, labels}
			}
		}
		if p.ModelID != "" {
			// labels must be valid UTF-8, and the unit of an orphan may have any text
			id := strings.ToValidUTF8(p.ModelID, "?")
			models[id] = models[id] || p.Ready
		}
	}
	for id, serves := range models {
		ch <- prometheus.MustNewConstMetric(c.model, prometheus.GaugeValue, truth(serves), id, modelActive)
	}
	ch <- prometheus.MustNewConstMetric(c.omitted, prometheus.GaugeValue, float64(len(list)-len(shown)))
}

// modelActive is the state of a model that pools serve. The metrics contract has more (Draft,
// Canary, Deprecated, Retired), which belong to a catalog and not to a host.
const modelActive = "Active"

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// What is counted without a word, and what exceeds the limit of a label.
const (
	unknownReason = "unknown"
	otherReason   = "other"
)

// printable returns a word as a label's value, "unknown" for an empty one.
func printable(word string) string {
	if word == "" {
		return unknownReason
	}
	return strings.ToValidUTF8(word, "?")
}

// vocabulary enforces the limit of a label: the first values are kept, all later ones are "other".
type vocabulary struct {
	limit int // values that the label may have; 0: maxReasons
	mu    sync.Mutex
	words map[string]bool
}

func (v *vocabulary) fold(word string) string {
	word = printable(word)
	v.mu.Lock()
	defer v.mu.Unlock()
	limit := v.limit
	if limit == 0 {
		limit = maxReasons
	}
	switch {
	case v.words[word]:
	case word == unknownReason:
		return word
	case len(v.words) >= limit-2: // "unknown" and "other" count too
		return otherReason
	default:
		if v.words == nil {
			v.words = make(map[string]bool)
		}
		v.words[word] = true
	}
	return word
}
