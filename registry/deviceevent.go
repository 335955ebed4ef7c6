package registry

import (
	"fmt"
	"slices"
	"time"
)

// deviceFlips compares two states of the GPUs and returns an event for each whose health changed, without Seq. A GPU that was
// not listed before had no health, and one that is listed no more is HealthUnknown.
func deviceFlips(was, is *Devices, at time.Time) []Event {
	var out []Event
	for i := range is.Devices {
		d := &is.Devices[i]
		before := was.healthOf(d)
		if d.Health == before || before == "" && d.Health == HealthUnknown { // nothing was learned of it
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

// key names a GPU: by its UUID, or by its PCI bus id where it is too sick to tell one.
func (d *Device) key() string {
	if d.UUID == "" {
		return d.PCI
	}
	return d.UUID
}

// why is the failure that explains a GPU's health: its own, or that of all facts while it is only unknown.
func (d *Device) why(stale *Failure) *Failure {
	if d.Failure == nil && d.Health == HealthUnknown {
		return stale
	}
	return d.Failure
}

// cause says in words why a GPU's health is not what it was before.
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

// Title names a GPU for people: "GPU 0 (NVIDIA A100, GPU-…)".
func (d *Device) Title() string {
	name := d.key()
	if d.Name != "" {
		name = d.Name + ", " + name
	}
	return fmt.Sprintf("GPU %d (%s)", d.Index, name)
}
