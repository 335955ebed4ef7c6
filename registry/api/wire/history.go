package wire

// History is a pool over the last hour.
type History struct {
	PoolID     string         `json:"pool_id"`
	IntervalMS int64          `json:"interval_ms"` // between two points
	Points     []HistoryPoint `json:"points"`      // oldest first
	Changes    []StateChange  `json:"changes"`     // oldest first
}

// HistoryPoint is a pool's figures at one moment.
type HistoryPoint struct {
	AtMS         int64    `json:"at_ms"`
	State        string   `json:"state"`
	Ready        bool     `json:"ready"`
	SlotsTotal   int      `json:"slots_total"`
	SlotsUsed    int      `json:"slots_used"` // of the ready replicas
	ActiveLeases int      `json:"active_leases"`
	TokensPerS   *float64 `json:"tokens_per_s"`
	FirstTokenMS *float64 `json:"first_token_ms"`
}

// StateChange is a state that a pool entered.
type StateChange struct {
	AtMS   int64   `json:"at_ms"`
	State  string  `json:"state"`
	Reason string  `json:"reason"`
	Code   *string `json:"code"` // of the failure behind it
}

// Access is what the caller may do.
type Access struct {
	Identity string   `json:"identity"`
	May      string   `json:"may"` // read, details or write
	Pools    []string `json:"pools"`
}
