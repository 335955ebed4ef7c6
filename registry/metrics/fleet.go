package metrics

import "github.com/prometheus/client_golang/prometheus"

// Fleet is how publishing this host goes, as pool-fleet reports it.
type Fleet struct {
	Up     bool    // pool-fleet answers; false: of Places, their names are known alone
	Places []Place // where this host is to be published
	Read   *Read   // the fleet, while it is read; nil: no one asks
}

// Place is one where this host is to be published. Times are seconds since 1970; 0: never.
type Place struct {
	To          string
	Published   bool
	Conflict    bool
	Since, Last float64
	Failures    uint64
	Writes      uint64
}

// Read is the fleet as it is read.
type Read struct {
	Good         bool // false: etcd cannot be read, and the rest is as it was
	Hosts, Pools int
}

// fleetCollector reports what a function returns at each scrape.
type fleetCollector struct {
	of func() (Fleet, bool)

	up, published, since, conflict, failures, writes, last, reading, hosts, pools *prometheus.Desc
}

// newFleet makes the collector of Options.Fleet. A host that is published nowhere has no series.
func newFleet(of func() (Fleet, bool)) *fleetCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &fleetCollector{of: of,
		up: desc("fleet_up", "1 if pool-fleet answers, which publishes this host; 0 otherwise."),
		published: desc("fleet_published", "1 if this host is published in etcd or at the orchestrator; 0 otherwise.",
			"to"),
		since: desc("fleet_published_since_seconds",
			"Time of the last change of fleet_published, in seconds since 1970.", "to"),
		conflict: desc("fleet_machine_id_conflict", "1 if another host is published with the machine-id of this one; "+
			"0 otherwise.", "to"),
		failures: desc("fleet_publish_failures_total", "Failed attempts to publish this host.", "to"),
		writes: desc("fleet_publish_writes_total",
			"Keys of this host that were written to etcd, or requests that the orchestrator accepted.", "to"),
		last: desc("fleet_publish_last_seconds",
			"Time of the last of fleet_publish_writes_total, in seconds since 1970.", "to"),
		reading: desc("fleet_read_good", "1 if the fleet can be read in etcd; 0 otherwise. Absent while no one asks."),
		hosts:   desc("fleet_hosts", "Hosts in the fleet, while it is read."),
		pools:   desc("fleet_pools", "Pools in the fleet, while it is read."),
	}
}

// Describe implements prometheus.Collector.
func (c *fleetCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.up, c.published, c.since, c.conflict, c.failures, c.writes, c.last, c.reading,
		c.hosts, c.pools} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *fleetCollector) Collect(ch chan<- prometheus.Metric) {
	f, wanted := c.of()
	if !wanted {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(c.up, truth(f.Up))
	for _, p := range f.Places {
		gauge(c.published, truth(p.Published), p.To)
		if !f.Up {
			continue
		}
		gauge(c.since, p.Since, p.To)
		gauge(c.conflict, truth(p.Conflict), p.To)
		gauge(c.last, p.Last, p.To)
		ch <- prometheus.MustNewConstMetric(c.failures, prometheus.CounterValue, float64(p.Failures), p.To)
		ch <- prometheus.MustNewConstMetric(c.writes, prometheus.CounterValue, float64(p.Writes), p.To)
	}
	if f.Read != nil {
		gauge(c.reading, truth(f.Read.Good))
		gauge(c.hosts, float64(f.Read.Hosts))
		gauge(c.pools, float64(f.Read.Pools))
	}
}
