package systemd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// story feeds a watcher and notes what it does, one word or two for each action.
type story struct {
	w     *watcher
	reads map[string]*reading
	said  []string
}

func newStory() *story {
	return &story{w: newWatcher("e@*", nil, func(string) bool { return true }), reads: make(map[string]*reading)}
}

func (s *story) do(actions []action) {
	for _, a := range actions {
		switch {
		case a.read != nil:
			what := "read"
			if len(a.read.properties) < len(s.w.full) {
				what = "reread"
			}
			s.reads[a.read.unit] = a.read
			s.said = append(s.said, what+" "+a.read.unit)
		case a.check != "":
			s.said = append(s.said, "check "+a.check)
		case a.deliver.Kind == Synced:
			var units []string
			for _, st := range a.deliver.Units {
				units = append(units, st.Name+"="+st.SubState)
			}
			s.said = append(s.said, fmt.Sprintf("synced %v", units))
		case a.deliver.Kind == Changed:
			st := a.deliver.Unit
			text := fmt.Sprintf("changed %s=%s pid=%d post=%d", st.Name, st.SubState, st.MainPID, st.PostStatus)
			if st.PreCode != 0 {
				text += fmt.Sprintf(" pre=%d", st.PreStatus)
			}
			s.said = append(s.said, text)
		default:
			s.said = append(s.said, a.deliver.Kind.String()+" "+a.deliver.Name)
		}
	}
}

// list answers the first listing with units that are loaded: "name" or "name=SubState".
func (s *story) list(names ...string) {
	var units []listedUnit
	for _, n := range names {
		units = append(units, listed(n))
	}
	s.do(s.w.list(units))
}

// listed reads "name" or "name=SubState"; left out, it is running.
func listed(text string) listedUnit {
	name, sub, found := strings.Cut(text, "=")
	if !found {
		sub = "running"
	}
	active := map[string]string{"running": "active", "failed": "failed", "start-post": "activating"}[sub]
	return listedUnit{name: name, loadState: "loaded", activeState: active, subState: sub}
}

// checked answers a look-up with a unit as list takes it.
func (s *story) checked(unit string) {
	l := listed(unit)
	s.do(s.w.checked(l.name, []listedUnit{l}))
}

// checkedNone answers a look-up when PID 1 has nothing of the name, or only the name.
func (s *story) checkedNone(name string, units ...listedUnit) {
	s.do(s.w.checked(name, units))
}

// answer answers all of a unit's read that is out. Values that are not given do not exist.
func (s *story) answer(unit string, values properties) {
	r := s.reads[unit]
	for r.left > 0 {
		s.answerSome(r, 1, values)
	}
}

func (s *story) answerSome(r *reading, n int, values properties) {
	for range n {
		name := r.properties[len(r.properties)-r.left]
		left := r.left
		s.do(s.w.value(r, name, values[name]))
		if r.left == left { // the watcher no longer waits for it
			r.left--
		}
	}
}

func (s *story) unitChanged(name string, values properties) {
	s.do(s.w.changed(name, unitInterface, values))
}

func (s *story) serviceChanged(name string, values properties) {
	s.do(s.w.changed(name, serviceInterface, values))
}

// state is that of a unit whose last run has been active.
func state(active, sub string, pid int) properties {
	return properties{"LoadState": "loaded", "ActiveState": active, "SubState": sub, "MainPID": uint32(pid),
		"ControlGroup": "/x", "InvocationID": []byte{1},
		"ExecMainStartTimestampMonotonic": uint64(1), "ActiveEnterTimestampMonotonic": uint64(2)}
}

// loading is that of a unit whose engine loads its model.
func loading(pid int) properties {
	p := state("activating", "start-post", pid)
	delete(p, "ActiveEnterTimestampMonotonic")
	return p
}

func post(status int) any {
	return [][]any{{"/gate", []string{}, []string{}, uint64(1), uint64(1), uint64(2), uint64(2), uint32(9), int32(1),
		int32(status)}}
}

