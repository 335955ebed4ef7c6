package systemd

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestJobTable(t *testing.T) {
	failed := &JobError{Unit: "u", Type: "start", Result: "failed"}
	cases := map[string]struct {
		play func(t *jobTable) *Job
		want error // nil: done
	}{
		"ends_after_the_answer": {func(t *jobTable) *Job {
			epoch := t.expect()
			job := t.claim(epoch, "/job/1", "u", "start")
			t.removed("/job/2", "failed")
			t.removed("/job/1", "done")
			return job
		}, nil},
		"ends_before_the_answer": {func(t *jobTable) *Job {
			epoch := t.expect()
			t.removed("/job/1", "failed")
			return t.claim(epoch, "/job/1", "u", "start")
		}, failed},
		"two_calls_get_one_job": {func(t *jobTable) *Job {
			epoch := t.expect()
			t.expect()
			t.claim(epoch, "/job/1", "u", "start")
			job := t.claim(epoch, "/job/1", "u", "start")
			t.removed("/job/1", "done")
			return job
		}, nil},
		"an_early_result_survives_other_calls": {func(t *jobTable) *Job {
			epoch := t.expect()
			t.expect()
			t.removed("/job/1", "failed")
			t.forget()
			return t.claim(epoch, "/job/1", "u", "start")
		}, failed},
		"lost_while_waiting": {func(t *jobTable) *Job {
			job := t.claim(t.expect(), "/job/1", "u", "start")
			t.lose()
			t.removed("/job/1", "done") // of another PID 1
			return job
		}, ErrDisconnected},
		"lost_between_call_and_answer": {func(t *jobTable) *Job {
			epoch := t.expect()
			t.removed("/job/1", "done")
			t.lose()
			return t.claim(epoch, "/job/1", "u", "start")
		}, ErrDisconnected},
		"works_again_after_a_loss": {func(t *jobTable) *Job {
			t.lose()
			job := t.claim(t.expect(), "/job/1", "u", "start")
			t.removed("/job/1", "done")
			return job
		}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			table := newJobTable()
			job := c.play(table)
			select {
			case <-job.done:
			default:
				t.Fatal("the job has not ended")
			}
			err := job.Wait(t.Context())
			var jobErr, want *JobError
			if errors.As(c.want, &want) {
				if !errors.As(err, &jobErr) || *jobErr != *want {
					t.Errorf("Wait = %v, want %v", err, want)
				}
			} else if !errors.Is(err, c.want) {
				t.Errorf("Wait = %v, want %v", err, c.want)
			}
			if len(table.waiting) != 0 {
				t.Errorf("%d jobs are still waited for", len(table.waiting))
			}
		})
	}
}

func TestJobTableForgetsResultsThatNobodyExpects(t *testing.T) {
	table := newJobTable()
	table.removed("/job/1", "done")
	epoch := table.expect()
	table.removed("/job/2", "done")
	table.claim(epoch, "/job/3", "u", "stop")
	if len(table.early) != 0 {
		t.Errorf("%d results are kept that no call expects", len(table.early))
	}
}

func TestJobWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newJobTable()
		job := table.claim(table.expect(), "/job/1", "u", "stop")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begun := time.Now()
		if err := job.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Hour {
			t.Errorf("Wait = %v after %s", err, time.Since(begun))
		}
		// The job itself continues.
		table.removed("/job/1", "done")
		if err := job.Wait(ctx); err != nil {
			t.Errorf("Wait after the end = %v, want nil although the context ended", err)
		}
	})
}

// TestNoJobIsExpectedOfALinkTakenAway: PID 1 leaves the bus while a call is about to be made.
func TestNoJobIsExpectedOfALinkTakenAway(t *testing.T) {
	c := NewClient(Options{})
	l := &link{jobs: newJobTable()}
	c.publish(l)
	s := &session{link: l, owner: ":1.1", emit: func(delivery) {}}
	s.publish = func(l *link) {
		if s.link.jobs.epoch != 0 {
			t.Error("the jobs are lost while calls can still expect some")
		}
		c.publish(l)
	}
	_, epoch, err := c.expectJob("StartUnit")
	if err != nil {
		t.Fatal(err)
	}
	s.ownerChanged("")
	if err := l.jobs.claim(epoch, "/job/1", "u", "start").Wait(t.Context()); !errors.Is(err, ErrDisconnected) {
		t.Errorf("a job of before: Wait = %v", err)
	}
	if _, _, err := c.expectJob("StartUnit"); !errors.Is(err, ErrDisconnected) {
		t.Errorf("a job is expected of a link that is taken away: %v", err)
	}
}
