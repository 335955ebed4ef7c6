package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// TestExplain shows what poolctl explain prints for pools and for codes.
func TestExplain(t *testing.T) {
	h := newHost(t)
	h.fill()
	pid := 4242
	for _, p := range []registry.Pool{
		one("staging", registry.Replica{State: registry.StateStaging, Reason: "the model is being found and " +
			"verified"}, nil),
		one("loading", registry.Replica{State: registry.StateStarting, PID: pid, Reason: "the engine loads its " +
			"model"}, nil),
		one("memory", registry.Replica{State: registry.StateWaiting, Reason: "it waits for memory"},
			registry.Fail(registry.CodeInsufficientVRAM, "GPU 0 has 3.0 GiB free, and 8.0 GiB are needed", "Stop "+
				"another pool.")),
		one("drained", registry.Replica{State: registry.StateStopped, Reason: "an operator drained it"}, nil),
		one("breaker", registry.Replica{State: registry.StateFailed, Reason: "the breaker is open"},
			registry.Fail(registry.CodeBreakerOpen, "5 runs failed within 10m", "Read the log, then poolctl reset "+
				"breaker.")),
		one("hung", registry.Replica{State: registry.StateUnhealthy, PID: pid, Reason: "the probe fails"},
			registry.Fail(registry.CodeHealthFailed, "GET /health: 503", "poolctl logs hung")),
	} {
		h.reg.Put(p)
	}
	edited := one("edited", registry.Replica{State: registry.StateReady, Ready: true, Live: true, PID: pid}, nil)
	edited.LastError = registry.Fail(registry.CodeConfigInvalid, "edited.toml:2:1: unknown key modle", "Did you "+
		"mean model?")
	h.reg.Put(edited)
	removed := one("removed", registry.Replica{State: registry.StateDraining, PID: pid, Reason: "no pool file " +
		"asks for it"}, nil)
	removed.Wanted = false
	h.reg.Put(removed)
	for _, c := range []struct{ name, line string }{
		{"explain-ready", "explain gemma"},
		{"explain-two-replicas", "explain llama3-8b"},
		{"explain-model-missing", "explain phi"},
		{"explain-invalid", "explain typo"},
		{"explain-staging", "explain staging"},
		{"explain-loading", "explain loading"},
		{"explain-memory", "explain memory"},
		{"explain-drained", "explain drained"},
		{"explain-breaker", "explain breaker"},
		{"explain-hung", "explain hung"},
		{"explain-edited", "explain edited"},
		{"explain-removed", "explain removed"},
		{"explain-json", "explain memory -o json"},
		{"explain-unknown", "explain gema"},
		{"explain-code", "explain INSUFFICIENT_VRAM"},
		{"explain-code-json", "explain BREAKER_OPEN -o json"},
		{"explain-code-typo", "explain ENGINE_CRASHD"},
		{"explain-code-of-a-word", "explain OOM"},
		{"explain-code-of-another-word", "explain HOST_OOM"},
		{"explain-code-of-no-word", "explain FRAME_BUFFER"},
		{"explain-code-in-lower-case", "explain cuda_oom"},
		{"explain-codes", "explain"},
		{"explain-two", "explain gemma phi"},
		{"explain-bad-id", "explain ../etc"},
	} {
		t.Run(c.name, func(t *testing.T) { h.golden(t, c.name, c.line) })
	}
}

// one is a pool with one replica.
func one(id string, r registry.Replica, failure *registry.Failure) registry.Pool {
	r.ID, r.Unit, r.LastError, r.DeviceMask = "r0", "pool-engine@"+id+".r0.service", failure, []string{"0"}
	r.EngineVersion = "b5000"
	return registry.Aggregate(registry.Pool{ID: id, Engine: "llamacpp", ModelID: "file:/srv/models/a.gguf",
		Wanted:   true,
		Replicas: []registry.Replica{r}})
}

