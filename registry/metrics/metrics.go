// Package metrics is the daemon's Prometheus registry. Current values (ready, slots, leases) are
// read from the pools' registry at each scrape, so that a removed pool has no series; events are
// counted here.
//
// It owns names, labels, help texts and the limits on the number of series. It must not know its
// callers, nor serve anything beyond an http.Handler.
package metrics

import (
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/pool-managerd/pool-managerd/registry"
)

// Options are the sources of the metrics.
type Options struct {
	Registry *registry.Registry
	Version  string   // of the daemon
	Engines  []string // every kind that a pool may have: the values of the label engine
	// LogAnswers are NVML's possible answers about lines of the kernel's log.
	LogAnswers []string
	Reasons    Reasons
	Preloads   []string      // outcomes of preloads
	Benchmarks []string      // outcomes of measurements of engines
	Calls      func() uint64 // method calls made to PID 1 so far; nil: no such metric
	Lost       func() uint64 // how often PID 1 was lost so far; nil: no such metric
	InProgress func() int    // work beside the manager's loop; nil: no such metric
	Log        *slog.Logger  // for errors of a scrape
	// Usage reads the memory of a unit's cgroup, false if the unit does not run. It is called at
	// each scrape; nil: no such metrics.
	Usage func(unit string) (Usage, bool)
	// Open returns how many connections and event streams the API has open; nil: no such metric.
	Open func() (requests, streams int)
	// Fleet is how publishing this host goes, asked at each scrape; false: it is published nowhere.
	// nil: no such metrics.
	Fleet func() (Fleet, bool)
	// OTelNames has what engines count under the names of OpenTelemetry too.
	OTelNames bool
	Now       func() time.Time // the clock for the age of facts; nil: time.Now
}

// Metrics counts what happens. Its methods may be called from any goroutine and do not block.
type Metrics struct {
	prom    *prometheus.Registry
	log     *slog.Logger
	perPool *perPool

	transitions   *prometheus.CounterVec
	restarts      *reasonCounter
	scheduled     *reasonCounter
	probeFailures *reasonCounter
	probeDuration *prometheus.HistogramVec
	verifications *prometheus.CounterVec
	resets        *prometheus.CounterVec
	trust         trust
	drains        drains
	breakers      breakers

	leaseRejections *prometheus.CounterVec
	leaseReasons    vocabulary
	reloads         reloads
	fetches         *fetches
	preloads        *prometheus.CounterVec
	benchmarks      *prometheus.CounterVec
	api             apiCounts
	engines         *engines
	backoff         *prometheus.HistogramVec
	loop            prometheus.Histogram

	resetDevices, resetKinds, verifyReasons vocabulary
}

// probeBuckets are the bounds of health_probe_duration_ms, in milliseconds: an engine on this host
// answers within a few, and the default timeout of a probe is 2 s. With 250 pools each bound is
// 17 kB of a scrape.
var probeBuckets = []float64{2, 10, 50, 250, 1000, 2500}

// New returns metrics that follow the registry's events.
func New(o Options) *Metrics {
	now := o.Now
	if now == nil {
		now = time.Now
	}
	m := &Metrics{
		prom: prometheus.NewRegistry(),
		log:  o.Log,
		transitions: counter("readiness_transitions_total",
			"Changes of a pool's readiness, by new value (ready, unready) and reason.", "to", "reason"),
		restarts: byReason("engine_restarts_total",
			"Engine processes restarted by PID 1, by the reason why the former process ended.", "reason", nil),
		scheduled: byReason("restart_scheduled_total",
			"Restarts of an engine scheduled after a failed run, by the class of the failure.", "reason",
			o.Reasons.Restarts),
		probeFailures: byReason("health_probe_failures_total", "Failed health probes, by reason.", "reason",
			o.Reasons.Probes),
		resets: counter("driver_reset_events_total",
			"Faults that require a reset of a GPU, by GPU and kind of fault.", "device", "kind"),
		trust:    newTrust(o.LogAnswers),
		drains:   newDrains(),
		breakers: newBreakers(),

		leaseRejections: counter("lease_rejections_total", "Lease calls refused, by reason.", "reason"),
		reloads:         newReloads(o.Reasons.Reloads),
		fetches:         newFetches(o.Reasons.Fetches),
		preloads:        newPreloads(o.Preloads),
		benchmarks:      newBenchmarks(o.Benchmarks),
		api:             newAPICounts(),
		resetDevices:    vocabulary{limit: maxDevices},
		verifications: counter("catalog_verifications_total",
			"Verifications of a model file, by result (pass, fail), reason and engine of the pool.", "result", "reason",
			"engine"),
		probeDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "health_probe_duration_ms", Help: "Duration of a health probe, in milliseconds.",
			Buckets: probeBuckets,
		}, []string{"pool_id"}),
	}
	m.backoff, m.loop = newBackoff(), newLoop()
	m.engines = newEngines(o.Registry, o.Engines)
	if o.OTelNames {
		m.engines.otel = newOTelNames(m.engines.firstToken.bounds)
	}
	m.perPool = m.newPerPool(o.Registry)
	m.prom.MustRegister(m.transitions, m.restarts, m.scheduled, m.probeFailures, m.probeDuration, m.verifications,
		m.resets, m.trust.logReports, m.trust.answers,
		m.drains.duration, m.drains.forced, m.leaseRejections, m.breakers.opened, m.breakers.storms, m.reloads.duration,
		m.reloads.done, m.reloads.failed, m.fetches.duration, m.fetches.bytes, m.fetches.peers, m.fetches.shared,
		m.fetches.failed, m.preloads, m.api.crowded, m.api.denied, m.backoff, m.loop, m.benchmarks,
		newPools(o.Registry), m.engines, newDevices(o.Registry, o.Engines, now), buildInfo(o.Version),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if o.Fleet != nil {
		m.prom.MustRegister(newFleet(o.Fleet))
	}
	if o.Calls != nil {
		m.prom.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "systemd_calls_total", Help: "Method calls to PID 1 over D-Bus.",
		}, func() float64 { return float64(o.Calls()) }))
	}
	if o.Lost != nil {
		m.prom.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "systemd_connections_lost_total",
			Help: "Times that PID 1 was lost over D-Bus: its connection ended, or it executed itself again.",
		}, func() float64 { return float64(o.Lost()) }))
	}
	if o.InProgress != nil {
		m.prom.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "pool_managerd_effects_in_progress",
			Help: "Work beside the manager's loop: starts, stops, questions to engines, downloads.",
		}, func() float64 { return float64(o.InProgress()) }))
	}
	if o.Open != nil {
		m.prom.MustRegister(openConnections(o.Open))
	}
	if o.Usage != nil {
		used := newUsage(o.Registry, o.Engines, o.Usage)
		m.prom.MustRegister(used)
		o.Registry.Observe(used.crashed)
	}
	for _, r := range o.Reasons.Leases {
		m.leaseRejections.WithLabelValues(m.leaseReasons.fold(r))
	}
	for _, r := range o.Reasons.Denials {
		m.api.denied.WithLabelValues(m.api.reasons.fold(r))
	}
	for _, kind := range []string{"request", "stream"} {
		for _, outcome := range []string{"closed", "refused"} {
			m.api.crowded.WithLabelValues(m.api.kinds.fold(kind), m.api.kinds.fold(outcome))
		}
	}
	// Every possible label pair starts at 0, so that the first change is an increase.
	for _, r := range registry.Reasons() {
		m.transitions.WithLabelValues(flippedTo(r == registry.ReasonHealthy), string(r))
	}
	o.Registry.Observe(m.flipped)
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func buildInfo(version string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "pool_managerd_build_info", Help: "Build of the manager, in the labels; always 1.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	g.Set(1)
	return g
}

