package probe

import (
	"context"
	"sync"
	"time"
)

// Target is an engine that is probed again and again.
type Target struct {
	Check    Check
	Interval time.Duration
	// Early is how much sooner than its interval the second probe comes, so that engines that
	// became ready together are not probed together for ever.
	Early time.Duration
	Key   any // of the caller; it is in each Result
}

// Result is a probe that has ended.
type Result struct {
	Key  any
	Err  error // as Probe returns it
	Took time.Duration
}

// Schedule probes many engines, each at its interval, from one goroutine, which sleeps until
// something is due or has arrived. Requests to engines that are due at the same moment are sent one
// after the other, and their answers are read as they arrive.
//
// What may take longer than a system call, such as a connection that must be opened or an answer in
// pieces, has a goroutine of its own until that probe has ended. So an engine that hangs delays no
// other, and there are as many such goroutines as engines that hang.
type Schedule struct {
	probe   func(context.Context, Check) error
	guard   func(func() error) error
	deliver func([]Result)
	lines   *lines // nil: every probe has a goroutine
	sleep   sleeper

	mu     sync.Mutex
	orders []func() // for the owner
	ended  bool     // ignores further orders

	// Of the goroutine that runs Run.
	ctx       context.Context
	due       watches
	flying    map[uint64]*Watch // probes that were sent on a line
	held      []Result          // not delivered yet
	heldUntil time.Time
	workers   sync.WaitGroup
}

// sleeper is how the owner waits.
type sleeper interface {
	// wait returns at a time, or earlier: after wake was called, or with the lines on which
	// something arrived.
	wait(until time.Time) (arrived []uint64)
	// wake makes wait return, the current call or the next. It may be called from any goroutine.
	wake()
}

// Times of a schedule.
const (
	together = time.Millisecond     // what is due so soon is sent with what is due now
	gather   = 5 * time.Millisecond // a success waits so long for those that were sent with it
	never    = time.Hour            // the longest sleep
	inARow   = 16                   // requests that are sent before answers are read again
)

// Watch is one target of a schedule.
type Watch struct {
	s      *Schedule
	target Target

	// Of the owner.
	at      time.Time // when it is due, or its time is over; not meant while a worker has it
	index   int       // in due, plus one; 0: it is not there
	began   time.Time // of the probe under way
	line    uint64    // on which it was sent; 0: on none
	cancel  context.CancelFunc
	probed  bool
	stopped bool
}

// NewSchedule returns a schedule whose probes are made by a function that waits for the answer.
// guard runs a step and converts its panic to an error; deliver gets results in the order of their
// ends, some at once, and is called by the schedule's goroutine.
func NewSchedule(probe func(context.Context, Check) error, guard func(func() error) error,
	deliver func([]Result)) *Schedule {
	return &Schedule{probe: probe, guard: guard, deliver: deliver, sleep: newTimer(), flying: make(map[uint64]*Watch)}
}

// Schedule returns a schedule that uses the Prober's connections.
func (p *Prober) Schedule(guard func(func() error) error, deliver func([]Result)) *Schedule {
	s := NewSchedule(p.Probe, guard, deliver)
	if l, err := newLines(p); err == nil { // without, each probe has a goroutine for as long as it takes
		s.lines, s.sleep = l, l
	}
	return s
}

// Add has a target probed at once, and then at its interval.
func (s *Schedule) Add(t Target) *Watch {
	w := &Watch{s: s, target: t}
	s.order(func() { s.begin(w) })
	return w
}

// Stop ends the probes of a target. The one under way is given up; a result that is on its way may
// still be delivered.
func (w *Watch) Stop() { w.s.order(func() { w.s.stop(w) }) }

// order has the owner do something.
func (s *Schedule) order(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.orders = append(s.orders, f)
		s.sleep.wake()
	}
}

// Run probes until ctx ends, and returns when every probe under way has ended.
func (s *Schedule) Run(ctx context.Context) {
	s.ctx = ctx
	defer s.end()
	defer context.AfterFunc(ctx, s.sleep.wake)()
	for s.takeOrders(); ctx.Err() == nil; s.takeOrders() {
		s.begin(s.due.take(time.Now().Add(together))...)
		s.release(time.Now())
		s.arrived(s.sleep.wait(s.next()))
	}
}

func (s *Schedule) end() {
	s.mu.Lock()
	s.ended, s.orders = true, nil
	s.mu.Unlock()
	s.workers.Wait()
	if s.lines != nil {
		s.lines.close()
	}
}