func (p properties) with(name string, value any) properties {
	p[name] = value
	return p
}

func TestWatcher(t *testing.T) {
	running, failed := state("active", "running", 7), state("failed", "failed", 0)
	gone := properties{"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"}
	cases := map[string]struct {
		tell func(s *story)
		want []string
	}{
		"sync/nothing_there": {
			func(s *story) { s.list() },
			[]string{"synced []"},
		},
		"sync/waits_for_every_read": {
			func(s *story) {
				s.list("e@b", "e@a=failed", "other")
				s.answer("e@b", running)
				s.answer("e@a", failed)
			},
			[]string{"read e@b", "read e@a", "synced [e@a=failed e@b=running]"},
		},
		"sync/signal_between_list_and_answer_is_not_undone": {
			func(s *story) {
				s.list("e@a")
				s.answerSome(s.reads["e@a"], 10, running) // ActiveState and MainPID among them
				s.serviceChanged("e@a", properties{"MainPID": uint32(0)})
				s.unitChanged("e@a", properties{"ActiveState": "failed", "SubState": "failed"})
				s.answerSome(s.reads["e@a"], s.reads["e@a"].left, failed)
			},
			[]string{"read e@a", "reread e@a", "synced [e@a=failed]"},
		},
		"sync/unit_vanishes_during_its_read": {
			func(s *story) {
				s.list("e@a", "e@b")
				s.answerSome(s.reads["e@a"], 3, running)
				s.do(s.w.unitRemoved("e@a"))
				s.answer("e@b", running)
				s.answerSome(s.reads["e@a"], s.reads["e@a"].left, gone)
				s.checkedNone("e@a")
			},
			[]string{"read e@a", "read e@b", "check e@a", "synced [e@b=running]"},
		},
		"sync/last_unit_vanishes": {
			func(s *story) {
				s.list("e@a")
				s.do(s.w.unitRemoved("e@a"))
				s.checkedNone("e@a")
			},
			[]string{"read e@a", "check e@a", "synced []"},
		},
		"sync/answer_says_not_found": {
			func(s *story) {
				s.list("e@a")
				s.answer("e@a", gone)
			},
			[]string{"read e@a", "synced []"},
		},
		"sync/unit_comes_meanwhile": {
			func(s *story) {
				s.list("e@a")
				s.do(s.w.unitNew("e@b"))
				s.answer("e@a", running)
				s.checked("e@b")
				s.answer("e@b", running)
			},
			[]string{"read e@a", "check e@b", "synced [e@a=running]", "read e@b", "changed e@b=running pid=7 post=0"},
		},
		"sync/signals_before_the_list_are_in_the_list": {
			func(s *story) {
				s.do(s.w.unitNew("e@a"))
				s.unitChanged("e@a", running)
				s.list("e@a")
			},
			[]string{"read e@a"},
		},
		"change/both_interfaces_are_one_update": {
			func(s *story) {
				s.list("e@a")
				s.answer("e@a", running)
				s.serviceChanged("e@a", properties{"MainPID": uint32(8)})
				s.unitChanged("e@a", properties{"SubState": "start-post"})
			},
			[]string{"read e@a", "synced [e@a=running]", "changed e@a=start-post pid=8 post=0"},
		},
		"change/nothing_new_is_no_update": {
			func(s *story) {
				s.list("e@a")
				s.answer("e@a", running)
				s.unitChanged("e@a", properties{"SubState": "running"})
			},
			[]string{"read e@a", "synced [e@a=running]"},
		},
		"removed/known": {
			func(s *story) {
				s.list("e@a")
				s.answer("e@a", running)
				s.do(s.w.unitRemoved("e@a"))
				s.do(s.w.unitRemoved("e@a"))
				s.checkedNone("e@a")
				s.do(s.w.unitRemoved("e@a"))
			},
			[]string{"read e@a", "synced [e@a=running]", "check e@a", "removed e@a"},
		},
		"removed/by_a_daemon_reload_it_is_still_there": {
			func(s *story) {
				s.list("e@a")
				s.answer("e@a", running)
				s.do(s.w.unitRemoved("e@a"))
				s.do(s.w.unitNew("e@a"))
				s.checked("e@a")
				s.answer("e@a", state("active", "running", 7))
			},
			[]string{"read e@a", "synced [e@a=running]", "check e@a", "read e@a"},
		},
		"removed/and_replaced_at_once": {
			func(s *story) {
				s.list("e@a")
				s.answer("e@a", running)
				s.do(s.w.unitRemoved("e@a"))
				s.do(s.w.unitNew("e@a"))
				s.serviceChanged("e@a", properties{"MainPID": uint32(8)})
				s.unitChanged("e@a", properties{"ActiveState": "activating", "SubState": "start"})
				s.checked("e@a=start-post")
				s.answer("e@a", state("activating", "start-post", 8))
			},
			[]string{"read e@a", "synced [e@a=running]", "check e@a", "read e@a",
				"changed e@a=start-post pid=8 post=0"},
		},
		"removed/late_answer_does_not_bring_it_back": {
			func(s *story) {
				s.list("e@a")
				s.answer("e@a", running)
				s.unitChanged("e@a", properties{"ActiveState": "inactive", "SubState": "dead"})
				s.do(s.w.unitRemoved("e@a"))
				s.answerSome(s.reads["e@a"], s.reads["e@a"].left, running)
				s.checkedNone("e@a")
			},
			[]string{"read e@a", "synced [e@a=running]", "changed e@a=dead pid=7 post=0", "reread e@a", "check e@a",
				"removed e@a"},
		},
		"removed/late_answer_is_not_taken_for_the_next_unit_of_the_name": {
			func(s *story) {
				s.list("e@a")
				s.answer("e@a", running)
				s.unitChanged("e@a", properties{"ActiveState": "inactive", "SubState": "dead"})
				old := s.reads["e@a"]
				s.do(s.w.unitRemoved("e@a"))
				s.checkedNone("e@a")
				s.do(s.w.unitNew("e@a"))
				s.checked("e@a=start-post")
				s.answerSome(old, old.left, failed)
				s.answer("e@a", state("active", "start-post", 9))
			},
			[]string{"read e@a", "synced [e@a=running]", "changed e@a=dead pid=7 post=0", "reread e@a", "check e@a",
				"removed e@a", "check e@a", "read e@a", "changed e@a=start-post pid=9 post=0"},
		},
		"removed/without_a_signal": {
			func(s *story) {
				s.list("e@a")
				s.answer("e@a", running)
				s.unitChanged("e@a", properties{"ActiveState": "inactive", "SubState": "dead"})
				s.answer("e@a", gone)
			},
			[]string{"read e@a", "synced [e@a=running]", "changed e@a=dead pid=7 post=0", "reread e@a", "removed e@a"},
		},
		"new/an_empty_unit_ends_at_the_look_up": {
			func(s *story) {
				s.list()
				s.do(s.w.unitNew("e@a"))
				s.checkedNone("e@a", listedUnit{name: "e@a", loadState: notFound})
				s.do(s.w.unitNew("e@a"))
				s.checkedNone("e@a")
			},
			[]string{"synced []", "check e@a", "check e@a"},
		},
		"without_its_file/is_followed_while_it_runs": {
			func(s *story) {
				s.list("e@a")
				s.answer("e@a", running)
				s.do(s.w.unitNew("e@a"))
				s.checkedNone("e@a", listedUnit{name: "e@a", loadState: notFound, activeState: "active",
					subState: "running"})
				s.answer("e@a", state("active", "running", 8).with("LoadState", "not-found"))
				s.unitChanged("e@a", properties{"ActiveState": "inactive", "SubState": "dead"})
				s.answer("e@a", gone)
			},
			[]string{"read e@a", "synced [e@a=running]", "check e@a", "read e@a", "changed e@a=running pid=8 post=0",
				"changed e@a=dead pid=8 post=0", "reread e@a", "removed e@a"},
		},
		"new/unknown_unit_shows_life": {
			func(s *story) {
				s.list()
				s.unitChanged("e@a", properties{"ActiveState": "inactive"})
				s.serviceChanged("e@a", properties{"MainPID": uint32(3)})
				s.unitChanged("e@a", properties{"ActiveState": "activating"})
				s.unitChanged("e@a", properties{"ActiveState": "activating"})
			},
			[]string{"synced []", "check e@a"},
		},
		"new/other_names_are_not_looked_at": {
			func(s *story) {
				s.list()
				s.do(s.w.unitNew("f@a"))
				s.unitChanged("f@a", running)
				s.do(s.w.unitRemoved("f@a"))
			},
			[]string{"synced []"},
		},
		"refresh/reads_what_is_not_signalled": {
			func(s *story) {
				s.list("e@a")
				s.answer("e@a", running)
				s.do(s.w.refresh("e@a"))
				s.do(s.w.refresh("e@a"))
				s.do(s.w.refresh("e@unknown"))
				s.answer("e@a", state("active", "running", 7))
				s.answer("e@a", state("active", "running", 7))
			},
			[]string{"read e@a", "synced [e@a=running]", "reread e@a", "reread e@a"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			c.tell(s)
			if diff := cmp.Diff(c.want, s.said); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestWatcherReadsOneRun: a run that begins, or a restart that is queued, during a read has the
// unit read again, so that no status mixes runs.
func TestWatcherReadsOneRun(t *testing.T) {
	run := func(id byte, restarts uint32) properties {
		values := state("activating", "auto-restart", 0)
		values["InvocationID"], values["NRestarts"], values["LoadState"] = []byte{id}, restarts, "loaded"
		return values
	}
	for _, c := range []struct {
		name   string
		before properties
		after  properties
		want   []string
	}{
		{"nothing_happens", run(1, 0), run(1, 0), []string{"read e@a", "synced [e@a=auto-restart]"}},
		{"a_restart_is_queued", run(1, 0), run(1, 1), []string{"read e@a", "read e@a", "synced [e@a=auto-restart]"}},
		{"another_run_begins", run(1, 1), run(2, 1), []string{"read e@a", "read e@a", "synced [e@a=auto-restart]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory()
			s.list("e@a")
			r := s.reads["e@a"]
			s.answerSome(r, len(statusProperties()), c.before)
			s.answerSome(r, r.left, c.after)
			if next := s.reads["e@a"]; next != r {
				s.answer("e@a", c.after)
			}
			if diff := cmp.Diff(c.want, s.said); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWatcherAsksOnlyForWhatExists(t *testing.T) {
	known := func(name string) bool { return name != "RestartUSecNext" && name != "Misspelt" }
	w := newWatcher("e@*", []string{"CPUWeight", "Misspelt"}, known)
	for _, list := range [][]string{w.full, w.rest} {
		text := strings.Join(list, " ")
		if strings.Contains(text, "RestartUSecNext") || strings.Contains(text, "Misspelt") {
			t.Errorf("asks for what PID 1 does not have: %s", text)
		}
		if !strings.HasSuffix(text, " CPUWeight LoadState") {
			t.Errorf("want the kept property, and LoadState last: %s", text)
		}
	}
}

func TestWatcherPatternHasNoEscapes(t *testing.T) {
	for pattern, cases := range map[string]map[string]bool{
		`pool-engine@*.service`: {`pool-engine@a\x2db.r0.service`: true, `pool-engine@.service`: true, "pool-engine.service": false},
		`a\x2d*`:                {`a\x2db`: true, `ax2db`: false},
	} {
		w := newWatcher(pattern, nil, func(string) bool { return true })
		for name, want := range cases {
			if w.matches(name) != want {
				t.Errorf("%q matches %q = %v, want %v", pattern, name, !want, want)
			}
		}
	}
}
