package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// PreloadRequest is the body of POST /v1/pools/{id}/preload.
type PreloadRequest struct {
	Prepared   *Prepared `json:"prepared"`
	DeadlineMS *int64    `json:"deadline_ms,omitempty"`
}

// Prepared is an engine as another program has prepared it. A field that is null is as one that is
// absent.
type Prepared struct {
	BinaryPath    string     `json:"binary_path"`
	Flags         []string   `json:"flags,omitempty"`
	Host          string     `json:"host,omitempty"`
	Port          int        `json:"port,omitempty"`
	ModelPath     string     `json:"model_path,omitempty"`
	EngineVersion string     `json:"engine_version,omitempty"`
	PoolID        string     `json:"pool_id,omitempty"`
	ReplicaID     string     `json:"replica_id,omitempty"`
	DeviceMask    DeviceMask `json:"device_mask,omitempty"`
	Engine        string     `json:"engine,omitempty"`
}

// Preloaded is the answer of POST /v1/pools/{id}/preload.
type Preloaded struct {
	PoolID      string `json:"pool_id"`
	PID         int    `json:"pid"`
	HandoffPath string `json:"handoff_path"`
}

// DeviceMask is a list of devices. As in hand-off files it may be one string, joined by commas.
type DeviceMask []string

// UnmarshalJSON reads a string, a list of strings and numbers, or null.
func (m *DeviceMask) UnmarshalJSON(body []byte) error {
	var text string
	if json.Unmarshal(body, &text) == nil {
		*m = nil
		for _, name := range strings.Split(text, ",") {
			if name = strings.TrimSpace(name); name != "" {
				*m = append(*m, name)
			}
		}
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var items []any
	if err := d.Decode(&items); err != nil {
		return fmt.Errorf("device_mask is neither a string of devices joined by commas, nor a list of them, nor null")
	}
	*m = nil
	for _, item := range items {
		switch item := item.(type) {
		case string:
			*m = append(*m, strings.TrimSpace(item))
		case json.Number:
			*m = append(*m, item.String())
		default:
			return fmt.Errorf("device_mask has an item that is neither a string nor a number")
		}
	}
	return nil
}
