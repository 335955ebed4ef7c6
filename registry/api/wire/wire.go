// Package wire has the API's JSON types and the conversion of the registry's status to them. The
// server writes them and poolctl reads them.
//
// It owns field names and null or empty values: what is not known of a pool is null and of a device
// absent, a list is never null, times are integer milliseconds (since 1970 if they are moments). It
// must not know HTTP.
package wire

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// Health is the answer of GET /health.
type Health struct {
	Status  string `json:"status"`
	Version string `json:"version"`
}

// PoolList is the answer of GET /v1/pools.
type PoolList struct {
	Pools    []Pool    `json:"pools"`
	Problems []Problem `json:"problems"`
}

// Problem is an invalid pool file.
type Problem struct {
	File   string  `json:"file"`
	PoolID *string `json:"pool_id"` // null if the file does not name one
	Error  string  `json:"error"`   // "CONFIG_INVALID: …" with file, line and column
	Hint   *string `json:"hint"`
}

// Pool is a pool's summary.
type Pool struct {
	ID                  string    `json:"id"`
	Engine              string    `json:"engine"`
	EngineVersion       *string   `json:"engine_version"`
	ModelID             *string   `json:"model_id"`
	DeviceMask          []string  `json:"device_mask"`
	Devices             []Device  `json:"devices"`
	VRAMTotalBytes      *uint64   `json:"vram_total_bytes,omitempty"` // of all devices; absent: unknown, or no GPU
	VRAMFreeBytes       *uint64   `json:"vram_free_bytes,omitempty"`
	SlotsTotal          int       `json:"slots_total"`
	SlotsFree           int       `json:"slots_free"`
	ActiveLeases        int       `json:"active_leases"`
	Live                bool      `json:"live"`
	Ready               bool      `json:"ready"`
	Draining            bool      `json:"draining"`
	State               string    `json:"state"`
	Wanted              bool      `json:"wanted"`
	Runtime             *string   `json:"runtime"`    // systemd, podman or docker; null: not a container
	Source              *string   `json:"source"`     // file or preload; null: nothing asks for it
	LastError           *string   `json:"last_error"` // begins with its code
	Hint                *string   `json:"hint"`
	Details             *Ending   `json:"details"`
	LastHeartbeatMS     *int64    `json:"last_heartbeat_ms"`
	RestartCount        int       `json:"restart_count"`
	RestartsSinceStable int       `json:"restarts_since_stable"`
	BackoffMS           int64     `json:"backoff_ms"`
	Breaker             *string   `json:"breaker"`
	NextRestartMS       *int64    `json:"next_restart_ms"`
	PerfTokensPerS      *float64  `json:"perf_tokens_per_s"`
	FirstTokenMS        *float64  `json:"first_token_ms"`
	Supports            Supports  `json:"supports"`
	Model               Model     `json:"model"`
	Drain               *Drain    `json:"drain"`
	Override            *Override `json:"override"`
	Reload              *Reload   `json:"reload"`
	Staging             *Staging  `json:"staging"`
	Replicas            []Replica `json:"replicas"`
	// Operation is only in the answer to a request that waited for its end.
	Operation *Operation `json:"operation,omitempty"`
}

// Device is a GPU or MIG partition as a pool sees it. What is not known of it is absent.
type Device struct {
	ID                string  `json:"id"` // as written in the pool file
	UUID              string  `json:"uuid,omitempty"`
	Name              string  `json:"name,omitempty"`
	ComputeCapability string  `json:"compute_capability,omitempty"`
	VRAMTotalBytes    *uint64 `json:"vram_total_bytes,omitempty"`
	VRAMFreeBytes     *uint64 `json:"vram_free_bytes,omitempty"` // absent too where the device does not answer now
	Health            string  `json:"health,omitempty"`
}

// Supports is what the engine can do with its model.
type Supports struct {
	Quantizations []string `json:"quantizations"`
	Features      []string `json:"features"`
}

// Model is what the files of the pool's model say of it. A field is null where they do not.
type Model struct {
	Architecture *string `json:"architecture"`
	Quantization *string `json:"quantization"`
	Parameters   *uint64 `json:"parameters"`
	CtxTrained   *int    `json:"ctx_trained"` // tokens
	Workload     *string `json:"workload"`
}

func modelOf(m registry.Model) Model {
	return Model{Architecture: optional(m.Architecture), Quantization: optional(m.Quantization),
		Parameters: optional(m.Parameters), CtxTrained: optional(m.CtxTrained), Workload: optional(m.Workload)}
}

