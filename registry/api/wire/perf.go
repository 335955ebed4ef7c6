package wire

import (
	"github.com/pool-managerd/pool-managerd/registry"
)

// Performance are the performance hints of a replica. What is not known is null.
type Performance struct {
	TokensPerS   *float64 `json:"perf_tokens_per_s"` // of one stream
	FirstTokenMS *float64 `json:"first_token_ms"`
	MeasuredMS   *int64   `json:"measured_ms"` // null: the engine's own counters alone
	Disturbed    bool     `json:"disturbed,omitempty"`
}

func performanceOf(p *registry.Perf) *Performance {
	if p == nil {
		return nil
	}
	return &Performance{TokensPerS: optional(p.TokensPerS), FirstTokenMS: optional(p.FirstTokenMS),
		MeasuredMS: moment(p.Measured), Disturbed: p.Disturbed}
}

// BenchRequest is the body of POST /v1/pools/{id}/bench.
type BenchRequest struct {
	ReplicaID string `json:"replica_id,omitempty"` // empty: every ready replica
	Force     bool   `json:"force,omitempty"`      // although leases are held, or the engine sleeps
}

// Bench is the answer of GET and POST /v1/pools/{id}/bench.
type Bench struct {
	PoolID   string         `json:"pool_id"`
	Run      *BenchRun      `json:"run"` // the newest that was asked for; null: none since the manager began
	Replicas []BenchReplica `json:"replicas"`
}

// BenchRun is a benchmark that a caller asked for.
type BenchRun struct {
	ID        string  `json:"id"`
	State     string  `json:"state"`      // waiting, running, done, failed or cancelled
	ReplicaID *string `json:"replica_id"` // the one that is measured now
	Step      int     `json:"step"`       // requests that are done, of this replica
	Steps     int     `json:"steps"`
	SinceMS   int64   `json:"since_ms"`
	Error     *string `json:"error"`
	Hint      *string `json:"hint"`
}

// Over reports whether nothing more will happen.
func (r BenchRun) Over() bool {
	return r.State == "done" || r.State == "failed" || r.State == "cancelled"
}

// BenchReplica is what is known of one engine.
type BenchReplica struct {
	ReplicaID     string       `json:"replica_id"`
	Engine        string       `json:"engine"`
	EngineVersion *string      `json:"engine_version"`
	ModelID       *string      `json:"model_id"`
	DeviceMask    []string     `json:"device_mask"`
	Waits         *string      `json:"waits"`  // why it is not measured yet; null: no measurement is due
	Last          *BenchResult `json:"last"`   // null: it was never measured
	Former        *BenchResult `json:"former"` // the measurement before
}

// BenchResult is one measurement: the median of three.
type BenchResult struct {
	MeasuredMS  int64         `json:"measured_ms"`
	One         BenchFigures  `json:"one"` // at one stream
	All         *BenchFigures `json:"all"` // at as many as there are slots; null: there is one
	SpreadRatio float64       `json:"spread_ratio"`
	Disturbed   *string       `json:"disturbed"` // by what; null: it was not
}

// BenchFigures are those at so many streams.
type BenchFigures struct {
	Streams          int     `json:"streams"`
	FirstTokenMS     float64 `json:"first_token_ms"`
	TokensPerS       float64 `json:"tokens_per_s"` // of each stream
	TotalTokensPerS  float64 `json:"total_tokens_per_s"`
	PromptTokensPerS float64 `json:"prompt_tokens_per_s"`
}
