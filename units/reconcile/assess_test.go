package reconcile

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

var update = flag.Bool("update", false, "write the generated tables")

// TestAssessReportsWhoEndedIt: both are stopped, for different reasons.
func TestAssessReportsWhoEndedIt(t *testing.T) {
	byHand := Assess(replica(unit(Exited)))
	itself := Assess(replica(unit(Exited), func(f *Facts) {
		f.EndedItself, f.Crash = true, registry.Fail(registry.CodeEngineExited, "status 0", "")
	}))
	if byHand.State != registry.StateStopped || itself.State != registry.StateStopped || byHand.Failure != nil ||
		itself.Failure == nil || itself.Failure.Code != registry.CodeEngineExited {
		t.Errorf("a stop is %s (%v), an end with status 0 %s (%v); want both stopped, the second with its cause",
			byHand.State, byHand.Failure, itself.State, itself.Failure)
	}
	if byHand.Reason != "the engine was stopped" || !strings.Contains(itself.Reason, "ended by itself") {
		t.Errorf("reasons %q and %q", byHand.Reason, itself.Reason)
	}
}

func TestAssess(t *testing.T) {
	sick := func(f *Facts) {
		f.Probe, f.ProbeErr = Unhealthy, registry.Fail(registry.CodeHealthFailed, "status 500", "")
	}
	crashed := func(f *Facts) {
		f.Unit, f.Crash = Backoff, registry.Fail(registry.CodeEngineCrashed, "exited with status 1", "")
	}
	open := func(f *Facts) {
		f.Delayed, f.BreakerErr = true, registry.Fail(registry.CodeBreakerOpen, "3 failures in a row", "")
	}
	cases := []struct {
		name  string
		f     Facts
		state registry.State
		ready bool
		code  registry.Code
	}{
		{"healthy_and_gated_is_ready", replica(), registry.StateReady, true, ""},
		{"gate_alone_is_not_ready", replica(func(f *Facts) { f.Probe = Unprobed }), registry.StateProbing, false, ""},
		{"loading", replica(unit(Starting)), registry.StateStarting, false, ""},
		{"crashed", replica(crashed), registry.StateBackoff, false, registry.CodeEngineCrashed},
		{"start_is_delayed", replica(crashed, fresh, func(f *Facts) { f.Delayed = true }), registry.StateBackoff, false, registry.CodeEngineCrashed},
		{"breaker_open", replica(crashed, open, fresh), registry.StateFailed, false, registry.CodeBreakerOpen},
		{"breaker_open_while_pid_1_waits", replica(crashed, open), registry.StateFailed, false, registry.CodeBreakerOpen},
		{"breaker_open_while_the_start_is_deferred", replica(crashed, open, unit(Starting), op(Defer)), registry.StateFailed, false, registry.CodeBreakerOpen},
		{"the_trial_of_a_breaker", replica(crashed, open, fresh, op(Start)), registry.StateStarting, false, registry.CodeEngineCrashed},
		{"probe_fails", replica(sick), registry.StateUnhealthy, false, registry.CodeHealthFailed},
		{"probe_fails_open", replica(sick, func(f *Facts) { f.FailOpen = true }), registry.StateReady, true, registry.CodeHealthFailed},
		{"draining_is_never_ready", replica(draining), registry.StateDraining, false, ""},
		{"file_went_bad_while_it_serves", replica(invalid), registry.StateReady, true, registry.CodeConfigInvalid},
		{"file_bad_from_the_start", replica(fresh, unknown), registry.StateInvalid, false, registry.CodeConfigInvalid},
		{"refused", replica(fresh, refused), registry.StateRefused, false, registry.CodePolicyDenied},
		{"model_missing", replica(fresh, failing), registry.StateFailed, false, registry.CodeModelNotFound},
		{"new_model_missing_while_the_former_serves", replica(failing), registry.StateReady, true, registry.CodeModelNotFound},
		{"stopped_by_an_operator", replica(unit(Exited)), registry.StateStopped, false, ""},
		{"staging", replica(fresh, stage(Running), prep(Pending)), registry.StateStaging, false, ""},
		{"preparing", replica(fresh, prep(Running)), registry.StatePreparing, false, ""},
		{"gpu_unusable_is_never_ready", replica(gpuUnusable), registry.StateUnhealthy, false, registry.CodeGPUUnavailable},
		{"gpu_unusable_is_never_ready_fail_open_or_not", replica(gpuUnusable, func(f *Facts) { f.FailOpen = true }), registry.StateUnhealthy, false, registry.CodeGPUUnavailable},
		{"gpu_unusable_while_draining", replica(gpuUnusable, draining), registry.StateDraining, false, registry.CodeGPUUnavailable},
		{"gpu_unusable_and_stopped_waits", replica(fresh, gpuUnusable), registry.StateWaiting, false, registry.CodeGPUUnavailable},
		{"over_its_part_of_the_disk_is_ready", replica(large), registry.StateReady, true, registry.CodeStateTooLarge},
		{"far_over_is_not_ready", replica(fillsDisk), registry.StateUnhealthy, false, registry.CodeStateTooLarge},
		{"gpu_unusable_after_a_crash_waits", replica(crashed, fresh, gpuUnusable, func(f *Facts) { f.Delayed = true }), registry.StateWaiting, false, registry.CodeGPUUnavailable},
		{"without_its_unit_file_is_ready", replica(bare), registry.StateReady, true, registry.CodeUnitFileMissing},
		{"crashed_and_pid_1_does_nothing", replica(unit(Backoff), crashed, stopFailed(0)), registry.StateFailed, false, registry.CodeEngineStartFailed},
		{"far_over_and_stopped_waits", replica(fresh, fillsDisk), registry.StateWaiting, false, registry.CodeStateTooLarge},
		{"gpu_fault_is_not_ready", replica(faulty), registry.StateUnhealthy, false, registry.CodeCUDAError},
		{"too_little_memory_waits", replica(fresh, short), registry.StateWaiting, false, registry.CodeInsufficientVRAM},
		{"too_little_memory_waits_while_it_is_tried_again", replica(fresh, short, op(Start)), registry.StateWaiting, false, registry.CodeInsufficientVRAM},
		{"parked_and_stopped", replica(fresh, parked), registry.StateStopped, false, ""},
		{"parked_and_stopped_at_the_deadline", replica(fresh, parked, cut), registry.StateStopped, false, registry.CodeDrainTimeout},
		{"parked_and_still_serving_drains", replica(parked, draining), registry.StateDraining, false, ""},
		{"being_stopped", replica(op(Stop)), registry.StateStopping, false, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := Assess(c.f)
			var code registry.Code
			if v.Failure != nil {
				code = v.Failure.Code
			}
			if v.State != c.state || v.Ready != c.ready || code != c.code {
				t.Errorf("Assess = %s ready=%t %s, want %s ready=%t %s", v.State, v.Ready, code, c.state, c.ready,
					c.code)
			}
		})
	}
}

