package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"testing"
)

// flipNames renders events as "llama3 ready healthy" or "llama3/r0 unready crash".
func flipNames(events []Event) []string {
	var out []string
	for _, e := range events {
		name, to := e.PoolID, "unready"
		if e.ReplicaID != "" {
			name += "/" + e.ReplicaID
		}
		if e.Ready {
			to = "ready"
		}
		out = append(out, fmt.Sprintf("%s %s %s", name, to, e.Reason))
	}
	return out
}

func TestReadinessEvents(t *testing.T) {
	oom := replicas(StateBackoff)
	oom.Replicas[0].LastError = Fail(CodeEngineOOM, "killed at 6 GiB", "raise memory_max")
	cases := []struct {
		name  string
		steps []Pool // the zero value removes the pool
		want  []string
	}{
		{"becomes_ready", []Pool{replicas(StateStarting), replicas(StateProbing), replicas(StateReady)},
			[]string{"llama3/r0 ready healthy", "llama3 ready healthy"}},
		{"stays_ready_without_an_event", []Pool{replicas(StateReady), replicas(StateReady)},
			[]string{"llama3/r0 ready healthy", "llama3 ready healthy"}},
		{"crashes", []Pool{replicas(StateReady), replicas(StateBackoff)},
			[]string{"llama3/r0 ready healthy", "llama3 ready healthy", "llama3/r0 unready crash", "llama3 unready crash"}},
		{"runs_out_of_memory", []Pool{replicas(StateReady), oom},
			[]string{"llama3/r0 ready healthy", "llama3 ready healthy", "llama3/r0 unready oom", "llama3 unready oom"}},
		{"fails_its_probe", []Pool{replicas(StateReady), replicas(StateUnhealthy)},
			[]string{"llama3/r0 ready healthy", "llama3 ready healthy", "llama3/r0 unready unhealthy", "llama3 unready unhealthy"}},
		{"is_drained_and_stopped", []Pool{replicas(StateReady), replicas(StateDraining), replicas(StateStopping), replicas(StateStopped)},
			[]string{"llama3/r0 ready healthy", "llama3 ready healthy", "llama3/r0 unready drain", "llama3 unready drain"}},
		{"came_back_before_anybody_looked", []Pool{replicas(StateReady), replicas(StateStarting)},
			[]string{"llama3/r0 ready healthy", "llama3 ready healthy", "llama3/r0 unready restart", "llama3 unready restart"}},
		{"one_of_two_replicas_fails", []Pool{replicas(StateReady, StateReady), replicas(StateReady, StateFailed)},
			[]string{"llama3/r0 ready healthy", "llama3/r1 ready healthy", "llama3 ready healthy", "llama3/r1 unready crash"}},
		{"a_replica_is_taken_away", []Pool{replicas(StateReady, StateReady), replicas(StateReady)},
			[]string{"llama3/r0 ready healthy", "llama3/r1 ready healthy", "llama3 ready healthy", "llama3/r1 unready removed"}},
		{"is_removed_while_it_serves", []Pool{replicas(StateReady), {}},
			[]string{"llama3/r0 ready healthy", "llama3 ready healthy", "llama3/r0 unready removed", "llama3 unready removed"}},
		{"is_removed_when_stopped", []Pool{replicas(StateStopped), {}}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := New()
			var observed []Event
			r.Observe(func(e Event, p *Pool) {
				if p.ID != e.PoolID {
					t.Errorf("the event is of %s and comes with %s", e.PoolID, p.ID)
				}
				observed = append(observed, e)
			})
			for _, p := range c.steps {
				if p.ID == "" {
					r.Remove("llama3")
				} else {
					r.Put(Aggregate(p))
				}
			}
			kept, missed := r.Events(0)
			if got := flipNames(kept); !slices.Equal(got, c.want) || missed != 0 {
				t.Errorf("events = %q, missed %d\nwant     %q", got, missed, c.want)
			}
			if !slices.Equal(flipNames(observed), c.want) {
				t.Errorf("observed %q", flipNames(observed))
			}
			for i, e := range kept {
				if e.Seq != uint64(i+1) || e.Cause == "" && e.Reason == ReasonRemoved {
					t.Errorf("event %d has number %d and cause %q", i, e.Seq, e.Cause)
				}
			}
		})
	}
}

