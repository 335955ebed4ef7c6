// Package supervise carries the plan out. One goroutine, the loop, owns every pool and replica of
// the host; it takes events in (unit changes, probe results, finished effects, a new
// configuration), asks package reconcile what is next, and starts effects in goroutines that it
// waits for. An effect never touches the loop's data: it posts its result back as an event.
//
// It owns the order of things and the one writer of ready. It must not decide (package
// reconcile), render (package render) or serve (registry/api).
package supervise

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/bench"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/gpus"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/listen"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/probe"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// PID1 is what the supervisor asks of systemd. Every call honours its context; none is made on the
// loop.
type PID1 interface {
	// Run follows units until ctx ends and delivers updates in order from one goroutine.
	Run(ctx context.Context, deliver func(systemd.Update)) error
	// Start makes the transient unit, in place of one that has ended, and returns when PID 1 has
	// taken the job; wait returns when the job has ended. The job of an engine ends when its gate
	// passed or failed, which may take as long as the model loads.
	Start(ctx context.Context, unit string, props []systemd.Property) (wait func(context.Context) error, err error)
	// Stop returns when the stop job has ended.
	Stop(ctx context.Context, unit string) error
	// StopWaiting is Stop for a unit that waits for its restart. systemd.ErrJobExists: PID 1 has
	// begun the restart, which goes on.
	StopWaiting(ctx context.Context, unit string) error
	// Clear lets PID 1 forget a unit that has ended: reset-failed, and the reference released. As
	// with Unit, the updates that are older were delivered when it returns.
	Clear(ctx context.Context, unit string) error
	// Adopt takes a reference, so that a unit of a former manager keeps its counters when it ends.
	Adopt(ctx context.Context, unit string) error
	SetProperties(ctx context.Context, unit string, props []systemd.Property) error
	// Unit returns when the updates that are older than the answer were delivered.
	Unit(ctx context.Context, unit string) (systemd.Status, error)
	// Kill sends SIGKILL to every process of a unit.
	Kill(ctx context.Context, unit string) error
	// HoldPort starts the socket unit of a port, unless it listens already. HeldPorts are the ports
	// with such a unit, of former managers too. ReleasePort returns when both units of a port have
	// ended.
	HoldPort(ctx context.Context, p *render.Port) error
	HeldPorts(ctx context.Context) ([]pool.Port, error)
	ReleasePort(ctx context.Context, p pool.Port) error
	// ResetCounters lets a unit's restart counter and start limit start again from zero, while it
	// runs.
	ResetCounters(ctx context.Context, unit string) error
}

// Stager makes the model present; Preparer the engine. Both fail with a *registry.Failure.
type (
	Stager interface {
		// Stage calls report, from any goroutine, with the progress of a download.
		Stage(ctx context.Context, p pool.Pool, report func(pool.Staging)) (pool.Staged, error)
		// Identify returns the Contents of a pool's model as it is now.
		Identify(ctx context.Context, p pool.Pool) string
	}
	Preparer interface {
		Prepare(ctx context.Context, p pool.Pool, a engine.Adapter) (pool.Prepared, error)
	}
)

// Prober asks an engine whether it serves, and over HTTP what it does.
type Prober interface {
	// Schedule returns a schedule of probes. It runs each step by guard, which converts a panic to
	// an error, and calls deliver from its goroutine.
	Schedule(guard func(func() error) error, deliver func([]probe.Result)) *probe.Schedule
	Generate(ctx context.Context, g probe.Generation) (probe.Outcome, error)
	Get(ctx context.Context, url string, limit int64) ([]byte, error)
	// UseKey has requests to the engine at host carry a key, which read returns; nil: they have
	// none.
	UseKey(host string, read func() string)
	// Reason folds a probe's error into one of a few words for a metric's label.
	Reason(err error) string
	// CloseIdle closes the connections to the engine at host ("127.0.0.1:21000"): some engines
	// count an idle one as work to be waited for when they stop (Triton, 30 s).
	CloseIdle(host string)
}

// Ports hands out the replicas' TCP ports. It is called on the loop only.
type Ports interface {
	Claim(r pool.Replica, want int) (int, error)
	Reserve(ports []int)
	Adopt(r pool.Replica, port int)
	Release(r pool.Replica)
}