// TestWithPendingChange: of several failures the first that matters to a serving engine is
// reported, and the state's own comes before all.
func TestWithPendingChange(t *testing.T) {
	rejected := func(f *Facts) { f.Rejected = registry.Fail(registry.CodeReloadCancelled, "gone back", "") }
	refuses := func(f *Facts) { f.Refusal = registry.Fail(registry.CodePolicyDenied, "not here", "") }
	sick := func(f *Facts) {
		f.Probe, f.ProbeErr = Unhealthy, registry.Fail(registry.CodeHealthFailed, "status 500", "")
	}
	ofStop := func(f *Facts) {
		f.Unit, f.Crash = Exited, registry.Fail(registry.CodeEngineStopTimeout, "did not end", "")
	}
	preparing := func(f *Facts) {
		f.Prepare, f.Failure = Failed, registry.Fail(registry.CodeProvisionFailed, "no engine", "")
	}
	for _, c := range []struct {
		name string
		f    Facts
		code registry.Code
	}{
		{"a_stop_that_failed", replica(stopFailed(time.Second), rejected, invalid), registry.CodeEngineStartFailed},
		{"a_version_that_was_gone_back_from", replica(rejected, invalid, refuses), registry.CodeReloadCancelled},
		{"a_wrong_file", replica(invalid, refuses), registry.CodeConfigInvalid},
		{"a_policy", replica(refuses, preparing), registry.CodePolicyDenied},
		{"an_engine_that_cannot_be_prepared", replica(preparing), registry.CodeProvisionFailed},
		{"the_states_own_reason_comes_first", replica(sick, stopFailed(time.Second), invalid), registry.CodeHealthFailed},
		{"a_stop_that_took_too_long", replica(ofStop), registry.CodeEngineStopTimeout},
		{"a_crash_of_what_is_no_longer_wanted", replica(fresh, unwanted, func(f *Facts) { f.Crash = registry.Fail(registry.CodeEngineCrashed, "", "") }), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var code registry.Code
			if v := Assess(c.f); v.Failure != nil {
				code = v.Failure.Code
			}
			if code != c.code {
				t.Errorf("failure %q, want %q", code, c.code)
			}
		})
	}
}

// TestTablesInDocs prints both tables; the administrator's pages show them as they are in the code.
func TestTablesInDocs(t *testing.T) {
	var b strings.Builder
	b.WriteString("<!-- Written by go test ./units/reconcile -update; do not edit. -->\n# States and rules\n\n")
	b.WriteString("## States of a replica\n\nThe first row whose condition holds is the state.\n\n")
	b.WriteString("| state | live | ready | when |\n| --- | --- | --- | --- |\n")
	for _, r := range stateTable {
		fmt.Fprintf(&b, "| `%s` | %t | %t | %s |\n", r.State, r.Live, r.Ready, r.When)
	}
	b.WriteString("\n## Rules of the plan\n\nThe first rule that applies names the next action and its reason.\n\n")
	b.WriteString("| rule | action | reason |\n| --- | --- | --- |\n")
	for _, r := range planRules {
		action := string(r.Action)
		if action == "" {
			action = "nothing"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.Name, action, r.Reason)
	}
	b.WriteString("\n## Legal moves\n\nAn action in any other state is refused: the plan never asks for one, and the " +
		"supervisor checks it again.\n\n")
	b.WriteString("| action | in the states | leads to |\n| --- | --- | --- |\n")
	for _, m := range moves {
		fmt.Fprintf(&b, "| %s | `%s` | %s |\n", m.Action, strings.Join(names(m.From), "`, `"), m.To)
	}
	b.WriteString("\n## Changes without an action\n\nFor a replica that is wanted, over all other facts.\n\n")
	b.WriteString("| what | from → to |\n| --- | --- |\n" + strings.Join(happened(), "\n") + "\n")
	path := filepath.Join("..", "..", "docs", "reference", "states.md")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Errorf("%s is not what the code says; run go test ./units/reconcile -update", path)
	}
}

func names(states []registry.State) []string {
	var n []string
	for _, s := range states {
		n = append(n, string(s))
	}
	return n
}
