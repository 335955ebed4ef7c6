package gpus

import (
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/health"
)

// Answered is a fault that lines of the kernel's log reported, and what NVML answered.
type Answered struct {
	health.Resolved
	// Device and Kind are set where the fault counts and the GPU must be reset, as in Outcome.
	Device, Kind string
}

// Asks reports whether lines of the kernel's log wait for NVML's answer.
func (b *Board) Asks() bool { return b.health.Hinted() }

// Asked takes a sample that was taken to answer lines of the kernel's log. It changes no facts:
// those come by Update, in order.
func (b *Board) Asked(s *nvml.Snapshot, now time.Time) []health.Change { return b.health.Asked(s, now) }

// Overdue ends the wait for answers that NVML did not give in time.
func (b *Board) Overdue(now time.Time) []health.Change { return b.health.Expire(now) }

// Answers returns what NVML answered since the last call.
func (b *Board) Answers() []Answered {
	var out []Answered
	for _, r := range b.health.Resolved() {
		a := Answered{Resolved: r}
		if r.Fresh {
			a.Device, a.Kind = resetOf(r.Verdict)
		}
		out = append(out, a)
	}
	return out
}