// Replica is one engine process.
type Replica struct {
	ID                  string       `json:"id"`
	State               string       `json:"state"`
	Reason              string       `json:"reason"`
	Live                bool         `json:"live"`
	Ready               bool         `json:"ready"`
	Unit                string       `json:"unit"`
	Endpoint            *string      `json:"endpoint"`
	PID                 *int         `json:"pid"`
	InvocationID        *string      `json:"invocation_id"`
	SpecHash            *string      `json:"spec_hash"`
	DeviceMask          []string     `json:"device_mask"`
	EngineVersion       *string      `json:"engine_version"`
	SlotsTotal          int          `json:"slots_total"`
	SlotsFree           int          `json:"slots_free"`
	ActiveLeases        int          `json:"active_leases"`
	RestartCount        int          `json:"restart_count"`
	RestartsSinceStable int          `json:"restarts_since_stable"`
	RefusedAnswers      []string     `json:"refused_answers,omitempty"` // of the engine, not believed
	Unanswered          []string     `json:"unanswered,omitempty"`      // what the engine does not report
	GPULayers           []Layers     `json:"gpu_layers,omitempty"`      // of each model
	Asleep              bool         `json:"asleep,omitempty"`          // it has given up its memory until it is used again
	Ctx                 int          `json:"ctx,omitempty"`             // context of one request that it reports, tokens
	CtxAsked            int          `json:"ctx_asked,omitempty"`       // and that it was asked for
	DiskBytes           uint64       `json:"disk_bytes,omitempty"`      // in its state and cache directory
	MemoryNeed          *Need        `json:"memory_need,omitempty"`     // of its next or present run
	Performance         *Performance `json:"performance,omitempty"`     // absent: nothing is known
	BackoffMS           int64        `json:"backoff_ms"`
	Breaker             *string      `json:"breaker"`
	NextRestartMS       *int64       `json:"next_restart_ms"`
	LastError           *string      `json:"last_error"`
	Hint                *string      `json:"hint"`
	Details             *Ending      `json:"details"`
	SinceMS             *int64       `json:"since_ms"`
	LastHeartbeatMS     *int64       `json:"last_heartbeat_ms"`
}

// Need is the memory that a replica needs.
type Need struct {
	Source        string  `json:"source"`
	VRAM          uint64  `json:"vram_bytes"` // of all its devices together
	Host          uint64  `json:"host_bytes"`
	RaisedAfter   *string `json:"raised_after"` // the failure of the load before, by which it was raised
	RaisedUntilMS *int64  `json:"raised_until_ms"`
}

// Layers are how many layers of a model are on the GPUs.
type Layers struct {
	OnGPU int `json:"on_gpu"`
	Of    int `json:"of"`
}

// Staging is a download of the model in progress.
type Staging struct {
	Bytes int64   `json:"bytes"` // on disk
	Total *int64  `json:"total_bytes"`
	Rate  *int64  `json:"rate_bytes_per_s"`
	Left  *int64  `json:"left_ms"`
	File  *string `json:"file"`    // the one that is written
	Note  *string `json:"waits"`   // why nothing is written until next_ms
	Next  *int64  `json:"next_ms"` // the next attempt
}

// Drain is a drain by an operator.
type Drain struct {
	SinceMS int64 `json:"since_ms"`
	UntilMS int64 `json:"until_ms"`
	Restart bool  `json:"restart"`
}

// Override is a model that an operator has the pool serve instead of its file's.
type Override struct {
	ModelID string  `json:"model_id"`
	Digest  *string `json:"model_digest"`
	SinceMS int64   `json:"since_ms"`
}

// Reload is a reload in progress.
type Reload struct {
	ModelID     string `json:"model_id"`
	Phase       string `json:"phase"`
	SinceMS     int64  `json:"since_ms"`
	RollingBack bool   `json:"rolling_back"`
}

// DrainRequest is the body of POST /v1/pools/{id}/drain.
type DrainRequest struct {
	DeadlineMS   *int64 `json:"deadline_ms,omitempty"`
	UntilRestart bool   `json:"until_restart,omitempty"`
}

// ReloadRequest is the body of POST /v1/pools/{id}/reload.
type ReloadRequest struct {
	NewModelRef string `json:"new_model_ref,omitempty"`
	ModelDigest string `json:"model_digest,omitempty"`
	DeadlineMS  *int64 `json:"deadline_ms,omitempty"`
	Forget      bool   `json:"forget,omitempty"`
}

// FilesRequest is the body of POST /v1/reload.
type FilesRequest struct {
	AcceptEmpty bool `json:"accept_empty,omitempty"`
}

// Files is the answer of POST /v1/reload.
type Files struct {
	Problems []Problem `json:"problems"`
}

// LeaseRequest is the body of POST /v1/pools/{id}/leases.
type LeaseRequest struct {
	Holder    string `json:"holder,omitempty"`
	TTLMS     *int64 `json:"ttl_ms,omitempty"`
	ReplicaID string `json:"replica_id,omitempty"`
}

// RenewRequest is the body of PUT /v1/pools/{id}/leases/{lease}.
type RenewRequest struct {
	TTLMS *int64 `json:"ttl_ms,omitempty"`
}

