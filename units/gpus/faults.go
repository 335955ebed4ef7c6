package gpus

import (
	"fmt"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/nvml/health"
	"github.com/pool-managerd/pool-managerd/registry"
)

// Fault is a GPU error that belongs to one engine.
type Fault struct {
	Unit    string // the engine's unit; empty where only PID is known
	PID     int    // 0: unknown
	Device  string // the UUID of the GPU that PID uses; empty where Unit is set
	Failure *registry.Failure
	// Fatal says that the process is unusable even where it goes on: its CUDA context is broken.
	Fatal bool
}

// Outcome is what follows from one verdict.
type Outcome struct {
	Changes []health.Change
	Fault   *Fault // nil: it is no one's in particular
	// Device and Kind are set where a GPU or its driver must be reset: what
	// driver_reset_events_total counts. The same error, reported twice by two sources, is counted
	// once.
	Device, Kind string
	Verdict      classify.Verdict // with the device filled in where it was named by its place on the bus
	// Asks: it is a line of the kernel's log, which proves nothing. NVML should be asked now, and
	// its answer is noted by Asked and Overdue.
	Asks bool
}

// Note takes a verdict. unit is that of the log line, empty for one of the driver or the kernel.
func (b *Board) Note(v classify.Verdict, unit string, now time.Time) Outcome {
	noted := b.health.Note(v, now)
	v = noted.Verdict
	out := Outcome{Changes: noted.Changes, Verdict: v, Asks: noted.Asks}
	if noted.Fresh && !v.Hearsay() {
		out.Device, out.Kind = resetOf(v)
	}
	switch {
	case v.Hearsay() || v.Source == classify.SourceEvent:
		out.Fault = b.proven.note(v, now, func() *Fault { return b.newFault(v, "") })
	case unit != "" && v.Code != "":
		out.Fault = b.newFault(v, unit)
	}
	return out
}

// resetOf returns the GPU and the kind of a verdict by which it must be reset; empty: it need not.
func resetOf(v classify.Verdict) (device, kind string) {
	if v.Class == classify.ClassReset || v.Class == classify.ClassHost {
		return v.Device, v.Kind
	}
	return "", ""
}

func (b *Board) newFault(v classify.Verdict, unit string) *Fault {
	return &Fault{Unit: unit, PID: v.PID, Device: v.Device, Failure: b.faultOf(v), Fatal: v.Action.RestartsEngine()}
}

func (b *Board) faultOf(v classify.Verdict) *registry.Failure {
	return registry.Fail(codeOf(&v, registry.CodeCUDAError), b.placed(v.Text, v.Device), sentence(v.Hint))
}

// placed says on which GPU something happened, where the GPU is known.
func (b *Board) placed(text, uuid string) string {
	if d, ok := b.snapshot.Device(uuid); ok {
		return fmt.Sprintf("%s on GPU %d (%s)", text, d.Index, d.UUID)
	}
	return text
}

// Unit returns the unit of a process that holds memory of a GPU; empty where none is known.
func (b *Board) Unit(pid int) string {
	if b.snapshot == nil {
		return ""
	}
	for _, d := range b.snapshot.Devices {
		for _, p := range d.Processes {
			if p.PID == pid {
				return p.Unit
			}
		}
		for _, part := range d.Partitions {
			for _, p := range part.Processes {
				if p.PID == pid {
					return p.Unit
				}
			}
		}
	}
	return ""
}
