package supervise

import (
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// job is the call to PID 1 that is under way, at most one for a replica, and what former ones ended
// with. It is the only meaning of busy: whatever else takes long about a replica delays no action.
type job struct {
	action reconcile.Action // None: no call is under way
	seq    int              // counts calls: the late result of a former one is dropped

	startAt  time.Time         // when the next start is due; zero: at once
	short    *registry.Failure // what the newest start lacked: memory, or a GPU that another engine is on
	stopErr  *registry.Failure // of a stop that PID 1 did not carry out
	stopAt   time.Time         // when the next stop is due
	unsure   bool              // the answer to the last stop was lost, and the unit was not seen to run since
	attempts int               // that failed in a row
}

// begin takes note of a call, and returns its number.
func (j *job) begin(a reconcile.Action) (seq int) {
	j.action = a
	j.seq++
	return j.seq
}

// is reports whether the call of that number and kind is under way.
func (j *job) is(seq int, a reconcile.Action) bool { return j.seq == seq && j.action == a }

// end takes note that no call is under way.
func (j *job) end() { j.action = reconcile.None }

// nextAttempt counts a failed attempt and returns when the next is due.
func (j *job) nextAttempt(now time.Time) time.Time {
	at := now.Add(retryAfter(j.attempts))
	j.attempts++
	return at
}

// forgetAttempts makes the next start due at once, and the wait after a failed one the shortest.
func (j *job) forgetAttempts() { j.attempts, j.startAt = 0, time.Time{} }
