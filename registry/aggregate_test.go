package registry

import (
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/test/golden"
)

var update = flag.Bool("update", false, "write the generated tables and golden files")

// replicas makes a pool with one replica for each state, r0 first. Ready replicas have 4 slots of
// which 3 are free.
func replicas(states ...State) Pool {
	p := Pool{ID: "llama3", Wanted: true}
	for i, s := range states {
		live := !slices.Contains([]State{StateBackoff, StateStopping, StateFailed, StateRefused, StateInvalid,
			StateStopped}, s)
		p.Replicas = append(p.Replicas, Replica{ID: fmt.Sprintf("r%d", i), State: s, Live: live, Ready: s == StateReady,
			SlotsTotal: 4, ActiveLeases: 1})
	}
	return p
}

func TestAggregateState(t *testing.T) {
	cases := []struct {
		name                  string
		in                    Pool
		state                 State
		live, ready, draining bool
		free                  int
	}{
		{"one_ready_replica_makes_the_pool_ready", replicas(StateFailed, StateReady, StateBackoff), StateReady, true, true, false, 3},
		{"free_slots_are_those_of_ready_replicas", replicas(StateReady, StateReady, StateUnhealthy), StateReady, true, true, false, 6},
		{"a_replica_that_loads_is_better_than_one_that_fails", replicas(StateUnhealthy, StateStarting), StateStarting, true, false, false, 0},
		{"crashed", replicas(StateBackoff), StateBackoff, false, false, false, 0},
		{"what_says_why_is_better_than_what_was_stopped", replicas(StateStopped, StateFailed), StateFailed, false, false, false, 0},
		{"all_replicas_drain", replicas(StateDraining, StateStopped), StateDraining, true, false, true, 0},
		{"one_replica_is_replaced_while_another_serves", replicas(StateDraining, StateReady), StateReady, true, true, false, 3},
		{"the_pool_was_asked_to_drain", asked(replicas(StateReady, StateStarting)), StateDraining, true, false, true, 0},
		{"wanted_and_nothing_known_yet", Pool{Wanted: true}, StateStaging, false, false, false, 0},
		{"not_wanted_and_nothing_left", Pool{}, StateStopped, false, false, false, 0},
		{"a_wrong_file_from_the_start", Pool{LastError: Fail(CodeConfigInvalid, "", "")}, StateInvalid, false, false, false, 0},
		{"refused_from_the_start", Pool{Wanted: true, LastError: Fail(CodePolicyDenied, "", "")}, StateRefused, false, false, false, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := Aggregate(c.in)
			if p.State != c.state || p.Live != c.live || p.Ready != c.ready || p.Draining != c.draining ||
				p.SlotsFree != c.free {
				t.Errorf("Aggregate = %s live=%t ready=%t draining=%t slots_free=%d,\nwant        %s live=%t "+
					"ready=%t draining=%t slots_free=%d",
					p.State, p.Live, p.Ready, p.Draining, p.SlotsFree, c.state, c.live, c.ready, c.draining, c.free)
			}
		})
	}
}

func asked(p Pool) Pool { p.Draining = true; return p }