// TestExplainKnowsAll: each state and each code has its place on the way, or is one of a request,
// and the page of failures has a row of each code.
func TestExplainKnowsAll(t *testing.T) {
	for _, s := range registry.States() {
		at, ok := standOfState(s)
		if !ok {
			t.Errorf("state %s has no step", s)
		}
		if at.known > at.at || at.at >= steps {
			t.Errorf("state %s stands at %d with %d steps before it", s, at.at, at.known)
		}
		if commandOfState(s, "x") == "" && !erring(s) && s != registry.StateReady {
			t.Errorf("state %s has no command", s)
		}
	}
	noStep := []string{"ENGINE_STOP_TIMEOUT", "DRAIN_TIMEOUT", "STATE_NOT_SAVED", "POOL_NOT_FOUND", "INVALID_PARAMS",
		"RELOAD_IN_PROGRESS", "RELOAD_CANCELLED", "POOL_EXISTS", "POOL_FROM_FILE", "BENCH_REFUSED",
		"BENCH_UNSUPPORTED", "BENCH_FAILED", "FLEET_NOT_CONFIGURED", "FLEET_UNAVAILABLE"}
	rows := codes()
	if len(rows) < 25 {
		t.Fatalf("%d codes in the page of failures", len(rows))
	}
	for _, r := range rows {
		if _, ok := standOfCode(registry.Code(r.Code)); ok == slices.Contains(noStep, r.Code) {
			t.Errorf("%s: has a step: %t", r.Code, ok)
		}
		for _, cell := range []string{r.Symptom, r.Happens, r.Do} {
			if cell == "" || strings.ContainsAny(cell, "`[]|") && !strings.Contains(cell,
				"[") || strings.Contains(cell, "](") {
				t.Errorf("%s: %q is no plain text", r.Code, cell)
			}
		}
	}
}

// TestExplainMarksAreTrue: a step is never said to hold that the state does not show to hold.
func TestExplainMarksAreTrue(t *testing.T) {
	pid := 1
	for _, c := range []struct {
		name  string
		state registry.State
		code  string
		pid   *int
		marks string // of the steps, in order
	}{
		{"ready", registry.StateReady, "", &pid, "ok ok ok ok ok ok ok ok ok ok ok"},
		{"starting_before_the_process", registry.StateStarting, "", nil, "ok ok ok ok ok ok ? now - - -"},
		{"starting_with_a_process", registry.StateStarting, "", &pid, "ok ok ok ok ok ok ok ok now - -"},
		{"waits_for_a_gpu", registry.StateWaiting, "GPU_UNAVAILABLE: lost", nil, "ok ok ok ? ? NO - - - - -"},
		{"waits_without_an_error", registry.StateWaiting, "", nil, "ok ok ? ? ? ? NO - - - -"},
		{"an_old_error_is_no_reason", registry.StateStarting, "ENGINE_CRASHED: 1", &pid, "ok ok ok ok ok ok ok ok " +
			"now - -"},
		{"crashed", registry.StateBackoff, "ENGINE_CRASHED: 1", nil, "ok ok ok ok ok ok ? NO - - -"},
		{"no_binary", registry.StateFailed, "PROVISION_FAILED: none", nil, "ok ok ok ? NO - - - - - -"},
		{"forbidden", registry.StateRefused, "POLICY_DENIED: no", nil, "ok NO - - - - - - - - -"},
		{"a_state_of_a_later_version", "resting", "", nil, "? ? ? ? ? ? ? ? ? ? ?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := wire.Replica{ID: "r0", State: string(c.state), PID: c.pid}
			if c.code != "" {
				r.LastError = &c.code
			}
			var marks []string
			for _, s := range explainReplica(wire.Pool{ID: "a", Wanted: true, Replicas: []wire.Replica{r}}, r).Steps {
				marks = append(marks, s.Mark)
			}
			if got := strings.Join(marks, " "); got != c.marks {
				t.Errorf("got  %s\nwant %s", got, c.marks)
			}
		})
	}
}
