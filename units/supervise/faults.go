package supervise

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/nvml/health"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/gpus"
	"github.com/pool-managerd/pool-managerd/units/lastwords"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// Journal reads the host's log.
type Journal interface {
	// Follow delivers lines from now on, in order, from one goroutine, and returns when it can no
	// longer do so.
	Follow(ctx context.Context, q systemd.JournalQuery, deliver func(systemd.JournalEntry)) error
	// Read returns the newest lines that match, at most limit, the oldest first.
	Read(ctx context.Context, q systemd.JournalQuery, limit int) ([]systemd.JournalEntry, error)
}

// Waits before the log is followed again, doubled each time.
const (
	journalFirst = time.Second
	journalMax   = time.Minute
)

// faultGrace is how long an engine may take to end by itself after a GPU error that leaves its
// process useless. Most do so within a second: then PID 1 restarts them, with its backoff.
const faultGrace = 3 * time.Second

// faultMemory is how long a GPU error explains the end of the engine that it hit.
const faultMemory = time.Minute

// fault is the newest GPU error of one run of an engine.
type fault struct {
	failure *registry.Failure
	run     string // the invocation
	at      time.Time
}

func classifyEvent(e nvml.Event) classify.Verdict { return classify.Event(e) }

// watchLogs follows the kernel's and the engines' log once there are GPUs that lines could be
// about. All fields of the query are journald's own (systemd.journal-fields(7)), which no client
// can set: the slice of a user's own manager is in another field, and a program that writes to
// /dev/kmsg never has the facility of the kernel.
func (s *Supervisor) watchLogs() {
	if s.o.Journal == nil || s.logs || !s.gpus.Any() {
		return
	}
	s.logs = true
	query := systemd.JournalQuery{
		Matches: []string{transportField + "=kernel", facilityField + "=0", "+", sliceMatch},
		Grep:    classify.Grep(), Fields: []string{"MESSAGE", transportField, facilityField, unitField},
	}
	limit := newLineLimit(s.o.Log)
	s.effects.Go(func() {
		followLog(s.ctx, s.o.Journal, s.o.Log, query, func(e systemd.JournalEntry) { s.logLine(e, limit) })
	})
}

// The journal's fields for where an entry comes from.
const (
	transportField = "_TRANSPORT"
	facilityField  = "SYSLOG_FACILITY" // of _TRANSPORT=kernel only journald's own
	unitField      = "_SYSTEMD_UNIT"
)

// sliceMatch matches the entries of all engines.
const sliceMatch = "_SYSTEMD_SLICE=" + pool.Slice

// followLog follows until ctx ends. After a break it goes on behind the last line that it has seen,
// so that what was logged meanwhile comes late and is not lost.
func followLog(ctx context.Context, j Journal, log *slog.Logger, query systemd.JournalQuery,
	deliver func(systemd.JournalEntry)) {
	query.Since = time.Now() // holds until there is a line to go on behind
	wait := journalFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := j.Follow(ctx, query, func(e systemd.JournalEntry) {
			query.After = e.Cursor
			deliver(e)
		})
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > journalMax {
			wait = journalFirst
		}
		log.Warn("could not follow the log; GPU errors in it are handled late", "err", err, "retry_in_ms",
			wait.Milliseconds())
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, journalMax)
	}
}

// logLine classifies one line, beside the loop: most are about nothing.
func (s *Supervisor) logLine(e systemd.JournalEntry, limit *lineLimit) {
	line := e.Message()
	if e.Fields[transportField] == "kernel" {
		if v, ok := classify.Kernel(line); ok && e.Fields[facilityField] == "0" && limit.take("", time.Now()) {
			s.post(func() { s.gpuVerdict(v, "", time.Now()) })
		}
		return
	}
	unit := e.Fields[unitField]
	if _, ours := pool.ParseUnit(unit); !ours {
		return
	}
	if v, ok := classify.EngineLog(line); ok {
		if limit.take(unit, time.Now()) {
			s.post(func() { s.gpuVerdict(v, unit, time.Now()) })
		}
	} else if classify.Retried(line) && limit.take(unit, time.Now()) {
		s.post(func() { s.clearOOM(unit) })
	}
}