// Handler serves the metrics in the formats that Prometheus asks for.
func (m *Metrics) Handler() http.Handler {
	scrape := promhttp.HandlerFor(prometheus.GathererFunc(m.gather), promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(m.log.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapes,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plainEncoding(r)
		scrape.ServeHTTP(w, r)
	})
}

// scrapes is how many may be made at the same time; more are refused with 503.
const scrapes = 8

// plainEncoding leaves gzip or nothing of what the caller asks for: promhttp logs an error about a
// header that it does not understand, and anyone can send one.
func plainEncoding(r *http.Request) {
	asked := strings.Join(r.Header.Values("Accept-Encoding"), ",")
	r.Header.Del("Accept-Encoding")
	for part := range strings.SplitSeq(asked, ",") {
		name, weight, _ := strings.Cut(strings.ReplaceAll(part, " ", ""), ";")
		if strings.EqualFold(name, "gzip") && strings.TrimRight(weight, "0.") != "q=" {
			r.Header.Set("Accept-Encoding", "gzip")
			return
		}
	}
}

// gather collects every series.
func (m *Metrics) gather() ([]*dto.MetricFamily, error) {
	m.perPool.sweep()
	return m.prom.Gather()
}

func flippedTo(ready bool) string {
	if ready {
		return "ready"
	}
	return "unready"
}

// flipped is the registry's observer of readiness.
func (m *Metrics) flipped(e registry.Event, _ *registry.Pool) {
	if e.Kind == registry.KindReady && e.ReplicaID == "" {
		m.transitions.WithLabelValues(flippedTo(e.Ready), string(e.Reason)).Inc()
	}
}

// Restarted counts n restarts of a pool's engine by PID 1.
func (m *Metrics) Restarted(p registry.Pool, reason string, n int) {
	if n > 0 { // NRestarts falls when an administrator resets it
		m.restarts.add(m.perPool.pool(p.ID), reason, n)
	}
}

// RestartScheduled counts a restart that was scheduled after a failed run, and its delay.
func (m *Metrics) RestartScheduled(p registry.Pool, reason string, delay time.Duration) {
	id := m.perPool.pool(p.ID)
	m.scheduled.add(id, reason, 1)
	m.backoff.WithLabelValues(id).Observe(delay.Seconds())
}

// Probed counts a health probe; reason is empty for a success.
func (m *Metrics) Probed(p registry.Pool, reason string, took time.Duration) {
	id := m.perPool.pool(p.ID)
	m.probeDuration.WithLabelValues(id).Observe(float64(took) / float64(time.Millisecond))
	if reason != "" {
		m.probeFailures.add(id, reason, 1)
	}
}

// Verified counts a verification of a model file: whether it passed, and the reason as one word.
func (m *Metrics) Verified(pass bool, reason, engine string) {
	result := "fail"
	if pass {
		result = "pass"
	}
	m.verifications.WithLabelValues(result, m.verifyReasons.fold(reason), engine).Inc()
}

// DriverReset counts a fault of a GPU, by its UUID, that requires a reset of the GPU or a restart
// of the host. kind is one of the classifier's closed list.
func (m *Metrics) DriverReset(device, kind string) {
	m.resets.WithLabelValues(m.resetDevices.fold(device), m.resetKinds.fold(kind)).Inc()
}
