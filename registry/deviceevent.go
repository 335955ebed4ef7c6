package registry

import (
	"fmt"
	"slices"
	"time"
)

// deviceFlips compares two states of the GPUs and returns an event, without Seq, for each change of
// health. A GPU that was not listed before had no health; one that is no longer listed is
// HealthUnknown.
func deviceFlips(was, is *Devices, at time.Time) []Event {
	var out []Event
	for i := range is.Devices {
		d := &is.Devices[i]
		before := was.healthOf(d)
		if d.Health == before || before == "" && d.Health == HealthUnknown { // no new fact
			continue
		}
		out = append(out, Event{At: at, Device: d.key(), Title: d.Title(), Health: d.Health, Was: before,
			Cause: d.cause(before, is.Stale), Failure: failureOf(d.Health == HealthOK, d.why(is.Stale))})
	}
	for i := range was.Devices {
		if d := &was.Devices[i]; is.healthOf(d) == "" && d.Health != HealthUnknown {
			out = append(out, Event{At: at, Device: d.key(), Title: d.Title(), Health: HealthUnknown, Was: d.Health,
				Cause: "the driver no longer lists it", Failure: is.Driver.Failure})
		}
	}
	return out
}

// healthOf returns the health of the same GPU, empty where it is not listed.
func (d *Devices) healthOf(other *Device) Health {
	i := slices.IndexFunc(d.Devices, func(one Device) bool { return one.key() == other.key() })
	if i < 0 {
		return ""
	}
	return d.Devices[i].Health
}

// key identifies a GPU: by its UUID, or by its PCI bus id if it does not report one.
func (d *Device) key() string {
	if d.UUID == "" {
		return d.PCI
	}
	return d.UUID
}

// why is the failure that explains a GPU's health: its own, or that of the stale facts while its
// health is unknown.
func (d *Device) why(stale *Failure) *Failure {
	if d.Failure == nil && d.Health == HealthUnknown {
		return stale
	}
	return d.Failure
}

// cause is the reason, as a clause, why a GPU's health changed.
func (d *Device) cause(before Health, stale *Failure) string {
	f := d.why(stale)
	switch {
	case before == "" && d.Health == HealthOK:
		return "it was found"
	case d.Health == HealthOK:
		return "it was checked again and has no fault"
	case f != nil:
		return f.Message
	}
	return "the cause is unknown"
}

// Title is a GPU's name for display: "GPU 0 (NVIDIA A100, GPU-…)".
func (d *Device) Title() string {
	name := d.key()
	if d.Name != "" {
		name = d.Name + ", " + name
	}
	return fmt.Sprintf("GPU %d (%s)", d.Index, name)
}
