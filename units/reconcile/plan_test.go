package reconcile

import (
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// is changes one thing in a replica that runs as wanted.
type is func(*Facts)

// replica is an engine that runs, is healthy, and is what the pool file asks for.
func replica(changes ...is) Facts {
	f := Facts{
		Wish: Wanted, Stage: Done, Prepare: Done,
		Spec: Spec{"new", "l1"}, Unit: Active, UnitSpec: Spec{"new", "l1"}, Probe: Healthy,
	}
	for _, c := range changes {
		c(&f)
	}
	return f
}

func unit(p Phase) is { return func(f *Facts) { f.Unit = p } }
func fresh(f *Facts)  { f.Unit, f.UnitSpec, f.Probe = Absent, Spec{}, Unprobed }
func unwanted(f *Facts) {
	f.Wish = Unwanted
}
func refused(f *Facts) {
	f.Refusal = registry.Fail(registry.CodePolicyDenied, "no device", "")
}
func unknown(f *Facts) {
	f.Wish, f.Invalid = Unknown, registry.Fail(registry.CodeConfigInvalid, "bad", "")
}
func parked(f *Facts) { f.Parked = true }
func cut(f *Facts) {
	f.DrainErr = registry.Fail(registry.CodeDrainTimeout, "1 lease was cut", "")
}
func revive(f *Facts)   { f.Revive = true }
func invalid(f *Facts)  { f.Invalid = registry.Fail(registry.CodeConfigInvalid, "bad", "") }
func oldSpec(f *Facts)  { f.UnitSpec.Identity = "old" }
func draining(f *Facts) { f.Drain = Draining }
func drained(f *Facts)  { f.Drain = Drained }
func stage(s Step) is   { return func(f *Facts) { f.Stage = s } }
func prep(s Step) is    { return func(f *Facts) { f.Prepare = s } }
func op(a Action) is    { return func(f *Facts) { f.Op = a } }
func retryIn(d time.Duration) is {
	return func(f *Facts) { f.RetryAt = noon.Add(d) }
}
func stopFailed(d time.Duration) is {
	return func(f *Facts) {
		f.StopErr, f.StopAt = registry.Fail(registry.CodeEngineStartFailed, "access denied", ""), noon.Add(d)
	}
}
func unsure(f *Facts) { f.Unsure = true }
func gpuUnusable(f *Facts) {
	f.GPU = registry.Fail(registry.CodeGPUUnavailable, "GPU 0 needs a reset", "")
}
func fillsDisk(f *Facts) {
	f.Disk = registry.Fail(registry.CodeStateTooLarge, "its directories hold 70000 MiB", "")
}
func large(f *Facts) {
	f.DiskOver = registry.Fail(registry.CodeStateTooLarge, "its directories hold 40000 MiB", "")
}
func bare(f *Facts) {
	f.Bare = registry.Fail(registry.CodeUnitFileMissing, "PID 1 has lost it", "")
}
func faulty(f *Facts) {
	f.Fault = registry.Fail(registry.CodeCUDAError, "Xid 31", "")
}
func short(f *Facts) {
	f.Short = registry.Fail(registry.CodeInsufficientVRAM, "8 GiB are missing", "")
}
func ours(f *Facts) { f.Ours = true }
func failing(f *Facts) {
	f.Stage, f.Failure = Failed, registry.Fail(registry.CodeModelNotFound, "no such file", "")
}

func TestPlan(t *testing.T) {
	cases := []struct {
		name string
		f    Facts
		want Action
		rule string
	}{
		{"nothing_runs/new_pool_is_staged_first", replica(fresh, stage(Pending), prep(Pending)), Stage, "stage"},
		{"nothing_runs/then_prepared", replica(fresh, prep(Pending)), Prepare, "prepare"},
		{"nothing_runs/then_started", replica(fresh), Start, "start"},
		{"nothing_runs/start_in_flight_is_not_repeated", replica(fresh, op(Start)), None, "busy"},
		{"nothing_runs/failed_stage_waits", replica(fresh, failing, retryIn(time.Second)), None, "waiting"},
		{"nothing_runs/failed_stage_is_tried_again_when_due", replica(fresh, failing, retryIn(0)), Stage, "retry"},
		{"nothing_runs/refused_pool_is_not_started", replica(fresh, refused), None, "settled"},
		{"nothing_runs/held_pool_is_not_started", replica(fresh, unknown), None, "unknown"},
		{"nothing_runs/former_version_of_a_bad_file_is_started", replica(fresh, invalid), Start, "start"},

		{"runs/as_wanted", replica(), None, "settled"},
		{"runs/without_its_unit_file", replica(bare), None, "settled"},
		{"runs/without_its_unit_file_and_other_limits", replica(bare, func(f *Facts) { f.Spec.Limits = "other" }), None, "settled"},
		{"runs/loading_is_left_alone", replica(unit(Starting)), None, "settled"},
		{"runs/backoff_is_pid_1s", replica(unit(Backoff)), None, "settled"},
		{"runs/adopted_unit_is_checked_not_touched", replica(stage(Pending), prep(Pending)), Stage, "stage"},
		{"runs/missing_model_does_not_stop_it", replica(failing, retryIn(time.Second)), None, "waiting"},
		{"runs/bad_file_does_not_stop_it", replica(unknown), None, "unknown"},

		{"changed/prepared_before_anything_is_touched", replica(oldSpec, stage(Done), prep(Pending)), Prepare, "prepare"},
		{"changed/failed_preparation_keeps_the_former", replica(oldSpec, failing, prep(Pending), retryIn(time.Second)), None, "waiting"},
		{"changed/drained_first", replica(oldSpec), Drain, "replace/drain"},
		{"changed/held_work_may_finish", replica(oldSpec, draining), None, "draining"},
		{"changed/again_while_draining_goes_back_first", replica(draining, oldSpec, stage(Pending), prep(Pending)), Resume, "resume"},
		{"changed/drained_but_the_next_change_failed", replica(drained, oldSpec, failing, prep(Pending), retryIn(time.Second)), Resume, "resume"},
		{"unknown/a_drain_that_was_begun_ends", replica(unknown, draining), Resume, "unknown/resume"},
		{"unwanted/stop_that_failed_waits", replica(unwanted, drained, stopFailed(time.Second)), None, "stop/wait"},
		{"unwanted/stop_that_failed_is_tried_again", replica(unwanted, drained, stopFailed(0)), Stop, "unwanted/stop"},
		{"unsure/it_has_ended", replica(unsure, unit(Exited)), Clear, "stop/clear"},
		{"unsure/it_has_failed_in_its_stop", replica(unsure, gpuUnusable, unit(Broken)), Clear, "stop/clear"},
		{"unsure/it_runs_on", replica(unsure, gpuUnusable, drained), Stop, "gpu/stop"},
		{"unsure/it_is_being_stopped", replica(unsure, unit(Stopping)), None, "stopping"},
		{"changed/then_stopped", replica(oldSpec, drained), Stop, "replace/stop"},
		{"changed/not_serving_is_stopped_at_once", replica(oldSpec, unit(Starting)), Stop, "replace/stop"},
		{"changed/backoff_is_stopped_at_once", replica(oldSpec, unit(Backoff)), Stop, "replace/stop"},
		{"changed/back_to_what_runs_ends_the_drain", replica(draining), Resume, "resume"},
		{"changed/only_limits", replica(func(f *Facts) { f.Spec.Limits = "l2" }), SetLimits, "limits"},

		{"broken/waits", replica(unit(Broken), retryIn(time.Minute)), None, "waiting"},
		{"broken/is_tried_again_when_due", replica(unit(Broken), retryIn(0)), Start, "broken/retry"},
		{"broken/a_change_is_tried_at_once", replica(unit(Broken), oldSpec, retryIn(time.Minute)), Start, "broken/changed"},
		{"stopped/an_operators_stop_is_respected", replica(unit(Exited)), None, "settled"},
		{"stopped/a_change_starts_it", replica(unit(Exited), oldSpec), Start, "exited/changed"},

		{"unwanted/drained_first", replica(unwanted), Drain, "unwanted/drain"},
		{"unwanted/held_work_may_finish", replica(unwanted, draining), None, "draining"},
		{"unwanted/then_stopped", replica(unwanted, drained), Stop, "unwanted/stop"},
		{"unwanted/loading_is_stopped_at_once", replica(unwanted, unit(Starting)), Stop, "unwanted/stop"},
		{"unwanted/failed_unit_is_cleared", replica(unwanted, unit(Broken)), Clear, "unwanted/clear"},
		{"unwanted/forgotten_when_nothing_is_left", replica(unwanted, fresh), Forget, "unwanted/forget"},

		{"parked/drained_first", replica(parked), Drain, "parked/drain"},
		{"parked/held_work_may_finish", replica(parked, draining), None, "parked"},
		{"parked/then_stopped", replica(parked, drained), Stop, "parked/stop"},
		{"parked/loading_is_stopped_at_once", replica(parked, unit(Starting)), Stop, "parked/stop"},
		{"parked/backoff_is_not_left_to_pid_1", replica(parked, unit(Backoff)), Stop, "parked/stop"},
		{"parked/failed_unit_is_cleared", replica(parked, unit(Broken)), Clear, "parked/clear"},
		{"parked/stopped_by_hand_is_cleared", replica(parked, unit(Exited)), Clear, "parked/clear"},
		{"parked/is_not_started", replica(fresh, parked), None, "parked"},
		{"parked/change_is_not_taken_up", replica(parked, fresh, stage(Pending), prep(Pending)), None, "parked"},
		{"parked/resumed_while_draining", replica(draining), Resume, "resume"},
		{"parked/resumed_after_the_stop", replica(fresh), Start, "start"},
		{"stopped/by_hand_and_resumed", replica(unit(Exited), revive), Start, "exited/resume"},

		{"disk/one_far_over_is_stopped_at_once", replica(fillsDisk), Stop, "disk/stop"},
		{"disk/also_while_it_drains", replica(fillsDisk, draining), Stop, "disk/stop"},
		{"disk/also_while_it_loads", replica(fillsDisk, unit(Starting)), Stop, "disk/stop"},
		{"disk/in_backoff_it_is_not_left_to_pid_1", replica(fillsDisk, unit(Backoff)), Stop, "disk/stop"},
		{"disk/it_is_not_started", replica(fresh, fillsDisk), None, "settled"},
		{"disk/one_over_goes_on", replica(large), None, "settled"},
		{"disk/one_over_is_started", replica(fresh, large), Start, "start"},
		{"disk/a_held_pool_is_left_alone", replica(unknown, fillsDisk), None, "unknown"},
		{"gpu/unusable_is_drained", replica(gpuUnusable), Drain, "gpu/drain"},
		{"gpu/unusable_and_drained_is_stopped", replica(gpuUnusable, drained), Stop, "gpu/stop"},
		{"gpu/unusable_while_loading_is_stopped_at_once", replica(gpuUnusable, unit(Starting)), Stop, "gpu/stop"},
		{"gpu/unusable_in_backoff_is_not_left_to_pid_1", replica(gpuUnusable, unit(Backoff)), Stop, "gpu/stop"},
		{"gpu/unusable_is_not_started", replica(fresh, gpuUnusable), None, "settled"},
		{"gpu/unusable_and_broken_waits", replica(unit(Broken), gpuUnusable, retryIn(0)), None, "settled"},
		{"gpu/unusable_held_pool_is_left_alone", replica(unknown, gpuUnusable), None, "unknown"},
		{"gpu/back_while_draining_is_used_again", replica(draining), Resume, "resume"},
		{"gpu/back_after_the_stop_is_started", replica(fresh), Start, "start"},
		{"fault/process_is_restarted", replica(faulty), Kill, "fault/kill"},
		{"fault/not_while_held_work_finishes", replica(faulty, drained, oldSpec), Stop, "replace/stop"},
		{"fault/unusable_gpu_goes_before", replica(faulty, gpuUnusable), Drain, "gpu/drain"},
		{"memory/short_start_waits", replica(fresh, short, retryIn(time.Second)), None, "waiting"},
		{"memory/short_start_is_tried_when_due", replica(fresh, short, retryIn(0)), Start, "start"},
		{"backoff/pid_1s_start_would_not_suit", replica(unit(Backoff), ours), Defer, "backoff/defer"},
		{"backoff/stopped_for_the_managers_start", replica(unit(Exited), ours), Clear, "exited/ours"},
		{"backoff/one_that_runs_is_left_alone", replica(ours), None, "settled"},

		{"refused/runs_and_is_drained", replica(refused), Drain, "forbidden/drain"},
		{"refused/then_stopped", replica(refused, drained), Stop, "forbidden/stop"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := Plan(c.f, noon)
			if got.Action != c.want || got.Rule != c.rule {
				t.Errorf("Plan = %q by rule %q, want %q by rule %q", got.Action, got.Rule, c.want, c.rule)
			}
			if got.Reason == "" {
				t.Error("a decision without a reason")
			}
		})
	}
}