func TestEventsAreBounded(t *testing.T) {
	r := New()
	flips := 0
	for flips < 3*ringSize {
		r.Put(Aggregate(replicas(StateReady)))
		r.Put(Aggregate(replicas(StateUnhealthy)))
		flips += 4
	}
	kept, missed := r.Events(0)
	if len(kept) != ringSize || missed != int64(flips-ringSize) {
		t.Errorf("%d events kept, %d missed; want %d and %d", len(kept), missed, ringSize, flips-ringSize)
	}
	newest := kept[len(kept)-1].Seq
	if newest != uint64(flips) || kept[0].Seq != newest-ringSize+1 {
		t.Errorf("kept %d to %d of %d", kept[0].Seq, newest, flips)
	}
	rest, missed := r.Events(newest - 3)
	if len(rest) != 3 || missed != 0 || rest[0].Seq != newest-2 {
		t.Errorf("after %d: %d events, %d missed", newest-3, len(rest), missed)
	}
	if none, missed := r.Events(newest); len(none) != 0 || missed != 0 {
		t.Errorf("after the newest: %d events, %d missed", len(none), missed)
	}
}

func TestLogEvents(t *testing.T) {
	var lines bytes.Buffer
	r := New()
	r.Observe(LogEvents(slog.New(slog.NewJSONHandler(&lines, nil))))
	up := replicas(StateReady, StateReady)
	up.Engine, up.ModelID = "llamacpp", "file:/srv/m.gguf"
	up.Replicas[0].Reason, up.Replicas[0].EngineVersion, up.Replicas[0].DeviceMask = "the engine answers", "b5000",
		[]string{"0"}
	r.Put(Aggregate(up))
	down := replicas(StateBackoff, StateBackoff)
	down.Engine = "llamacpp"
	down.Replicas[0].Reason = "the engine crashed; PID 1 will start it again"
	down.Replicas[0].LastError = Fail(CodeEngineCrashed, "exited with status 1", "poolctl logs llama3")
	r.Put(Aggregate(down))

	dec := json.NewDecoder(&lines)
	var got []map[string]any
	for dec.More() {
		var line map[string]any
		if err := dec.Decode(&line); err != nil {
			t.Fatal(err)
		}
		got = append(got, line)
	}
	if len(got) != 2 {
		t.Fatalf("%d lines for two flips of a pool with two replicas: %v", len(got), got)
	}
	for key, want := range map[string]any{"msg": "pool llama3 is ready: the engine answers", "level": "INFO", "to": "ready",
		"pool_id": "llama3", "engine": "llamacpp", "engine_version": "b5000", "model_id": "file:/srv/m.gguf", "device_mask": "0"} {
		if got[0][key] != want {
			t.Errorf("first line: %s = %v, want %v", key, got[0][key], want)
		}
	}
	for key, want := range map[string]any{"msg": "pool llama3 is not ready: the engine crashed; PID 1 will start it again",
		"level": "WARN", "to": "unready", "reason": "crash", "last_error": "ENGINE_CRASHED: exited with status 1", "hint": "poolctl logs llama3"} {
		if got[1][key] != want {
			t.Errorf("second line: %s = %v, want %v", key, got[1][key], want)
		}
	}
}

// TestNote: what is noted comes in order with the flips, and is neither logged nor taken for one.
func TestNote(t *testing.T) {
	r := New()
	var log bytes.Buffer
	r.Observe(LogEvents(slog.New(slog.NewTextHandler(&log, nil))))
	var seen []*Pool
	r.Observe(func(_ Event, p *Pool) { seen = append(seen, p) })
	r.Put(Pool{ID: "a", Ready: true, State: StateReady})
	logged := log.Len()
	f := Fail(CodeEngineOOM, "killed", "raise it")
	r.Note(Event{Kind: KindCrash, PoolID: "a", ReplicaID: "r0", Reason: ReasonOf(f), Cause: f.Message, Failure: f})
	r.Note(Event{Kind: KindCrash, PoolID: "gone"})
	events, _ := r.Events(0)
	if len(events) != 3 || events[0].Kind != KindReady || events[1].Kind != KindCrash || events[1].Seq != 2 ||
		events[1].At.IsZero() {
		t.Fatalf("events %+v", events)
	}
	if events[1].Reason != ReasonOOM || events[1].Failure != f {
		t.Errorf("noted %+v", events[1])
	}
	if seen[1] == nil || seen[1].ID != "a" || seen[2] != nil {
		t.Errorf("observers saw the pools %v", seen)
	}
	if log.Len() != logged {
		t.Errorf("logged %s", log.String()[logged:])
	}
}