func TestAggregateFields(t *testing.T) {
	five, four := 5, 4
	t0 := time.UnixMilli(1_700_000_000_000)
	half := 0.5
	crash, oom := Fail(CodeEngineCrashed, "exit 1", ""), Fail(CodeEngineOOM, "killed", "")
	in := Pool{ID: "p", Wanted: true, Replicas: []Replica{
		{ID: "r0", State: StateBackoff, SlotsTotal: 4, RestartCount: 3, Backoff: 5 * time.Second, LastError: oom, QueueDepth: &five, Work: Work{TokensInFlight: &five},
			Since: t0.Add(time.Second), DeviceMask: []string{"0", "1"}, EngineVersion: "b1", LastHeartbeat: t0},
		{ID: "r1", State: StateReady, Ready: true, Live: true, SlotsTotal: 2, SlotsFree: 9, ActiveLeases: 1, RestartCount: 1, LastError: crash, QueueDepth: &four, Work: Work{InProgress: &five, TokensInFlight: &four, KVCacheUsage: &half},
			Since: t0, DeviceMask: []string{"1", "2"}, EngineVersion: "b2", LastHeartbeat: t0.Add(time.Minute)},
	}}
	p := Aggregate(in)
	want := Pool{
		ID: "p", Wanted: true, State: StateReady, Live: true, Ready: true, EngineVersion: "b2",
		DeviceMask: []string{"0", "1", "2"},
		SlotsTotal: 6, SlotsFree: 1, ActiveLeases: 1, QueueDepth: &four,
		Work:         Work{InProgress: &five, TokensInFlight: &four, KVCacheUsage: &half},
		RestartCount: 4, Backoff: 5 * time.Second,
		LastError: oom, LastHeartbeat: t0.Add(time.Minute),
		Replicas: slices.Clone(in.Replicas),
	}
	want.Replicas[0].SlotsFree = 0 // it is not ready
	want.Replicas[1].SlotsFree = 1 // whatever the writer had
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("Aggregate (-want +got):\n%s", diff)
	}
	if in.Replicas[1].SlotsFree != 9 {
		t.Error("Aggregate changed its input")
	}
	if diff := cmp.Diff(p, Aggregate(p)); diff != "" {
		t.Errorf("a second Aggregate changes something:\n%s", diff)
	}
}

// TestAggregateError: an invalid file is reported of a pool that serves, and hides no crash.
func TestAggregateError(t *testing.T) {
	wrong, short := Fail(CodeConfigInvalid, "no such key", ""), Fail(CodeInsufficientRAM, "1 GiB", "")
	crash := Fail(CodeEngineCrashed, "exit 1", "")
	crash.Ending = &Ending{Result: "exit-code"}
	down := func(f *Failure) Replica { return Replica{ID: "r0", State: StateBackoff, LastError: f} }
	up := Replica{ID: "r1", State: StateReady, Ready: true}
	for name, c := range map[string]struct {
		own      *Failure
		replicas []Replica
		want     *Failure
	}{
		"nothing":                      {nil, []Replica{up}, nil},
		"wrong_file_and_it_serves":     {wrong, []Replica{up}, wrong},
		"wrong_file_and_one_crashed":   {wrong, []Replica{down(crash), up}, wrong},
		"wrong_file_and_all_crashed":   {wrong, []Replica{down(crash)}, crash},
		"wrong_file_and_nothing_ended": {wrong, []Replica{down(short)}, wrong},
		"crashed":                      {nil, []Replica{down(crash)}, crash},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Aggregate(Pool{ID: "p", Wanted: true, LastError: c.own,
				Replicas: c.replicas}).LastError; got != c.want {
				t.Errorf("last_error %v, want %v", got, c.want)
			}
		})
	}
}

// TestAggregateTableInDocs prints the rule that this package applies.
func TestAggregateTableInDocs(t *testing.T) {
	var b strings.Builder
	b.WriteString("<!-- Written by go test ./registry -update; do not edit. -->\n# A pool as the sum of its " +
		"replicas\n\n")
	b.WriteString("The states, best first. A pool has the state of its best replica:\n\n")
	for i, s := range States() {
		fmt.Fprintf(&b, "%d. `%s`\n", i+1, s)
	}
	b.WriteString("\n| field of the pool | how it is computed |\n| --- | --- |\n")
	for _, row := range aggregateTable {
		fmt.Fprintf(&b, "| `%s` | %s |\n", row.Field, row.Rule)
	}
	b.WriteString("\nWhy `ready` flipped (`reason` of `readiness_transitions_total`): ")
	for i, r := range Reasons() {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "`%s`", r)
	}
	b.WriteString(".\n")
	golden.File(t, filepath.Join("..", "docs", "reference", "pool-status.md"), b.String(), *update)
}