// Observer counts what happens, for metrics. Calls come from the loop and must not block.
type Observer interface {
	Restarted(p registry.Pool, reason string, n int)
	RestartScheduled(p registry.Pool, reason string, delay time.Duration)
	Probed(p registry.Pool, reason string, took time.Duration) // reason is empty for a success
	DriverReset(device, kind string)                           // a GPU or its driver must be reset
	LogReport(answer string)                                   // NVML's answer about a line of the kernel's log
	AnswerRefused(p registry.Pool, subject string)             // an answer of an engine is not believed
	// what the engine of a replica, of that version, counted since it was last asked
	Counted(p registry.Pool, replica, version string, c registry.Counted)
	Reloaded(p registry.Pool, took time.Duration, reason string) // a reload has ended; reason is empty for a success
	Storm(p registry.Pool, class string)                         // an engine restarts too often in too short a time
	Breaker(p registry.Pool, state string)                       // a replica's breaker is in another state
	Turned(took time.Duration)                                   // the loop has taken what was queued
	Preloaded(outcome string)                                    // a preload has ended; one of PreloadOutcomes
	// a drain of one replica has ended, forced: at its deadline
	Drained(p registry.Pool, took time.Duration, forced bool)
}

// Options are the supervisor's parts.
type Options struct {
	PID1     PID1
	Stager   Stager
	Preparer Preparer
	Prober   Prober
	Ports    Ports
	PortFree func(port int) error
	Registry *registry.Registry
	Observer Observer
	Log      *slog.Logger
	Host     render.Host // facts of this host, completed by what PID 1 can do

	// GPUs reports what GPUs there are, Memory what engines need of them, Journal what the kernel
	// and the engines log about them. Any may be nil: then nothing is known of it, and a pool that
	// asks for a GPU is not started.
	GPUs    nvml.Source
	Memory  Memory
	Journal Journal

	// Activity reads what a unit's processes have used, false if unknown. It may be nil.
	Activity func(unit string) (Activity, bool)

	// Crowd returns who has connections to a port of the loopback. It may be nil.
	Crowd func(port int) (listen.Clients, error)

	// Measure receives each run of an engine that serves. It is called on the loop and must not
	// block. It may be nil.
	Measure func(bench.Target)

	// Leases counts who uses what. Keep writes down what operators ask for, Intents is what was
	// written down before, and Clock measures its deadlines.
	Leases  Leases
	Keep    Keep
	Intents map[string]keep.Intent
	Clock   keep.Clock

	// Histories keeps past failures, and SavedHistories is what a former manager of this boot kept.
	Histories      Histories
	SavedHistories map[string]json.RawMessage

	// Status receives one line for systemctl status whenever it changes; Beat is called by the
	// loop at least every BeatEvery while it makes progress, to feed the watchdog.
	Status    func(string)
	Beat      func()
	BeatEvery time.Duration
}

// Supervisor owns the pools of one host. Make one with New, then call Run once.
type Supervisor struct {
	o       Options
	events  chan func()
	effects effects
	starts  chan struct{} // bounds the start jobs that PID 1 is asked for at once
	stops   chan struct{} // bounds the engines that end at once
	ctx     context.Context

	// The loop's own; touched by no other goroutine.
	host       render.Host // facts of this host, and what its PID 1 can do
	entries    map[string]*entry
	wanted     Desired
	applied    bool // a configuration was applied at least once
	connected  bool // PID 1's units are known
	everSynced bool // they were known at least once
	adopting   map[*replica]bool
	adopted    chan struct{} // closed when adoption is complete
	due        dueTimes      // pools that wait for a time
	probes     *probe.Schedule
	status     string
	dirty      bool // the status line may have changed

	forgotten       map[string]string // the last run of units that are gone, whose last signals may still come
	savingHistories bool              // past failures are being written down
	unsaved         map[string]json.RawMessage

	gpus *gpus.Board
	// diskOver: an engine has more on the disk than it may. Other goroutines read it.
	diskOver atomic.Bool
	left     map[string]time.Time // when an engine last ended on a GPU, by UUID
	logs     bool                 // the log is followed
	clearing map[string]bool      // pools that are gone and whose record is being deleted
	// asking: NVML is being asked about lines of the kernel's log.
	asking bool
	// unread are the logs of ended runs that wait to be read.
	unread unreadLogs
	first  sync.Once // closes gpusKnown
	// gpusKnown is closed when the host's GPUs became known. Effects wait for it.
	gpusKnown chan struct{}
}

// maxStarts bounds the start requests that wait for PID 1's answer at the same time, so that five
// hundred pools do not fill the bus's queue; the loads themselves go on side by side.
const maxStarts = 16

