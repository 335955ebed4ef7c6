package systemd

import (
	"context"
	"fmt"
	"sync"

	"github.com/godbus/dbus/v5"
)

// Job is a job that PID 1 accepted. Many goroutines may wait for it.
type Job struct {
	Unit string
	Type string // "start", "stop", "restart"

	done chan struct{}
	err  error // final once done is closed
}

// Wait waits until the job ended: nil when it is "done", else a *JobError. ErrDisconnected: PID 1
// or the connection went away first, and the job may end in any way; read the state. The end of ctx
// ends the wait, not the job. Wait is not ordered with the updates that the job causes.
func (j *Job) Wait(ctx context.Context) error {
	select {
	case <-j.done:
		return j.err
	default:
	}
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return fmt.Errorf("%s job of %s has not ended yet: %w", j.Type, j.Unit, context.Cause(ctx))
	}
}

func (j *Job) finish(result string) {
	if result != "done" {
		j.err = &JobError{Unit: j.Unit, Type: j.Type, Result: result}
	}
	close(j.done)
}

func (j *Job) lose() {
	j.err = fmt.Errorf("%s job of %s: %w", j.Type, j.Unit, ErrDisconnected)
	close(j.done)
}

// jobTable matches JobRemoved signals to the calls that queued the jobs. A job can end before the
// answer that names it arrives, so results are kept while such an answer is pending.
type jobTable struct {
	mu       sync.Mutex
	epoch    int // counts losses: an answer from before one names a job that is no longer watched
	expected int // pending calls that may return a job
	early    map[dbus.ObjectPath]string
	waiting  map[dbus.ObjectPath][]*Job
}

func newJobTable() *jobTable {
	return &jobTable{
		early:   make(map[dbus.ObjectPath]string),
		waiting: make(map[dbus.ObjectPath][]*Job),
	}
}

// expect announces a call that may return a job; claim, with the number returned here, or forget
// must follow.
func (t *jobTable) expect() (epoch int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expected++
	return t.epoch
}

// forget cancels an expect whose call returned no job.
func (t *jobTable) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unexpect()
}

func (t *jobTable) unexpect() {
	t.expected--
	if t.expected == 0 {
		clear(t.early)
	}
}

// claim creates the job that an expected call returned. Two calls may get the same job.
func (t *jobTable) claim(epoch int, path dbus.ObjectPath, unit, kind string) *Job {
	t.mu.Lock()
	defer t.mu.Unlock()
	job := &Job{Unit: unit, Type: kind, done: make(chan struct{})}
	result, ended := t.early[path]
	switch {
	case epoch != t.epoch:
		job.lose()
	case ended:
		job.finish(result)
	default:
		t.waiting[path] = append(t.waiting[path], job)
	}
	t.unexpect()
	return job
}

// removed handles JobRemoved.
func (t *jobTable) removed(path dbus.ObjectPath, result string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, job := range t.waiting[path] {
		job.finish(result)
	}
	delete(t.waiting, path)
	if t.expected > 0 {
		t.early[path] = result
	}
}

// lose ends every wait, also for answers still pending, with ErrDisconnected: PID 1's signals were
// missed for a while.
func (t *jobTable) lose() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch++
	for _, jobs := range t.waiting {
		for _, job := range jobs {
			job.lose()
		}
	}
	clear(t.waiting)
	clear(t.early)
}