// clearOOM forgets that an engine ran out of memory: it goes on without.
func (s *Supervisor) clearOOM(unit string) {
	if r := s.byUnitName(unit); r != nil && r.last.fault != nil && r.last.fault.failure.Code == registry.CodeCUDAOOM {
		r.last.fault = nil
	}
}

// gpuVerdict takes one classified error on the loop.
func (s *Supervisor) gpuVerdict(v classify.Verdict, unit string, now time.Time) {
	asking := s.gpus.Asks()
	out := s.gpus.Note(v, unit, now)
	v = out.Verdict
	attrs := append(aboutUnit(unit), "class", string(v.Class), "device", v.Device, "xid", v.Xid, "pid", v.PID, "hint",
		v.Hint)
	switch {
	case !v.Hearsay():
		s.o.Log.Warn("GPU error: "+v.Text, attrs...)
	case !out.Asks: // NVML has reported it, or it concerns no GPU's health
		s.o.Log.Info("the kernel's log reports a GPU error: "+v.Text, attrs...)
	case !asking: // further lines until the answer are counted
		s.o.Log.Warn("the kernel's log reports a GPU error, asking NVML: "+v.Text, append(attrs, "pci", v.PCI)...)
	}
	if out.Kind != "" {
		s.o.Observer.DriverReset(out.Device, out.Kind)
	}
	if out.Fault != nil {
		s.noteFault(*out.Fault, now)
	}
	if out.Asks {
		s.askNVML()
	}
	s.healthChanged(out.Changes, now)
	s.noteAnswers()
}

// healthChanged has pools leave GPUs that may no longer be used, and return to those that may.
func (s *Supervisor) healthChanged(changes []health.Change, now time.Time) {
	if len(changes) == 0 {
		return
	}
	for _, r := range s.masked() {
		s.updateBlocked(r, now)
		s.settle(r)
	}
	s.showGPUs()
}

// noteFault notes a GPU error of one engine. The line may come before or after the end of the
// process that it explains.
func (s *Supervisor) noteFault(f gpus.Fault, now time.Time) {
	r := s.culprit(f)
	if r == nil || r.wish.asks == reconcile.Unwanted {
		return
	}
	run := r.unit.status.InvocationID
	r.last.fault = &fault{failure: f.Failure, run: run, at: now}
	switch r.unit.phase {
	case reconcile.Backoff, reconcile.Broken:
		r.last.crash = f.Failure
		s.crashed(r, r.unit.status, "")
		s.settle(r)
	case reconcile.Active:
		if !f.Fatal {
			return
		}
		time.AfterFunc(faultGrace, func() {
			s.post(func() {
				if r.unit.status.InvocationID == run && r.unit.phase == reconcile.Active && r.run.fault == nil {
					r.run.fault = f.Failure
					s.settle(r)
				}
			})
		})
	}
}

// culprit is the replica that an error belongs to, nil where it is none of ours.
func (s *Supervisor) culprit(f gpus.Fault) *replica {
	unit := f.Unit
	if unit == "" {
		unit = s.gpus.Unit(f.PID)
	}
	if unit != "" {
		return onDevice(s.byUnitName(unit), f.Device)
	}
	for _, r := range s.masked() {
		if r.unit.status.MainPID == f.PID && f.PID != 0 {
			return onDevice(r, f.Device)
		}
	}
	return nil
}

// onDevice returns the replica if the GPU is in its mask; an empty uuid is in every mask.
func onDevice(r *replica, uuid string) *replica {
	if r == nil || uuid == "" || slices.ContainsFunc(r.gpu.targets, func(t devices.Target) bool {
		return t.GPU == uuid
	}) {
		return r
	}
	return nil
}

// explained puts the GPU error that ended a run before what PID 1 saw of its end, where one is
// known.
func (r *replica) explained(run string, ending registry.Failure, now time.Time) registry.Failure {
	if r.last.fault == nil || r.last.fault.run != run || now.Sub(r.last.fault.at) > faultMemory {
		return ending
	}
	return *registry.Fail(r.last.fault.failure.Code, lastwords.Redact(r.last.fault.failure.Message)+"; "+ending.Message,
		r.last.fault.failure.Hint)
}
