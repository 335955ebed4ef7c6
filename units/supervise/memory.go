package supervise

import (
	"context"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/memory"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// Memory says what an engine needs, and whether there is as much. Its calls are made beside the
// loop.
type Memory interface {
	// Need reports what a replica needs. The only error is the context's: what cannot be found out
	// is an unknown need.
	Need(ctx context.Context, l Load) (memory.Need, error)
	// Try asks whether the need could be met now, without promising anything. A *registry.Failure
	// says what is missing; where no one can tell there is none.
	Try(ctx context.Context, unit string, l Load, need memory.Need) *registry.Failure
	// Record keeps the most that a run has used of each device.
	Record(ctx context.Context, l Load, s memory.Sample)
	// Raise keeps what a load lacked, for the need of the next start. It reports whether that is
	// more than was known. Lower forgets it, since a run serves.
	Raise(ctx context.Context, l Load, end memory.End) bool
	Lower(ctx context.Context, l Load)
}

// Load is what takes memory: a replica with its model, engine and devices.
type Load struct {
	Pool    pool.Pool
	Staged  pool.Staged
	Version string // of the engine
	Mask    []devices.Target
}

// load is what the replica's next or present run takes memory for.
func (r *replica) load() Load {
	return Load{Pool: r.wish.pool, Staged: r.prep.staged, Version: r.prep.prepared.Version, Mask: r.prep.planned}
}

// driverGrace is how long a driver may take to free what an ended engine held, 0.5 to 1.5 s as
// others saw; the pre-start step of the unit waits as long. Until then a GPU that looks full is no
// reason to put a start off.
const driverGrace = 10 * time.Second

// recordEvery is how often a growing peak is written down.
const recordEvery = time.Minute

// short tries whether there is enough memory, beside the loop. It is nil where there is, or where
// the unit's own step decides.
func (s *Supervisor) short(ctx context.Context, unit string, l Load, need memory.Need,
	settling bool) *registry.Failure {
	if s.o.Memory == nil || settling {
		return nil
	}
	return s.o.Memory.Try(ctx, unit, l, need)
}

// settling reports whether a device of the mask was left by another engine a moment ago. A need
// that was raised after the last load is compared all the same: its start is not worth a try.
func (s *Supervisor) settling(r *replica, now time.Time) bool {
	if r.prep.need.Raised != nil {
		return false
	}
	for _, t := range r.gpu.targets {
		if now.Sub(s.left[t.GPU]) < driverGrace {
			return true
		}
	}
	return false
}

// noteEnd records that a run ends, before its unit's change is taken: the driver releases its
// memory soon, and what it used is known.
func (s *Supervisor) noteEnd(r *replica, now time.Time) {
	for _, t := range r.gpu.targets {
		s.left[t.GPU] = now
	}
	s.record(r)
	for _, other := range s.masked() {
		if other != r && other.job.short != nil && other.job.short.Code == registry.CodeGPUUnavailable {
			other.job.startAt = now
			s.wakeAt(other.entry, now)
		}
	}
}

// noteMemory takes new facts: the peak of what runs, and whether there is enough for what waits.
func (s *Supervisor) noteMemory(r *replica) {
	if has(r.unit.phase) {
		s.notePeak(r)
	}
	enough, known := s.gpus.Enough(r.prep.need.Devices)
	if !known {
		return
	}
	came := enough && !r.gpu.enough
	r.gpu.enough = enough
	if !came {
		return
	}
	switch {
	case r.job.short != nil && r.unit.phase == reconcile.Absent, r.unit.phase == reconcile.Broken &&
		lacks(r.last.crash):
		r.job.startAt = time.Time{}
	case r.unit.phase == reconcile.Backoff && lacks(r.last.crash) && r.wait.err == nil:
		s.o.Log.Info("the memory that the engine lacked is free; it is started before its backoff is over",
			s.about(r)...)
		r.wait.take()
		s.saveHistory(r)
	}
}

// lacks reports whether a failure is about GPU memory.
func lacks(f *registry.Failure) bool { return f != nil && f.Code == registry.CodeInsufficientVRAM }

// lacking puts need, free memory and who has the rest into a start that failed for want of memory,
// as far as the newest facts tell.
func (s *Supervisor) lacking(r *replica, f *registry.Failure) *registry.Failure {
	if refusal := memory.Refusal(r.prep.need, s.gpus.Short(r.prep.need.Devices), r.prep.planned); refusal != nil {
		return refusal
	}
	return f
}

// notePeak keeps the most that this run has used of each device, and the least that it could have
// got. A run that has not served yet is not recorded: its peak may still grow.
func (s *Supervisor) notePeak(r *replica) {
	if len(r.gpu.targets) == 0 {
		return
	}
	p := &r.run.peaks
	if len(p.seen) != len(r.gpu.targets) {
		*p = peaks{seen: make([]memory.DeviceUse, len(r.gpu.targets))}
	}
	grown := false
	for i, t := range r.gpu.targets {
		seen, used := &p.seen[i], s.gpus.Used(r.unit.name, t.UUID)
		if used > seen.Used {
			seen.Used, grown = used, true
		}
		seen.Most = s.gpus.Most(t.UUID)
		// one that releases its memory says nothing: the driver shows that later as free
		if free, known := s.gpus.Free(t.UUID); known && used == seen.Used && (seen.Room == 0 || used+free < seen.Room) {
			seen.Room = used + free
		}
	}
	if p.began.IsZero() && r.unit.phase == reconcile.Active && r.run.verdict == reconcile.Healthy {
		p.began, grown = time.Now(), true
	}
	if grown && time.Since(p.recorded) >= recordEvery {
		s.record(r)
	}
}

// record writes the peaks of the run down, beside the loop, where they are of what is wanted.
func (s *Supervisor) record(r *replica) {
	p := &r.run.peaks
	if s.o.Memory == nil || !r.current() || p.began.IsZero() {
		return
	}
	p.recorded = time.Now()
	load, sample := r.load(), memory.Sample{Run: r.run.id, Started: p.began}
	for _, d := range p.seen {
		sample.Devices = append(sample.Devices, d.Used)
	}
	s.effect(func(ctx context.Context) func() {
		s.o.Memory.Record(ctx, load, sample)
		return func() {}
	}, func(error) {})
}
