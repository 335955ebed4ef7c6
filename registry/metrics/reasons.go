package metrics

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Reasons are the closed lists of the labels reason. Their series begin with 0, so that rate() sees
// the first that is counted. What is not in a list begins with its first count.
type Reasons struct {
	Leases  []string // lease_rejections_total
	Denials []string // api_requests_denied_total
	Fetches []string // model_fetch_failures_total

	// Of each pool.
	Restarts []string // restart_scheduled_total
	Probes   []string // health_probe_failures_total
	Reloads  []string // reload_failure_total
}

// zerosUpTo is the number of pools up to which each known reason has a series that begins with 0.
// With more of them, those were a quarter of a scrape: 1.6 kB a pool that stays 0.
const zerosUpTo = 128

// reasonCounter is a counter by pool and reason. A CounterVec takes 600 bytes for each series,
// which is too much for a dozen reasons of each pool that are 0.
type reasonCounter struct {
	desc  *prometheus.Desc
	label string // sorts after pool_id

	mu    sync.Mutex
	first int      // so many of the words have a series in each pool
	words []string // the values of the label so far, at most maxReasons
	pools map[string][]uint64
}

// byReason returns a counter whose series of these reasons begin with 0.
func byReason(name, help, label string, first []string) *reasonCounter {
	first = first[:min(len(first), maxReasons-2)]
	return &reasonCounter{desc: prometheus.NewDesc(name, help, []string{"pool_id", label}, nil), label: label,
		first: len(first), words: slices.Clone(first), pools: make(map[string][]uint64)}
}

// begin gives a pool its series.
func (c *reasonCounter) begin(pool string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, found := c.pools[pool]; !found {
		c.pools[pool] = make([]uint64, c.first)
	}
}

// add counts n for a reason.
func (c *reasonCounter) add(pool, reason string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.index(reason)
	counts := c.pools[pool]
	if missing := max(at+1, c.first) - len(counts); missing > 0 {
		counts = append(counts, make([]uint64, missing)...)
	}
	counts[at] += uint64(n)
	c.pools[pool] = counts
}

// index returns the position of a word, which is added while there is room; the caller holds the
// lock.
func (c *reasonCounter) index(word string) int {
	word = printable(word)
	at := slices.Index(c.words, word)
	if at < 0 && len(c.words) >= maxReasons-2 && word != otherReason && word != unknownReason {
		return c.index(otherReason)
	}
	if at < 0 {
		at = len(c.words)
		c.words = append(c.words, word)
	}
	return at
}

// DeletePartialMatch deletes the series of a pool.
func (c *reasonCounter) DeletePartialMatch(labels prometheus.Labels) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.pools[labels["pool_id"]])
	delete(c.pools, labels["pool_id"])
	return n
}

// Describe implements prometheus.Collector.
func (c *reasonCounter) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *reasonCounter) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	words := make([]*dto.LabelPair, len(c.words))
	for i, w := range c.words {
		words[i] = pair(c.label, w)
	}
	zeros := len(c.pools) <= zerosUpTo
	for pool, counts := range c.pools {
		of := pair("pool_id", pool)
		for i, n := range counts {
			if n > 0 || zeros && i < c.first && pool != "" {
				ch <- &series{c.desc, true, float64(n), []*dto.LabelPair{of, words[i]}}
			}
		}
	}
}