// TestPlanWakesUpForTheNextAttempt: Plan returns when the next wait ends, and no time for a wait
// that is over.
func TestPlanWakesUpForTheNextAttempt(t *testing.T) {
	delay := func(d time.Duration) is { return func(f *Facts) { f.Delayed, f.DelayedUntil = true, noon.Add(d) } }
	for _, c := range []struct {
		name string
		f    Facts
		want time.Duration // 0: it sleeps until something happens
	}{
		{"settled", replica(), 0},
		{"a_retry", replica(fresh, failing, retryIn(7*time.Second)), 7 * time.Second},
		{"a_delay", replica(fresh, delay(5*time.Second)), 5 * time.Second},
		{"a_delay_beyond_the_retry", replica(fresh, retryIn(7*time.Second), delay(9*time.Second)), 9 * time.Second},
		{"a_delay_before_the_retry", replica(fresh, retryIn(7*time.Second), delay(5*time.Second)), 7 * time.Second},
		{"a_delay_that_is_over", replica(delay(0)), 0},
		{"a_stop_that_failed", replica(unwanted, stopFailed(3*time.Second)), 3 * time.Second},
		{"a_stop_before_the_retry", replica(stopFailed(3*time.Second), retryIn(7*time.Second)), 3 * time.Second},
		{"a_stop_after_the_retry", replica(stopFailed(9*time.Second), retryIn(7*time.Second)), 7 * time.Second},
		{"a_stop_whose_time_has_come", replica(stopFailed(0)), 0},
		{"an_action_is_under_way", replica(op(Start), stopFailed(3*time.Second)), 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want time.Time
			if c.want > 0 {
				want = noon.Add(c.want)
			}
			if got := Plan(c.f, noon); !got.At.Equal(want) {
				t.Errorf("%s wakes up at %v, want %v", got.Rule, got.At, want)
			}
		})
	}
	t.Run("a_failed_stop_of_a_unit_that_is_gone_delays_nothing", func(t *testing.T) {
		if got := Plan(replica(fresh, stopFailed(3*time.Second)), noon); got.Action != Start || !got.At.IsZero() {
			t.Errorf("%+v", got)
		}
	})
}

