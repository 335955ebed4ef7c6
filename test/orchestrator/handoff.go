package orchestrator

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// Handoff is what a reader takes from a hand-off file.
type Handoff struct {
	URL           string
	PoolID        string
	ReplicaID     string
	Engine        string
	EngineVersion *string
	ModelID       string
	ModelPath     *string
	DeviceMask    *string
	Devices       []string
	Flags         []string
	Mode          string
	PID           *int
	Unit          *string
	SlotsTotal    int
	SlotsFree     int
}

// ReadHandoff reads a hand-off file by its name and content. Fields that it does not know are
// passed over.
func ReadHandoff(name string, body []byte) (Handoff, error) {
	fail := func(err error) (Handoff, error) {
		return Handoff{}, fmt.Errorf("hand-off file %s: %w in %s", name, err, body)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return fail(err)
	}
	var h Handoff
	var slots int
	var model struct {
		ID   *string `json:"id"`
		Path *string `json:"path"`
	}
	for _, f := range []struct {
		name string
		into any
		null bool // it may be
	}{
		{"url", &h.URL, false}, {"pool_id", &h.PoolID, false}, {"replica_id", &h.ReplicaID, false}, {"engine", &h.Engine, false},
		{"engine_version", &h.EngineVersion, true}, {"model_id", &h.ModelID, false}, {"model", &model, false},
		{"device_mask", &h.DeviceMask, true}, {"devices", &h.Devices, false}, {"flags", &h.Flags, false},
		{"provisioning_mode", &h.Mode, false}, {"pid", &h.PID, true}, {"unit", &h.Unit, true},
		{"slots", &slots, false}, {"slots_total", &h.SlotsTotal, false}, {"slots_free", &h.SlotsFree, false},
	} {
		if err := take(fields, f.name, f.into, f.null); err != nil {
			return fail(err)
		}
	}
	h.ModelPath = model.Path
	if err := h.agrees(name, slots, model.ID); err != nil {
		return fail(err)
	}
	return h, nil
}

// take decodes one field that must be there.
func take(fields map[string]json.RawMessage, name string, into any, null bool) error {
	raw, ok := fields[name]
	if !ok {
		return fmt.Errorf("no field %s", name)
	}
	if string(raw) == "null" && !null {
		return fmt.Errorf("%s is null", name)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// agrees checks what must fit together.
func (h Handoff) agrees(name string, slots int, model *string) error {
	at, err := url.Parse(h.URL)
	mask := ""
	if h.DeviceMask != nil {
		mask = *h.DeviceMask
	}
	switch {
	case err != nil || at.Scheme != "http" || at.Port() == "":
		return fmt.Errorf("url %q is no address of an engine", h.URL)
	case path.Base(name) != h.PoolID+"."+h.ReplicaID+".json":
		return errors.New("the file is not named after its pool and replica")
	case slots != h.SlotsTotal || h.SlotsFree < 0 || h.SlotsFree > slots:
		return fmt.Errorf("slots %d, slots_total %d, slots_free %d", slots, h.SlotsTotal, h.SlotsFree)
	case model == nil || *model != h.ModelID:
		return errors.New("model.id is not model_id")
	case h.DeviceMask != nil && mask == "" || mask != strings.Join(h.Devices, ","):
		return errors.New("device_mask is not devices, joined by commas")
	case h.EngineVersion != nil && (*h.EngineVersion == "" || *h.EngineVersion == "unknown"):
		return fmt.Errorf("engine_version is %q and not null", *h.EngineVersion)
	case (h.PID == nil) != (h.Unit == nil):
		return errors.New("pid without unit, or unit without pid")
	}
	return nil
}
