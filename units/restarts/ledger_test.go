package restarts

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
)

// The observations, the ends and the calls of the table.
func up(run string, n int) Sight       { return Sight{run, n, PhaseRuns} }
func waits(run string, n int) Sight    { return Sight{run, n, PhaseFailed} }
func queued(run string, n int) Sight   { return Sight{run, n, PhaseQueued} }
func down(run string, n int) Sight     { return Sight{run, n, PhaseDown} }
func over(run string, n int) Sight     { return Sight{run, n, PhaseOver} }
func unseen(n int) Ends                { return Ends{Unseen: n} }
func end(run string) Ends              { return Ends{Run: run} }
func endAfter(n int, run string) Ends  { return Ends{Unseen: n, Run: run} }
func begin(l *Ledger, _ *testing.T)    { l.Begin() }
func stopping(l *Ledger, _ *testing.T) { l.Stop() }

// nextManager saves the ledger and reads it back.
func nextManager(l *Ledger, t *testing.T) {
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	var back Ledger
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, *l) {
		t.Fatalf("%s came back as %+v", text, back)
	}
	*l = back
}

func TestLedger(t *testing.T) {
	type step struct {
		see  Sight
		want Ends
		call func(*Ledger, *testing.T)
	}
	see := func(s Sight, want Ends) step { return step{see: s, want: want} }
	call := func(f func(*Ledger, *testing.T)) step { return step{call: f} }
	for _, c := range []struct {
		name   string
		steps  []step
		failed int
		waits  bool
	}{
		{"each_phase_is_shown", []step{see(up("a", 0), Ends{}), see(waits("a", 0), end("a")), see(queued("a", 1), Ends{}), see(up("b", 1), Ends{})}, 1, false},
		{"an_end_is_counted_at_once", []step{see(up("a", 0), Ends{}), see(waits("a", 0), end("a"))}, 1, true},
		{"the_restart_is_shown_before_the_end", []step{see(up("a", 0), Ends{}), see(queued("a", 1), end("a")), see(up("b", 1), Ends{}), see(waits("b", 1), end("b"))}, 2, true},
		{"a_counter_that_is_read_late_counts_no_second_run",
			[]step{see(up("a", 0), Ends{}), see(waits("a", 0), end("a")), see(waits("a", 1), Ends{}), see(up("b", 1), Ends{})}, 1, false},
		{"runs_between_two_signals", []step{see(up("a", 0), Ends{}), see(waits("d", 3), endAfter(3, "d")), see(up("e", 4), Ends{})}, 4, false},
		{"an_end_that_only_the_next_run_shows", []step{see(up("a", 0), Ends{}), see(up("b", 1), unseen(1))}, 1, false},
		{"below_254_it_passes_failed", []step{see(up("a", 0), Ends{}), see(waits("a", 0), end("a")), see(waits("a", 0), Ends{}), see(down("a", 1), Ends{}), see(up("b", 1), Ends{})}, 1, false},
		{"a_start_limit_after_the_counter_was_reset_while_it_ran", []step{see(up("a", 2), unseen(2)), see(down("a", 1), end("a"))}, 3, true},
		{"a_stop_after_the_counter_was_reset_while_it_ran", []step{see(up("a", 2), unseen(2)), see(down("a", 0), Ends{})}, 2, false},
		{"a_start_limit_counts_a_restart_that_was_not_made", []step{see(up("a", 4), unseen(4)), see(down("a", 5), end("a")), see(down("a", 5), Ends{})}, 5, true},
		{"a_start_limit_that_looks_like_a_failure", []step{see(over("e", 5), endAfter(4, "e")), see(over("e", 5), Ends{})}, 5, true},
		{"a_start_limit_after_a_run_that_was_seen", []step{see(up("e", 4), unseen(4)), see(over("e", 5), end("e"))}, 5, true},
		{"below_254_it_is_first_seen_as_it_passes_failed",
			[]step{see(over("d", 3), endAfter(2, "d")), see(waits("d", 3), unseen(1)), see(queued("d", 4), Ends{}), see(up("e", 4), Ends{})}, 4, false},
		{"the_next_run_shows_what_a_failure_did_not", []step{see(over("d", 3), endAfter(2, "d")), see(up("e", 4), unseen(1))}, 4, false},
		{"a_start_limit_after_it_was_seen_to_pass_failed", []step{see(over("d", 3), endAfter(2, "d")), see(over("d", 4), unseen(1))}, 4, true},
		{"a_start_limit_of_starts_by_hand_is_no_failure", []step{see(up("a", 0), Ends{}), see(down("a", 0), Ends{})}, 0, false},
		{"a_stop_is_no_failure", []step{see(up("a", 2), unseen(2)), see(down("a", 2), Ends{}), see(up("b", 0), Ends{})}, 2, false},
		{"what_a_stop_comes_to_is_none", []step{see(up("a", 0), Ends{}), call(stopping), see(waits("a", 0), Ends{}), see(down("a", 0), Ends{})}, 0, false},
		{"a_restart_by_hand_is_none", []step{see(up("a", 0), Ends{}), see(up("b", 0), Ends{}), see(waits("b", 0), end("b"))}, 1, true},
		{"a_reset_of_what_runs", []step{see(up("a", 5), unseen(5)), see(up("a", 0), Ends{}), see(waits("a", 0), end("a")), see(up("b", 1), Ends{})}, 6, false},
		{"a_reset_of_what_waits", []step{see(up("a", 5), unseen(5)), see(waits("a", 5), end("a")), see(up("b", 1), Ends{}), see(waits("b", 1), end("b"))}, 7, true},
		{"a_reset_after_the_restart_was_queued", []step{see(up("a", 5), unseen(5)), see(queued("a", 6), end("a")), see(queued("a", 0), Ends{}), see(up("b", 0), Ends{})}, 6, false},
		{"a_reset_that_only_the_next_run_shows", []step{see(up("a", 5), unseen(5)), see(up("b", 1), unseen(1))}, 6, false},
		{"a_reset_that_the_next_restart_hides", []step{see(up("a", 1), unseen(1)), see(up("b", 1), unseen(1))}, 2, false},
		{"the_manager_makes_the_next_start", []step{see(waits("a", 0), end("a")), call(begin), see(up("b", 0), Ends{}), see(waits("b", 0), end("b"))}, 2, true},
		{"runs_of_a_new_unit_that_no_signal_showed", []step{see(waits("a", 0), end("a")), call(begin), see(waits("c", 1), endAfter(1, "c"))}, 3, true},
		{"it_waits_for_the_managers_start", []step{see(waits("a", 0), end("a")), call(begin)}, 1, true},
		{"late_word_of_a_former_unit", []step{see(waits("a", 3), endAfter(3, "a")), call(begin), see(waits("a", 3), Ends{}), see(up("b", 0), Ends{}), see(waits("a", 3), Ends{})}, 4, false},
		{"late_word_of_a_former_run", []step{see(up("a", 0), Ends{}), see(up("b", 1), unseen(1)), see(waits("a", 0), Ends{}), see(waits("b", 1), end("b"))}, 2, true},
		{"a_unit_without_a_run", []step{see(up("", 0), Ends{})}, 0, false},
		{"a_manager_that_comes_late", []step{see(up("a", 0), Ends{}), call(nextManager), see(waits("d", 3), endAfter(3, "d"))}, 4, true},
		{"a_manager_that_dies_between_an_end_and_its_restart",
			[]step{see(up("a", 0), Ends{}), see(waits("a", 0), end("a")), call(nextManager), see(waits("a", 0), Ends{}), see(up("b", 1), Ends{})}, 1, false},
		{"a_unit_of_a_manager_that_wrote_nothing_down", []step{see(up("h", 7), unseen(7))}, 7, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l Ledger
			for i, s := range c.steps {
				if s.call != nil {
					s.call(&l, t)
					continue
				}
				if got := l.Observe(s.see); got != s.want {
					t.Fatalf("step %d: %+v returned %+v, want %+v; %+v", i+1, s.see, got, s.want, l)
				}
			}
			if l.Failed != c.failed || l.Waits() != c.waits {
				t.Errorf("%d failed, waits is %t; want %d and %t: %+v", l.Failed, l.Waits(), c.failed, c.waits, l)
			}
		})
	}
}

// TestLedgerDoesNotGrow: the saved ledger is bounded however often an engine is started.
func TestLedgerDoesNotGrow(t *testing.T) {
	var l Ledger
	for i := range 100 {
		l.Observe(up(fmt.Sprint(i), i))
	}
	if len(l.Former) != formerRuns || l.Failed != 99 {
		t.Errorf("%+v", l)
	}
}
