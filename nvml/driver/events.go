package driver

import (
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// wanted are the events about a GPU's health (nvml.h, nvmlEventType*).
const wanted = gonvml.EventTypeXidCriticalError | gonvml.EventTypeDoubleBitEccError |
	gonvml.EventTypeGpuUnavailableError | gonvml.EventTypeGpuRecoveryAction

// wholeGPU is the instance id of an event that is not about one MIG instance.
const wholeGPU = 0xFFFFFFFF

// Watch registers for events of every GPU that answers. NVML does not record earlier events. If the
// library lacks the functions, Watching returns false. An error is a *nvml.Problem.
func (d *Driver) Watch() error {
	if d.set != nil || !d.open {
		return nil
	}
	for _, name := range []string{"nvmlEventSetCreate", "nvmlDeviceRegisterEvents", "nvmlDeviceGetSupportedEventTypes",
		"nvmlEventSetWait_v2", "nvmlEventSetFree"} {
		if !d.can(name) {
			return nil
		}
	}
	set, ret := ask(d, "nvmlEventSetCreate", d.api.EventSetCreate)
	if ret != gonvml.SUCCESS {
		return problem("nvmlEventSetCreate", ret)
	}
	d.set, d.watched = set, make(map[gonvml.Device]string)
	for i := range d.cards {
		r := &reading{d: d}
		c := r.card(i)
		if c == nil {
			continue // its Problem is in the snapshots
		}
		d.register(c)
	}
	return nil
}

func (d *Driver) register(c *card) {
	supported, ret := ask(d, "nvmlDeviceGetSupportedEventTypes", c.handle.GetSupportedEventTypes)
	if ret != gonvml.SUCCESS || supported&wanted == 0 {
		return
	}
	d.enter("nvmlDeviceRegisterEvents")
	ret = c.handle.RegisterEvents(supported&wanted, d.set)
	d.leave()
	if ret == gonvml.SUCCESS {
		d.watched[c.handle] = c.fixed.UUID
	}
}

// Watching reports whether there is anything to wait for.
func (d *Driver) Watching() bool { return d.set != nil && len(d.watched) > 0 }

// Unwatch undoes Watch. Wait must have returned.
func (d *Driver) Unwatch() {
	if d.set == nil {
		return
	}
	d.enter("nvmlEventSetFree")
	d.api.EventSetFree(d.set)
	d.leave()
	d.set, d.watched = nil, nil
}

// Wait blocks for at most timeout and returns nil if there was no event. Nothing can interrupt it.
// An error is a *nvml.Problem; the next call may fail at once too, so the caller must wait before
// it retries.
func (d *Driver) Wait(timeout time.Duration) (*nvml.Event, error) {
	data, ret := d.api.EventSetWait(d.set, uint32(timeout.Milliseconds()))
	switch ret {
	case gonvml.SUCCESS:
		return eventOf(data, d.watched[data.Device], time.Now()), nil
	case gonvml.ERROR_TIMEOUT:
		return nil, nil
	default:
		return nil, problem("nvmlEventSetWait_v2", ret)
	}
}

// eventOf returns nil for an unexpected kind.
func eventOf(data gonvml.EventData, uuid string, now time.Time) *nvml.Event {
	e := &nvml.Event{At: now, Device: uuid, GI: instance(data.GpuInstanceId), CI: instance(data.ComputeInstanceId)}
	switch {
	case data.EventType&gonvml.EventTypeXidCriticalError != 0:
		e.Kind, e.Code = nvml.EventXid, int(data.EventData)
	case data.EventType&gonvml.EventTypeDoubleBitEccError != 0:
		e.Kind = nvml.EventECCDouble
	case data.EventType&gonvml.EventTypeGpuUnavailableError != 0:
		e.Kind = nvml.EventUnavailable
	case data.EventType&gonvml.EventTypeGpuRecoveryAction != 0:
		e.Kind, e.Code = nvml.EventRecovery, int(data.EventData)
		e.Text = string(recoveryOf(uint32(data.EventData)))
	default:
		return nil
	}
	return e
}

func instance(id uint32) *int {
	if id == wholeGPU {
		return nil
	}
	return new(int(id))
}
