package supervise

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// property is a property that a unit was made with, zero if it has none.
func property[T any](w *world, unit, name string) (value T) {
	for _, p := range w.props[unit] {
		if p.Name == name {
			value, _ = p.Value.(T)
		}
	}
	return value
}

// delays are a unit's RestartUSec and RestartUSecNext, by what it was made with.
func (w *world) delays(unit string, restarts int) (first, next uint64) {
	first = property[uint64](w, unit, "RestartUSec")
	steps, longest := property[uint32](w, unit, "RestartSteps"), property[uint64](w, unit, "RestartMaxDelayUSec")
	switch {
	case steps == 0 || restarts == 0 || longest <= first:
		return first, first
	case restarts >= int(steps):
		return first, longest
	}
	growth := math.Pow(float64(longest)/float64(first), float64(restarts)/float64(steps))
	return first, uint64(float64(first) * growth)
}

// loaded is a PID 1 on a host under load, whose engines all end soon: it takes calls late, signals
// some changes as one, starts engines again by itself, and refuses starts past its limit.
type loaded struct {
	*world
	r *rand.Rand

	ctx       context.Context // ends with the test
	goes      sync.WaitGroup
	mu        sync.Mutex
	executed  int // engines
	cut       int // runs that a stop ended
	lostCalls bool
}

// upTo sleeps for a part of d.
func (l *loaded) upTo(d time.Duration) {
	l.mu.Lock()
	n := l.r.Int64N(int64(d))
	l.mu.Unlock()
	sleep(l.ctx, time.Duration(n))
}

// one reports true once in n times.
func (l *loaded) one(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.IntN(n) == 0
}

func (l *loaded) Start(ctx context.Context, unit string, props []systemd.Property) (func(context.Context) error,
	error) {
	l.upTo(3 * time.Second)
	wait, err := l.world.Start(ctx, unit, props)
	if err == nil {
		l.execute()
		l.goes.Go(func() { l.live(unit) })
	}
	return wait, err
}

func (l *loaded) execute() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.executed++
}

func (l *loaded) StopWaiting(ctx context.Context, unit string) error {
	l.upTo(6 * time.Second)
	if l.lostCalls && l.one(4) {
		return systemd.ErrDisconnected
	}
	err := l.world.StopWaiting(ctx, unit)
	if l.lostCalls && l.one(4) {
		return systemd.ErrDisconnected
	}
	return err
}

func (l *loaded) Stop(ctx context.Context, unit string) error {
	l.upTo(6 * time.Second)
	l.world.mu.Lock()
	st := l.units[unit]
	runs := st != nil && st.MainPID != 0
	l.world.mu.Unlock()
	if runs {
		l.mu.Lock()
		l.cut++
		l.mu.Unlock()
	}
	return l.world.Stop(ctx, unit)
}

// live is the life of a unit: its runs, and PID 1's restarts of it.
func (l *loaded) live(unit string) {
	l.world.mu.Lock()
	st, burst := l.units[unit], property[uint32](l.world, unit, "StartLimitBurst")
	l.world.mu.Unlock()
	for starts := uint32(1); ; starts++ {
		l.upTo(3 * time.Second)
		if !l.becomes(unit, st, "start-post", func(st *systemd.Status) {
			ends("exit-code", cldExited, 1)(st)
			st.WasActive, st.RestartUSec, st.JobID = false, 0, 0
		}) {
			return
		}
		l.world.mu.Lock()
		job, delay := l.ended[unit], time.Duration(st.RestartUSecNext)*time.Microsecond
		l.world.mu.Unlock()
		select {
		case job <- &systemd.JobError{Unit: unit, Type: "start", Result: "failed"}:
		default: // of a restart no one waits for the job
		}
		sleep(l.ctx, delay)
		l.upTo(time.Second)
		queued := "auto-restart-queued"
		if l.below254 {
			queued = "auto-restart"
		}
		if !l.becomes(unit, st, "auto-restart", func(st *systemd.Status) {
			st.SubState, st.JobID, st.NRestarts = queued, 7, st.NRestarts+1
		}) {
			return
		}
		l.upTo(time.Second)
		if burst > 0 && starts >= burst {
			l.becomes(unit, st, queued, func(st *systemd.Status) {
				st.ActiveState, st.SubState, st.JobID = "failed", "failed", 0
				if !l.below254 {
					st.Result = startLimitHit
				}
			})
			return
		}
		if !l.becomes(unit, st, queued, func(st *systemd.Status) {
			l.runs++
			st.SubState, st.Result, st.InvocationID = "start-post", "success", fmt.Sprintf("%032d", l.runs)
			st.MainPID = 1000 + l.runs
		}) {
			return
		}
		l.execute()
	}
}