// adoptionGrace bounds how long adoption waits for the first probe of what already ran.
const adoptionGrace = 800 * time.Millisecond

// New makes a supervisor that knows no pools yet.
func New(o Options) *Supervisor {
	s := &Supervisor{
		o:         o,
		host:      o.Host,
		events:    make(chan func(), 64),
		starts:    make(chan struct{}, maxStarts),
		stops:     make(chan struct{}, maxStops),
		entries:   make(map[string]*entry),
		adopting:  make(map[*replica]bool),
		adopted:   make(chan struct{}),
		forgotten: make(map[string]string),
		clearing:  make(map[string]bool),
		unsaved:   make(map[string]json.RawMessage),
		gpus:      gpus.New(time.Now()),
		left:      make(map[string]time.Time),
		gpusKnown: make(chan struct{}),
	}
	s.probes = o.Prober.Schedule(s.guard, s.results)
	return s
}

// Adopted is closed once the units that ran before this manager are known and each was probed
// once, or adoptionGrace has passed. What the registry says is right from then on.
func (s *Supervisor) Adopted() <-chan struct{} { return s.adopted }

// Run is the loop, with the first configuration. It returns when ctx has ended, or the connection
// to PID 1 for good, and every effect with it; engines go on. The error is the cause.
func (s *Supervisor) Run(ctx context.Context, first Desired) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.ctx = ctx
	s.apply(first)
	s.effects.Go(func() {
		err := s.o.PID1.Run(ctx, func(u systemd.Update) { s.post(func() { s.update(u) }) })
		if ctx.Err() == nil {
			cancel(fmt.Errorf("lost the connection to PID 1: %w", err))
		}
	})
	s.effects.Go(func() { s.probes.Run(ctx) })
	s.followGPUs(ctx)
	s.loop(ctx)
	cancel(nil)
	s.effects.all.Wait()
	return context.Cause(ctx)
}

func (s *Supervisor) loop(ctx context.Context) {
	beat := time.NewTicker(s.o.BeatEvery)
	defer beat.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s.report()
		select {
		case <-ctx.Done():
			return
		case ev := <-s.events:
			began := time.Now()
			ev()
			s.drainEvents()
			s.arm(timer)
			s.o.Observer.Turned(time.Since(began))
		case <-timer.C:
			began := time.Now()
			s.decideDue(began)
			s.arm(timer)
			s.o.Observer.Turned(time.Since(began))
		case <-beat.C:
			s.o.Beat()
		}
	}
}

// drainEvents takes what is queued already, so that a burst costs one status line.
func (s *Supervisor) drainEvents() {
	for range cap(s.events) {
		select {
		case ev := <-s.events:
			ev()
		default:
			return
		}
	}
}

// post hands an event to the loop. It gives up when the supervisor ends.
func (s *Supervisor) post(ev func()) {
	select {
	case s.events <- ev:
	case <-s.ctx.Done():
	}
}

// effects are the goroutines beside the loop.
type effects struct {
	all  sync.WaitGroup
	runs atomic.Int64
}

// Go runs f in a goroutine of its own.
func (e *effects) Go(f func()) {
	e.runs.Add(1)
	e.all.Go(func() {
		defer e.runs.Add(-1)
		f()
	})
}

// InProgress is how many goroutines run beside the loop: starts, stops, questions to engines,
// downloads, and a few that follow PID 1, the GPUs and the schedule of probes.
func (s *Supervisor) InProgress() int { return int(s.effects.runs.Load()) }

// effect runs f beside the loop and posts what it returns. A panic in f is posted as broken
// instead: it is one replica's failure and no other's.
func (s *Supervisor) effect(f func(ctx context.Context) (done func()), broken func(error)) {
	s.effects.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				err := fmt.Errorf("internal error: %v", p)
				s.o.Log.Error("a background operation panicked", "err", err, "stack", string(debug.Stack()))
				s.post(func() { broken(err) })
			}
		}()
		s.post(f(s.ctx))
	})
}

// guard turns a panic in f into an error: a defect that one pool meets is that pool's failure.
func (s *Supervisor) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("internal error: %v", p)
			s.o.Log.Error("recovered from a panic", "err", err, "stack", string(debug.Stack()))
		}
	}()
	return f()
}

// arm sets the loop's only timer to the earliest time that a pool waits for.
func (s *Supervisor) arm(t *time.Timer) {
	first := s.due.first()
	if first.IsZero() {
		t.Reset(time.Hour)
		return
	}
	t.Reset(max(time.Until(first), time.Millisecond))
}
