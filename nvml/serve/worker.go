package serve

import (
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// joining is the name of the call that hangs while the worker waits for the waiter.
const joining = "nvmlEventSetWait_v2"

// job is one task of the worker.
type job struct {
	watch  bool // events are wanted
	sample bool
	reopen bool // end the session first
}

// outcome is the result of a job: a snapshot, or a problem of the driver as a whole, or neither if
// no sample was requested.
type outcome struct {
	snapshot *nvml.Snapshot
	problem  *nvml.Problem
}

// worker owns the library: its goroutine makes every call but Wait, and owns the goroutine that
// calls Wait. A call may hang for ever, so the wait for the worker's end must be bounded.
type worker struct {
	library Library
	jobs    chan job
	results chan outcome
	events  chan *nvml.Event // from the waiter; a nil event: the wait failed, and events may have been missed
	ended   chan struct{}

	// Owned by the worker's goroutine.
	open    bool
	session string // its name; "" after the driver was unavailable
	waiter  *waiter

	joinSince atomic.Pointer[time.Time]
	waitSince atomic.Pointer[time.Time]
}

func startWorker(l Library) *worker {
	w := &worker{library: l, jobs: make(chan job), results: make(chan outcome, 1), events: make(chan *nvml.Event, 64),
		ended: make(chan struct{})}
	go w.run()
	return w
}

// run handles jobs until the channel is closed, then closes the session.
func (w *worker) run() {
	defer close(w.ended)
	for j := range w.jobs {
		w.results <- w.do(j)
	}
	w.close()
}

func (w *worker) do(j job) outcome {
	if j.reopen {
		// Keep the session's name: the driver was available all the time, and the faults of other
		// GPUs are not over.
		w.close()
	}
	if !w.open {
		if !j.sample {
			return outcome{}
		}
		if err := w.library.Open(); err != nil {
			return w.lose(err)
		}
		w.open = true
		if w.session == "" {
			w.session = rand.Text()
		}
	}
	if err := w.setWatch(j.watch); err != nil {
		return w.lose(err)
	}
	if !j.sample {
		return outcome{}
	}
	s, err := w.library.Sample() // after the registration, so that no change is missed
	if err != nil {
		return w.lose(err)
	}
	s.Session = w.session
	return outcome{snapshot: s}
}

// lose ends an unusable session.
func (w *worker) lose(err error) outcome {
	w.close()
	w.session = ""
	return outcome{problem: asProblem(err)}
}

func (w *worker) setWatch(on bool) error {
	switch {
	case on && w.waiter == nil:
		if err := w.library.Watch(); err != nil {
			return err
		}
		if w.library.Watching() {
			w.waiter = startWaiter(w.library, w.events, &w.waitSince)
		}
	case !on:
		w.unwatch()
	}
	return nil
}

// unwatch waits for the waiter before it frees the event set.
func (w *worker) unwatch() {
	if w.waiter != nil {
		w.joinSince.Store(new(time.Now()))
		w.waiter.stop()
		w.joinSince.Store(nil)
		w.waiter = nil
	}
	w.library.Unwatch()
}

func (w *worker) close() {
	w.unwatch()
	w.library.Close()
	w.open = false
}

// call returns the worker's running call and its start. It is safe for concurrent use.
func (w *worker) call() (name string, since time.Time) {
	if at := w.joinSince.Load(); at != nil {
		return joining, *at
	}
	return w.library.Call()
}

// waitingSince returns when the waiter's call began; zero: none is running.
func (w *worker) waitingSince() time.Time {
	if at := w.waitSince.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// asProblem converts an error that should be a *nvml.Problem.
func asProblem(err error) *nvml.Problem {
	if p, ok := err.(*nvml.Problem); ok {
		return p
	}
	return &nvml.Problem{Kind: nvml.ProblemOther, Text: err.Error()}
}

// Time limits of the waiter.
const (
	// waitTimeout is how long one call waits for an event. Nothing can interrupt it, and the end of
	// a session waits for it. One return a second costs very little.
	waitTimeout = time.Second
	// The retry interval of a wait that fails at once, doubling.
	waitRetry, waitRetryLast = time.Second, 60 * time.Second
)

// waiter is the goroutine that waits for events.
type waiter struct {
	quit chan struct{}
	done sync.WaitGroup
}

func startWaiter(l Library, events chan<- *nvml.Event, since *atomic.Pointer[time.Time]) *waiter {
	w := &waiter{quit: make(chan struct{})}
	w.done.Go(func() { w.run(l, events, since) })
	return w
}

// stop waits for at most waitTimeout, unless the driver hangs.
func (w *waiter) stop() {
	close(w.quit)
	w.done.Wait()
}

func (w *waiter) run(l Library, events chan<- *nvml.Event, since *atomic.Pointer[time.Time]) {
	pause := backoff{first: waitRetry, last: waitRetryLast}
	for {
		select {
		case <-w.quit:
			return
		default:
		}
		since.Store(new(time.Now()))
		e, err := l.Wait(waitTimeout)
		since.Store(nil)
		switch {
		case err != nil:
			if !w.fail(events, pause.next()) {
				return
			}
			continue
		case e != nil:
			if !w.send(events, e) {
				return
			}
		}
		pause.reset()
	}
}

// fail reports that events may be missed and pauses. It returns false if the waiter must end.
func (w *waiter) fail(events chan<- *nvml.Event, pause time.Duration) bool {
	if !w.send(events, nil) {
		return false
	}
	select {
	case <-w.quit:
		return false
	case <-time.After(pause):
		return true
	}
}

func (w *waiter) send(events chan<- *nvml.Event, e *nvml.Event) bool {
	select {
	case events <- e:
		return true
	case <-w.quit:
		return false
	}
}