// becomes changes a unit that still is in a state, and sometimes signals it only with the next
// change.
func (l *loaded) becomes(unit string, st *systemd.Status, from string, change func(*systemd.Status)) bool {
	l.world.mu.Lock()
	same := l.ctx.Err() == nil && l.units[unit] == st && st.SubState == from
	l.world.mu.Unlock()
	if !same {
		return false
	}
	signalled, passes := len(l.queue), false
	l.change(unit, func(st *systemd.Status) {
		change(st)
		passes = from != "start-post" && st.ActiveState == "activating"
	})
	if passes && l.one(3) && len(l.queue) == signalled+1 {
		select {
		case <-l.queue:
		default: // it was delivered
		}
	}
	return true
}

// logs is a journal that takes a while and has the same line of every run.
type logs struct {
	runLog
	l    *loaded
	line string
}

func (j *logs) Read(ctx context.Context, q systemd.JournalQuery, _ int) (out []systemd.JournalEntry, _ error) {
	j.l.upTo(2 * time.Second)
	for _, match := range q.Matches {
		field, run, _ := strings.Cut(match, "=")
		out = append(out, systemd.JournalEntry{Fields: map[string]string{"MESSAGE": j.line, field: run}})
	}
	return out, ctx.Err()
}

// TestBreakerOpensAfterExactlyItsRuns: however late PID 1 takes a call, and whatever dies
// meanwhile, the engine is executed as often as breaker_failures says, each run counts once, and
// none is cut.
func TestBreakerOpensAfterExactlyItsRuns(t *testing.T) {
	for seed := range uint64(60) {
		name := fmt.Sprintf("seed_%d", seed)
		scenario(t, name, func(t *testing.T, w *world) {
			ctx, cancel := context.WithCancel(t.Context())
			l := &loaded{world: w, r: rand.New(rand.NewPCG(seed, 9)), ctx: ctx, lostCalls: seed%4 == 3}
			defer l.goes.Wait()
			defer cancel()
			w.below254 = seed%3 == 0
			line := []string{"error: no such file", cudaLine}[seed%2]
			p := llama("a", func(p *pool.Pool) {
				p.Restart.BreakerFailures, p.Restart.BreakerTimeout, p.Restart.ClassFactor = 5, 100*time.Hour, 2
				p.Restart.Jitter = 0.1
				if seed%5 == 0 {
					p.Restart.Initial, p.Restart.Factor, p.Restart.Max = 100*time.Millisecond, 1, 100*time.Millisecond
				}
			})
			n := notes{}
			manage := func() *manager {
				return w.manage(t, pools(p), withNotes(n), func(o *Options) {
					o.PID1, o.Journal = l, &logs{l: l, line: line}
				})
			}
			m := manage()
			for range 40 {
				l.upTo(20 * time.Second)
				if seed%4 == 1 && l.one(4) {
					m.kill()
					l.upTo(10 * time.Second)
					m = manage()
				}
				if seed%4 == 2 && l.one(4) {
					w.with(func() { w.send(systemd.Update{Kind: systemd.Lost, Err: errors.New("gone")}) })
					l.upTo(time.Second)
					w.sync()
				}
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			m.wantState("a", registry.StateFailed, false)
			got := m.pool("a")
			if l.executed != 5 || l.cut != 0 || got.Breaker != "open" || got.RestartCount != 4 ||
				!strings.Contains(got.LastError.Message, "5 failures in a row") {
				t.Errorf("%d runs, %d cut, breaker %s, %d restarts, last_error %v\n%s", l.executed, l.cut, got.Breaker,
					got.RestartCount, got.LastError, strings.Join(w.calls, "\n"))
			}
		})
	}
}
