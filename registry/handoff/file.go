package handoff

import (
	"encoding/json"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
)

// File is the content of a hand-off file. What is not known is null; a list is never null.
type File struct {
	URL              string   `json:"url"`
	PoolID           string   `json:"pool_id"`
	ReplicaID        string   `json:"replica_id"` // r0, r1, …: the same over reloads
	Engine           string   `json:"engine"`
	EngineVersion    *string  `json:"engine_version"`
	ModelID          string   `json:"model_id"` // of what serves, as its pool file names it
	Model            Model    `json:"model"`
	DeviceMask       *string  `json:"device_mask"` // Devices joined by commas; null without a device
	Devices          []string `json:"devices"`
	Flags            []string `json:"flags"` // the engine's arguments, with secrets hidden
	ProvisioningMode string   `json:"provisioning_mode"`
	PID              *int     `json:"pid"`  // null: the engine is not run here
	Unit             *string  `json:"unit"` // likewise
	Slots            int      `json:"slots"`
	SlotsTotal       int      `json:"slots_total"` // the same number as slots
	SlotsFree        int      `json:"slots_free"`  // without a lease now
}

// Model is the model that the replica serves.
type Model struct {
	ID   string  `json:"id"`
	Path *string `json:"path"` // that the engine loaded; null: not known, or none
}

// fileOf returns the hand-off file of a replica that serves. was is the file on disk, nil without
// one: it has the facts about a process that a new manager does not know yet.
func fileOf(p *registry.Pool, r *registry.Replica, was *File) File {
	f := File{
		URL: r.Endpoint, PoolID: p.ID, ReplicaID: nameOf(r), Engine: or(r.Engine, p.Engine),
		EngineVersion: known(r.EngineVersion),
		Devices:       r.DeviceMask, Flags: r.Flags, ProvisioningMode: r.Provisioning, PID: known(r.PID),
		Unit:  known(r.Unit),
		Slots: r.SlotsTotal, SlotsTotal: r.SlotsTotal, SlotsFree: r.SlotsFree,
	}
	f.ModelID = or(r.ModelID, p.ModelID)
	f.Model = Model{ID: f.ModelID, Path: known(r.ModelPath)}
	if len(f.Devices) > 0 {
		f.DeviceMask = known(strings.Join(f.Devices, ","))
	} else {
		f.Devices = []string{}
	}
	if f.Flags == nil {
		f.Flags = []string{}
		if was != nil && f.PID != nil && was.PID != nil && *was.PID == *f.PID && was.ModelID == f.ModelID &&
			was.Flags != nil {
			f.Flags, f.Model.Path = was.Flags, was.Model.Path
		}
	}
	return f
}

// nameOf is the replica's name, which is stable over reloads.
func nameOf(r *registry.Replica) string { return or(r.Name, r.ID) }

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// known returns nil for the zero value, which means "not known" in the registry.
func known[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// encode returns the file's bytes: indented JSON and a newline.
func (f File) encode() ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(f)
	return []byte(b.String()), err
}