// factsFrom makes any combination of facts from bytes.
func factsFrom(b []byte) Facts {
	at := func(i, n int) int {
		if i >= len(b) {
			return 0
		}
		return int(b[i]) % n
	}
	f := Facts{
		Wish: Wish(at(0, 3)), Role: Role(at(1, 4)),
		Stage: Step(at(2, 4)), Prepare: Step(at(3, 4)), Unit: Phase(at(4, 7)), Probe: Probe(at(5, 3)),
		Drain: Drainage(at(6, 3)), Rolling: at(7, 2) == 1, FailOpen: at(8, 2) == 1,
		Spec:     Spec{[]string{"", "a", "b"}[at(9, 3)], []string{"x", "y"}[at(10, 2)]},
		UnitSpec: Spec{[]string{"", "a", "b"}[at(11, 3)], []string{"x", "y"}[at(12, 2)]},
		RetryAt:  noon.Add(time.Duration(at(13, 3)-1) * time.Second),
	}
	if at(14, 2) == 1 {
		refused(&f)
	}
	if at(15, 2) == 1 {
		invalid(&f)
	}
	if at(16, 8) == 7 {
		f.Op = Start
	}
	if at(18, 2) == 1 {
		gpuUnusable(&f)
	}
	if at(19, 2) == 1 {
		faulty(&f)
	}
	if at(20, 2) == 1 {
		short(&f)
	}
	f.Ours, f.Parked, f.Revive = at(21, 2) == 1, at(22, 2) == 1, at(23, 2) == 1
	if n := at(17, 4); n > 0 {
		stopFailed(time.Duration(n-2) * time.Second)(&f)
	}
	return f
}