func (s *Schedule) takeOrders() {
	s.mu.Lock()
	orders := s.orders
	s.orders = nil
	s.mu.Unlock()
	for _, f := range orders {
		f()
	}
}

// next is until when the owner may sleep.
func (s *Schedule) next() time.Time {
	next := time.Now().Add(never)
	if first := s.due.first(); !first.IsZero() && first.Before(next) {
		next = first
	}
	if len(s.held) > 0 && s.heldUntil.Before(next) {
		next = s.heldUntil
	}
	return next
}

// begin probes what is due, and ends the probes whose time is over.
func (s *Schedule) begin(due ...*Watch) {
	for i, w := range due {
		if i%inARow == inARow-1 && len(s.flying) > 0 {
			s.arrived(s.lines.ready())
		}
		switch {
		case w.stopped:
		case w.line != 0 && w.at.After(time.Now()):
			s.due.add(w) // its time is not over yet
		case w.line != 0:
			s.over(w)
		default:
			s.ask(w)
		}
	}
}

// ask sends one probe, or has a worker make it.
func (s *Schedule) ask(w *Watch) {
	w.began = time.Now()
	if s.lines != nil {
		if w.line = s.lines.send(w.target.Check); w.line != 0 {
			s.flying[w.line], w.at = w, w.began.Add(w.target.Check.Timeout)
			s.due.add(w)
			return
		}
	}
	s.work(w, func(ctx context.Context) error { return s.probe(ctx, w.target.Check) })
}

// work has a goroutine finish a probe.
func (s *Schedule) work(w *Watch, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(s.ctx)
	w.cancel = cancel
	s.workers.Go(func() {
		err := s.guard(func() error { return f(ctx) })
		took := time.Since(w.began)
		s.order(func() { s.finish(w, err, took) })
	})
}

// arrived reads the answers on lines.
func (s *Schedule) arrived(lines []uint64) {
	for _, line := range lines {
		w := s.flying[line]
		if w == nil {
			continue // it is idle, or another request is on it
		}
		var rest func(context.Context) error
		complete := false
		err := s.guard(func() (err error) {
			complete, rest, err = s.lines.receive(line, w.target.Check)
			return err
		})
		switch {
		case rest != nil:
			s.land(w)
			s.work(w, func(ctx context.Context) error {
				ctx, cancel := context.WithDeadline(ctx, w.began.Add(w.target.Check.Timeout))
				defer cancel()
				return rest(ctx)
			})
		case complete || err != nil:
			s.land(w)
			s.finish(w, err, time.Since(w.began))
		}
	}
}

// land ends a probe's use of its line.
func (s *Schedule) land(w *Watch) {
	delete(s.flying, w.line)
	s.due.drop(w)
	w.line = 0
}

// over ends a probe that got no answer in time.
func (s *Schedule) over(w *Watch) {
	s.lines.drop(w.line)
	s.land(w)
	s.finish(w, failed(context.DeadlineExceeded, w.target.Check.Timeout), time.Since(w.began))
}

// finish takes the result of a probe, and has the next one be due.
func (s *Schedule) finish(w *Watch, err error, took time.Duration) {
	if w.cancel != nil {
		w.cancel()
		w.cancel = nil
	}
	if w.stopped {
		return
	}
	now, wait := time.Now(), w.target.Interval
	if !w.probed {
		w.probed, wait = true, wait-w.target.Early
	}
	w.at = now.Add(onGrid(now, wait, w.target.Interval))
	s.due.add(w)
	if len(s.held) == 0 || err != nil {
		s.heldUntil = now
	}
	if len(s.held) == 0 && err == nil && len(s.flying) > 0 {
		s.heldUntil = now.Add(gather)
	}
	s.held = append(s.held, Result{w.target.Key, err, took})
	if len(s.flying) == 0 {
		s.heldUntil = now
	}
}

// release delivers the results that waited for others, once none is on its way or the wait is over.
func (s *Schedule) release(now time.Time) {
	if len(s.held) > 0 && !now.Before(s.heldUntil) {
		s.deliver(s.held)
		s.held = nil
	}
}

// stop ends the probes of a target.
func (s *Schedule) stop(w *Watch) {
	w.stopped = true
	if w.cancel != nil {
		w.cancel() // its worker reports the end, which is dropped
	}
	if w.line != 0 {
		s.lines.drop(w.line)
		delete(s.flying, w.line)
		w.line = 0
	}
	s.due.drop(w)
}
