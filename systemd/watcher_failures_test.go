package systemd

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWatcherFailures: what is delivered of a run that ended badly, and when.
func TestWatcherFailures(t *testing.T) {
	running, failed := state("active", "running", 7), state("failed", "failed", 0)
	cases := map[string]struct {
		tell func(s *story)
		want []string
	}{
		"is_delivered_at_once_and_again_with_details": {
			func(s *story) {
				s.list("e@a")
				s.answer("e@a", running)
				s.unitChanged("e@a", properties{"ActiveState": "failed", "SubState": "failed"})
				s.answer("e@a", state("failed", "failed", 0).with("ExecStartPostEx", post(4)))
			},
			[]string{"read e@a", "synced [e@a=running]", "changed e@a=failed pid=7 post=0", "reread e@a",
				"changed e@a=failed pid=7 post=4"},
		},
		"of_a_start_is_delivered_with_its_reason": {
			func(s *story) {
				s.list("e@a=start-post")
				s.answer("e@a", loading(7))
				s.unitChanged("e@a", properties{"ActiveState": "activating", "SubState": "auto-restart"})
				s.serviceChanged("e@a", properties{"MainPID": uint32(0)})
				s.unitChanged("e@a", properties{})
				s.answer("e@a", loading(0).with("SubState", "auto-restart").with("ExecStartPostEx", post(12)))
			},
			[]string{"read e@a", "synced [e@a=start-post]", "reread e@a", "changed e@a=auto-restart pid=0 post=12"},
		},
		"of_a_start_is_over_with_the_next": {
			func(s *story) {
				s.list("e@a=start-post")
				s.answer("e@a", loading(7))
				s.unitChanged("e@a", properties{"ActiveState": "activating", "SubState": "auto-restart"})
				s.unitChanged("e@a", properties{"ActiveState": "activating", "SubState": "start",
					"InvocationID": []byte{2}})
			},
			[]string{"read e@a", "synced [e@a=start-post]", "reread e@a", "changed e@a=start pid=7 post=0"},
		},
		"reads_are_coalesced_to_one_more": {
			func(s *story) {
				s.list("e@a")
				s.answer("e@a", running)
				s.unitChanged("e@a", properties{"ActiveState": "activating", "SubState": "auto-restart"})
				s.unitChanged("e@a", properties{"ActiveState": "activating", "SubState": "auto-restart-queued"})
				s.unitChanged("e@a", properties{"ActiveState": "failed", "SubState": "failed"})
				s.answer("e@a", failed)
				s.answer("e@a", failed)
			},
			[]string{"read e@a", "synced [e@a=running]", "changed e@a=auto-restart pid=7 post=0", "reread e@a",
				"changed e@a=auto-restart-queued pid=7 post=0", "changed e@a=failed pid=7 post=0", "reread e@a"},
		},
		"a_new_start_forgets_the_details": {
			func(s *story) {
				s.list("e@a=failed")
				s.answer("e@a", state("failed", "failed", 0).with("ExecStartPostEx", post(4)))
				s.unitChanged("e@a", properties{"SubState": "dead-but-why"})
				s.unitChanged("e@a", properties{"ActiveState": "activating", "SubState": "start",
					"InvocationID": []byte{2}})
			},
			[]string{"read e@a", "synced [e@a=failed]", "changed e@a=dead-but-why pid=0 post=4", "reread e@a",
				"changed e@a=start pid=0 post=0"},
		},
		"before_the_start_tells_its_status_until_the_next_start": {
			func(s *story) {
				s.list("e@a")
				s.answer("e@a", running)
				s.unitChanged("e@a", properties{"ActiveState": "activating", "SubState": "auto-restart",
					"InvocationID": []byte{2}})
				s.answer("e@a", state("activating", "auto-restart", 0).with("InvocationID",
					[]byte{2}).with("ExecStartPreEx", post(6)))
				s.unitChanged("e@a", properties{"ActiveState": "activating", "SubState": "start-pre",
					"InvocationID": []byte{3}})
			},
			[]string{"read e@a", "synced [e@a=running]", "changed e@a=auto-restart pid=7 post=0", "reread e@a",
				"changed e@a=auto-restart pid=7 post=0 pre=6", "changed e@a=start-pre pid=7 post=0"},
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
