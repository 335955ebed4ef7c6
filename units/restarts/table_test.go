package restarts

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/golden"
)

var update = flag.Bool("update", false, "write the page")

var (
	states = []Breaker{Closed, Open, HalfOpen}
	events = []Event{Fail, GaveUp, Start, Stop, Steady, Reset}
)

// TestTableInDocs prints the table; the administrator's page shows it as it is in the code.
func TestTableInDocs(t *testing.T) {
	var b strings.Builder
	b.WriteString("<!-- Written by go test ./units/restarts -update; do not edit. -->\n# The circuit breaker\n\n")
	b.WriteString("Each replica has one. Of the rows of a state and an event, the first whose condition holds is " +
		"taken.\n\n")
	b.WriteString("| state | event | when | next state | what it does |\n| --- | --- | --- | --- | --- |\n")
	for _, r := range breakerTable {
		to, does := "`"+string(r.To)+"`", r.Does
		if r.To == "" {
			to, does = "refused", r.Does
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", r.From, r.Event, r.When, to, does)
	}
	b.WriteString("\n## Kinds of failures\n\nWhat is advised when restarts of one kind become a storm, or open the " +
		"breaker.\n\n")
	b.WriteString("| kind | codes | waits longer | advice |\n| --- | --- | --- | --- |\n")
	for _, c := range []Class{Crash, OOM, CUDAOOM, CUDA, Driver, Memory, Load, Launch, Halt, Health, Model, Config} {
		longer := ""
		if c.slow() {
			longer = "`class_factor`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", c, strings.Join(codesOf(c), ", "), longer, c.Advice())
	}
	golden.File(t, filepath.Join("..", "..", "docs", "reference", "breaker.md"), b.String(), *update)
}

// TestTableIsTotal: each event in each state has a row, and the last row of each pair has no
// condition.
func TestTableIsTotal(t *testing.T) {
	for _, from := range states {
		for _, e := range events {
			var last *row
			for i, r := range breakerTable {
				if r.From == from && r.Event == e {
					if last != nil && last.When == "" {
						t.Errorf("%s/%s: the row %q can never be reached", from, e, r.Does)
					}
					last = &breakerTable[i]
				}
			}
			if last == nil || last.When != "" || !last.Holds(&State{Breaker: from}, input{}) {
				t.Errorf("%s/%s: no row for all other cases", from, e)
			}
		}
	}
}

// TestRefused: an illegal transition does not change the state and returns the reason.
func TestRefused(t *testing.T) {
	until := noon.Add(time.Minute)
	cases := []struct {
		name  string
		state State
		event Event
		until time.Time
	}{
		{"start_before_the_time_is_over", State{Breaker: Open, Until: until, Opened: 1, Next: until}, Start, until},
		{"second_trial", State{Breaker: HalfOpen, Opened: 1}, Start, time.Time{}},
		{"no_such_event", State{Breaker: Closed}, "explode", time.Time{}},
		{"no_such_state", State{Breaker: "ajar"}, Start, time.Time{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := c.state
			err := s.move(c.event, input{at: noon})
			var refused *Refused
			if !errors.As(err, &refused) || refused.Breaker != c.state.Breaker || refused.Event != c.event ||
				!refused.Until.Equal(c.until) {
				t.Fatalf("%#v", err)
			}
			if !same(s, c.state) {
				t.Errorf("the state became %+v", s)
			}
		})
	}
}