// Lease is one slot in use.
type Lease struct {
	LeaseID     string `json:"lease_id"`
	PoolID      string `json:"pool_id"`
	ReplicaID   string `json:"replica_id"`
	Endpoint    string `json:"endpoint"`
	ExpiresAtMS int64  `json:"expires_at_ms"`
	TakenAtMS   *int64 `json:"taken_at_ms"`
	Holder      string `json:"holder"`
}

// LeaseList is the answer of GET /v1/pools/{id}/leases.
type LeaseList struct {
	Leases []Lease `json:"leases"`
}

// PoolHealth is the answer of GET /v1/pools/{id}/health.
type PoolHealth struct {
	Live              bool        `json:"live"`
	Ready             bool        `json:"ready"`
	Draining          bool        `json:"draining"`
	LastError         *string     `json:"last_error"`
	Hint              *string     `json:"hint"`
	EngineVersion     *string     `json:"engine_version"`
	ModelID           *string     `json:"model_id"`
	SlotsTotal        int         `json:"slots_total"`
	SlotsFree         int         `json:"slots_free"`
	ActiveLeases      int         `json:"active_leases"`
	VRAMTotalBytes    *uint64     `json:"vram_total_bytes,omitempty"` // of all devices; absent: unknown, or no GPU
	VRAMFreeBytes     *uint64     `json:"vram_free_bytes,omitempty"`
	ComputeCapability string      `json:"compute_capability,omitempty"` // the lowest of all devices
	DeviceMask        []string    `json:"device_mask"`
	LastHeartbeatMS   *int64      `json:"last_heartbeat_ms"`
	Metrics           PoolMetrics `json:"metrics"`
}

// PoolMetrics are the figures that placement reads.
type PoolMetrics struct {
	QueueDepth        *int     `json:"queue_depth"`
	TokensInFlight    *int     `json:"tokens_in_flight"`
	KVCacheUsageRatio *float64 `json:"kv_cache_usage_ratio"`
}

// PoolStatus is the answer of GET /pools/{id}/status, with the field names of an existing
// orchestrator client.
type PoolStatus struct {
	PoolID        string  `json:"pool_id"`
	Live          bool    `json:"live"`
	Ready         bool    `json:"ready"`
	ActiveLeases  int     `json:"active_leases"`
	SlotsTotal    int     `json:"slots_total"`
	SlotsFree     int     `json:"slots_free"`
	EngineVersion *string `json:"engine_version"`
}

// Error is the body of every error response.
type Error struct {
	Code         string         `json:"code"`
	Message      string         `json:"message"`
	Text         string         `json:"error"` // the message again, where older clients look for it
	Retriable    bool           `json:"retriable"`
	Hint         string         `json:"hint,omitempty"`
	Details      map[string]any `json:"details,omitempty"`
	RetryAfterMS int64          `json:"retry_after_ms,omitempty"`
	PolicyLabel  string         `json:"policy_label,omitempty"`
	Engine       string         `json:"engine,omitempty"`
}

// Error makes a wire error a Go error, for clients.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Encode returns v as one line of JSON. Characters such as < are not escaped, since it is not part
// of a web page.
func Encode(v any) ([]byte, error) {
	var b buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b, nil
}

// EncodeList is Encode for a struct with lists of some MiB, into room for so many bytes, an element
// at a time: encoding/json has all that it encodes in a buffer of its own first, which it keeps.
func EncodeList(v any, room int) ([]byte, error) {
	b := make(buffer, 0, room)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	put := func(v any) error {
		if err := enc.Encode(v); err != nil {
			return err
		}
		b = b[:len(b)-1] // the newline
		return nil
	}
	of := reflect.ValueOf(v)
	next := byte('{')
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Type().Field(i).Tag.Get("json"), ",")
		b = append(append(append(b, next, '"'), name...), '"', ':')
		next = ','
		f := of.Field(i)
		if f.Kind() != reflect.Slice || f.Len() == 0 {
			if err := put(f.Interface()); err != nil {
				return nil, err
			}
			continue
		}
		for j := range f.Len() {
			b = append(b, "[,"[min(j, 1)])
			if err := put(f.Index(j).Addr().Interface()); err != nil {
				return nil, err
			}
		}
		b = append(b, ']')
	}
	return append(b, '}', '\n'), nil
}

// buffer is the io.Writer of an encoder.
type buffer []byte

func (b *buffer) Write(p []byte) (int, error) { *b = append(*b, p...); return len(p), nil }

// optional returns nil for the zero value, which means "not known" in the registry.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// moment returns milliseconds since 1970, nil for the zero time.
func moment(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	ms := t.UnixMilli()
	return &ms
}

func failure(f *registry.Failure) (text, hint *string) {
	if f == nil {
		return nil, nil
	}
	s := f.Error()
	return &s, optional(f.Hint)
}
