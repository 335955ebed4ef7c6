package wire

import "github.com/pool-managerd/pool-managerd/registry"

// Event is the data of one event of GET /v1/events. What an event does not have is absent.
type Event struct {
	Seq       uint64  `json:"seq"`
	AtMS      int64   `json:"at_ms"`
	Kind      string  `json:"kind"`
	PoolID    string  `json:"pool_id,omitempty"`
	ReplicaID string  `json:"replica_id,omitempty"`
	Ready     *bool   `json:"ready,omitempty"`
	State     string  `json:"state,omitempty"`
	Reason    string  `json:"reason,omitempty"`
	Cause     string  `json:"cause"`
	LastError *string `json:"last_error,omitempty"`
	Hint      *string `json:"hint,omitempty"`
	Details   *Ending `json:"details,omitempty"`
	Device    string  `json:"device,omitempty"`
	Health    string  `json:"health,omitempty"`
	Was       string  `json:"was,omitempty"`

	CorrelationID string `json:"correlation_id,omitempty"`
}

// EventOf returns an event as readers get it.
func EventOf(e *registry.Event) Event {
	text, hint := failure(e.Failure)
	w := Event{
		Seq: e.Seq, AtMS: e.At.UnixMilli(), Kind: string(e.Kind), PoolID: e.PoolID, ReplicaID: e.ReplicaID,
		State: string(e.State), Reason: string(e.Reason),
		Cause: e.Cause, LastError: text, Hint: hint, Details: endingOf(e.Failure), Device: e.Device,
		Health: string(e.Health), Was: string(e.Was), CorrelationID: e.Correlation,
	}
	if e.Kind == registry.KindReady || e.Kind == registry.KindCrash {
		w.Ready = &e.Ready
	}
	return w
}

// Gap is the data of the event gap of GET /v1/events: some events before the next one are not sent.
type Gap struct {
	Missed  *int64 `json:"missed"` // how many, of any pool and kind; null: unknown
	UpToSeq uint64 `json:"up_to_seq"`
	Cause   string `json:"cause"`
}
