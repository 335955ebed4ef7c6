package systemd

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// below254 reports the properties of a PID 1 that passes "failed" on its way to a restart.
func below254(property string) bool { return property != "RestartMode" && property != "RestartSteps" }

// TestWatcherConfirmsFailed: below systemd 254 a signal that a unit failed may be of the moment
// before its restart, and an answer never is.
func TestWatcherConfirmsFailed(t *testing.T) {
	running, failed := state("active", "running", 7), state("failed", "failed", 0)
	waits := state("activating", "auto-restart", 0)
	run := func(st properties, id byte) properties { return st.with("InvocationID", []byte{id}) }
	const synced, onItsWay = "synced [e@a=running]", "changed e@a=failed-before-auto-restart pid=7 post=0"
	cases := map[string]struct {
		tell func(s *story)
		want []string
	}{
		"passing/the_next_signal_shows_it": {
			func(s *story) {
				s.unitChanged("e@a", properties{"ActiveState": "failed", "SubState": "failed"})
				s.unitChanged("e@a", properties{"ActiveState": "activating", "SubState": "auto-restart"})
				s.answer("e@a", waits)
			},
			[]string{onItsWay, "read e@a", "changed e@a=auto-restart pid=7 post=0",
				"changed e@a=auto-restart pid=0 post=0", "reread e@a"},
		},
		"passing/the_answer_shows_it": {
			func(s *story) {
				s.unitChanged("e@a", properties{"ActiveState": "failed", "SubState": "failed"})
				s.answer("e@a", waits)
			},
			[]string{onItsWay, "read e@a", "changed e@a=auto-restart pid=0 post=0"},
		},
		"passing/a_look-up_shows_it": {
			func(s *story) {
				s.do(s.w.unitNew("e@a"))
				s.unitChanged("e@a", properties{"ActiveState": "failed", "SubState": "failed"})
				s.do(s.w.checked("e@a", []listedUnit{{"e@a", "loaded", "activating", "auto-restart", 0}}))
				s.answer("e@a", waits)
			},
			[]string{"check e@a", onItsWay, "read e@a", "changed e@a=auto-restart pid=0 post=0"},
		},
		"passing/each_run_passes": {
			func(s *story) {
				s.unitChanged("e@a", properties{"ActiveState": "failed", "SubState": "failed"})
				s.answer("e@a", failed)
				s.unitChanged("e@a", run(state("failed", "failed", 0), 2))
				s.answer("e@a", run(waits, 2))
			},
			[]string{onItsWay, "read e@a", "changed e@a=failed pid=0 post=0",
				"changed e@a=failed-before-auto-restart pid=0 post=0", "read e@a", "changed e@a=auto-restart pid=0 post=0"},
		},
		"staying/the_answer_confirms_it": {
			func(s *story) {
				s.unitChanged("e@a", properties{"ActiveState": "failed", "SubState": "failed"})
				s.answer("e@a", failed)
			},
			[]string{onItsWay, "read e@a", "changed e@a=failed pid=0 post=0"},
		},
		"staying/a_further_signal_of_the_same_state_changes_nothing": {
			func(s *story) {
				s.unitChanged("e@a", properties{"ActiveState": "failed", "SubState": "failed"})
				s.answer("e@a", failed)
				s.unitChanged("e@a", properties{"ActiveState": "failed", "SubState": "failed"})
			},
			[]string{onItsWay, "read e@a", "changed e@a=failed pid=0 post=0"},
		},
		"staying/an_answer_before_the_signal_confirms_nothing": {
			func(s *story) {
				s.do(s.w.unitNew("e@a"))
				s.checked("e@a")
				first := s.reads["e@a"]
				s.answerSome(first, first.left-1, running)
				s.unitChanged("e@a", properties{"ActiveState": "failed", "SubState": "failed"})
				s.answerSome(first, 1, failed)
				s.answer("e@a", failed)
			},
			[]string{"check e@a", "read e@a", onItsWay, "read e@a", "changed e@a=failed pid=0 post=0"},
		},
		"staying/after_its_stop_it_is_certain": {
			func(s *story) {
				s.serviceChanged("e@a", properties{"Result": "timeout",
					"ExecMainStartTimestampMonotonic": uint64(1), "ExecMainExitTimestampMonotonic": uint64(9)})
				s.unitChanged("e@a", properties{"ActiveState": "failed", "SubState": "failed",
					"ActiveEnterTimestampMonotonic": uint64(2), "ActiveExitTimestampMonotonic": uint64(5)})
			},
			[]string{"changed e@a=failed pid=7 post=0", "reread e@a"},
		},
		"staying/a_start_limit_is_certain": {
			func(s *story) {
				s.serviceChanged("e@a", properties{"Result": "start-limit-hit"})
				s.unitChanged("e@a", properties{"ActiveState": "failed", "SubState": "failed"})
			},
			[]string{"changed e@a=failed pid=7 post=0", "reread e@a"},
		},
		"passing/without_an_error": {
			func(s *story) {
				s.serviceChanged("e@a", properties{"Result": "success",
					"ExecMainStartTimestampMonotonic": uint64(1), "ExecMainExitTimestampMonotonic": uint64(5)})
				s.unitChanged("e@a", properties{"ActiveState": "inactive", "SubState": "dead",
					"ActiveEnterTimestampMonotonic": uint64(2), "ActiveExitTimestampMonotonic": uint64(5)})
				s.answer("e@a", waits)
			},
			[]string{"changed e@a=dead-before-auto-restart pid=7 post=0", "read e@a",
				"changed e@a=auto-restart pid=0 post=0"},
		},
		"staying/a_stop_without_an_error_is_certain": {
			func(s *story) {
				s.serviceChanged("e@a", properties{"Result": "success",
					"ExecMainStartTimestampMonotonic": uint64(1), "ExecMainExitTimestampMonotonic": uint64(9)})
				s.unitChanged("e@a", properties{"ActiveState": "inactive", "SubState": "dead",
					"ActiveEnterTimestampMonotonic": uint64(2), "ActiveExitTimestampMonotonic": uint64(5)})
			},
			[]string{"changed e@a=dead pid=7 post=0", "reread e@a"},
		},
		"over/the_next_run_is_no_failure": {
			func(s *story) {
				s.unitChanged("e@a", properties{"ActiveState": "failed", "SubState": "failed"})
				s.unitChanged("e@a", run(state("activating", "start", 8), 2))
			},
			[]string{onItsWay, "read e@a", "changed e@a=start pid=8 post=0"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := &story{w: newWatcher("e@*", nil, below254), reads: make(map[string]*reading)}
			s.list("e@a")
			s.answer("e@a", running)
			c.tell(s)
			if diff := cmp.Diff(append([]string{"read e@a", synced}, c.want...), s.said); diff != "" {
				t.Error(diff)
			}
		})
	}
}