// FuzzPlan holds what must be true of every decision, whatever the facts.
func FuzzPlan(f *testing.F) {
	f.Add([]byte{2, 0, 2, 2, 2, 1})
	f.Add([]byte{0, 0, 2, 2, 2, 1, 2})
	f.Fuzz(mutate.Many(func(t *testing.T, b []byte) {
		facts := factsFrom(b)
		d, v := Plan(facts, noon), Assess(facts)
		if d.Reason == "" || d.Rule == "" {
			t.Errorf("%+v: a decision without a reason", facts)
		}
		switch d.Action {
		case Start:
			if facts.Exists() || facts.Unit == Stopping {
				t.Errorf("%+v: started beside a unit that exists", facts)
			}
			if facts.Parked {
				t.Errorf("%+v: started although an operator drained it", facts)
			}
			if facts.Wish != Wanted || facts.Refusal != nil || facts.Prepare != Done {
				t.Errorf("%+v: started although not wanted, refused or not prepared", facts)
			}
		case Stop:
			if facts.Unit == Active && facts.Drain != Drained && facts.Disk == nil {
				t.Errorf("%+v: an engine that serves was stopped without a drain", facts)
			}
			if facts.StopErr != nil && facts.StopAt.After(noon) {
				t.Errorf("%+v: a stop that failed was repeated without a pause", facts)
			}
		case Kill:
			if facts.Unit != Active || facts.Drain != NotDrained || facts.Fault == nil {
				t.Errorf("%+v: ended without a fault, or while it drains", facts)
			}
		case Stage, Prepare, Drain, SetLimits:
			if facts.Wish == Unknown {
				t.Errorf("%+v: a replica with an invalid file was touched by %s", facts, d.Action)
			}
		}
		if facts.GPU != nil && (d.Action == Start || d.Action == Kill || d.Action == Resume &&
			facts.Wish != Unknown || v.Ready) {
			t.Errorf("%+v: an unusable GPU is used: %s, ready=%t", facts, d.Action, v.Ready)
		}
		if facts.Disk != nil && (d.Action == Start || v.Ready) {
			t.Errorf("%+v: an engine that fills the disk goes on: %s, ready=%t", facts, d.Action, v.Ready)
		}
		if facts.Wish == Unknown && d.Action != None && d.Action != Resume {
			t.Errorf("%+v: a replica with an invalid file got %s", facts, d.Action)
		}
		if v.Ready && (facts.Unit != Active || facts.Drain != NotDrained || facts.Probe == Unprobed) {
			t.Errorf("%+v: ready by accident", facts)
		}
		if v.Ready && !v.Live {
			t.Errorf("%+v: ready but not live", facts)
		}
	}))
}
