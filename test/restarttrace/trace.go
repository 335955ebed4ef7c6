// Package restarttrace replays what a PID 1 signalled of units that failed again and again through
// the count of failed runs. It owns the recorded traces and their format. It must not know how they
// are recorded.
package restarttrace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/restarts"
	"github.com/pool-managerd/pool-managerd/units/supervise"
)

// line is one observation of a unit, or with Failed the truth after all of them, and how often a
// stop, a reset or another execution of PID 1 met the unit in its course.
type line struct {
	Unit     string
	Run      string
	Restarts int
	Active   string
	Sub      string
	Result   string
	Job      uint32
	Failed   *int
	Met      int
}

// Check counts the failed runs of each unit of a trace, and returns an error for each count that is
// not the truth. Every second observation is also left out once, as if the signals were merged.
func Check(trace []byte) error { return check(trace, false) }

// CheckLive is Check for a trace that is not in testdata. What a unit wrote and what PID 1
// signalled of it may be a run apart each time that a stop, a reset or another execution of PID 1
// met it: a script that has written is ended before it exits, and a reset is not signalled. On a
// busy host that happens.
func CheckLive(trace []byte) error { return check(trace, true) }

func check(trace []byte, live bool) error {
	units := make(map[string][]line)
	var errs []error
	decoder := json.NewDecoder(bytes.NewReader(trace))
	for decoder.More() {
		var l line
		if err := decoder.Decode(&l); err != nil {
			return fmt.Errorf("a recorded trace: %w", err)
		}
		if l.Failed == nil {
			units[l.Unit] = append(units[l.Unit], l)
			continue
		}
		slack := 0
		if live {
			slack = l.Met
		}
		errs = append(errs, checkUnit(units[l.Unit], l, slack))
	}
	if len(units) == 0 {
		return errors.New("a recorded trace: it is empty")
	}
	return errors.Join(errs...)
}

// checkUnit counts by all observations, and by some. A count may be slack runs off.
func checkUnit(seen []line, truth line, slack int) error {
	var all restarts.Ledger
	returned := 0
	for _, l := range seen {
		e := all.Observe(l.sight())
		if returned += e.Unseen; e.Run != "" {
			returned++
		}
		if again := all.Observe(l.sight()); again != (restarts.Ends{}) {
			return fmt.Errorf("%s: %+v counts twice", truth.Unit, l)
		}
	}
	if apart(all.Failed, *truth.Failed) > slack || returned != all.Failed {
		return fmt.Errorf("%s: %d runs are counted and %d returned of %d: %+v", truth.Unit, all.Failed, returned,
			*truth.Failed, all)
	}
	for every := 2; every <= 5; every++ {
		var some restarts.Ledger
		for i, l := range seen {
			// A stop in the wait after a failed run looks like one of a run: the last
			// observations belong together.
			if i%every == 0 || i >= len(seen)-4 {
				some.Observe(l.sight())
			}
		}
		if some.Failed > *truth.Failed+slack || !reset(seen) && apart(some.Failed, *truth.Failed) > slack {
			return fmt.Errorf("%s, one signal of %d: %d runs are counted of %d: %+v", truth.Unit, every, some.Failed,
				*truth.Failed, some)
		}
	}
	return nil
}

func apart(a, b int) int { return max(a-b, b-a) }

// reset reports whether the unit's counter was set to 0 on the way.
func reset(seen []line) bool {
	for i := 1; i < len(seen); i++ {
		if seen[i].Restarts < seen[i-1].Restarts {
			return true
		}
	}
	return false
}

func (l line) sight() restarts.Sight {
	return supervise.SightOf(systemd.Status{InvocationID: l.Run, NRestarts: l.Restarts, ActiveState: l.Active,
		SubState: l.Sub, Result: l.Result, JobID: l.Job})
}
