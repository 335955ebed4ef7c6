package truth

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// bounds of these histories.
var bounds = Bounds{
	Late: 2 * time.Second, Reasons: time.Second, RSSKiB: 1000, Descriptors: 10, Goroutines: 10, JournalRound: 100,
	JournalSecond: 1, Memory: []Group{{Pools: []string{"a", "b"}, Fit: 1}},
}

// history is a made-up one. Each method adds a record, a second after the one before.
type history struct {
	now     time.Duration
	records []Record

	engine  map[string]Process // what runs, by pool
	pools   map[string]Pool
	answers map[string]Answer // instead of a healthy one
	api     string
	files   map[string]File // instead of the right one
	held    []Held
	manager Manager
	journal int
	units   map[string]Unit // instead of the right one
}

// newHistory has two pools, of which "a" is ready and "b" waits for memory, and a settled round.
func newHistory() *history {
	h := &history{
		engine:  map[string]Process{"a": {Unit: unit("a"), PID: 100, Start: 1}},
		pools:   map[string]Pool{},
		answers: map[string]Answer{}, files: map[string]File{}, units: map[string]Unit{},
		manager: Manager{PID: 7, RSSKiB: 20000, Descriptors: 30, Goroutines: 40},
	}
	h.ready("a")
	h.pools["b"] = Pool{ID: "b", State: "waiting", LastError: "INSUFFICIENT_VRAM: 3 GiB are free", Hint: "Wait.",
		Total: 4}
	h.begin(nil).look().settle()
	return h
}

func unit(pool string) string { return "pool-engine@" + pool + ".r0.service" }

// ready shows the pool as ready with its process.
func (h *history) ready(id string) *history {
	h.pools[id] = Pool{ID: id, State: "ready", Ready: true, Total: 4, Free: 4, Replicas: []Replica{
		{ID: "r0", Ready: true, State: "ready", Unit: unit(id), PID: h.engine[id].PID,
			Endpoint: "http://127.0.0.1:1" + id}}}
	return h
}

// run gives the pool a new process.
func (h *history) run(id string, pid int) *history {
	h.engine[id] = Process{Unit: unit(id), PID: pid, Start: uint64(pid)}
	return h
}

func (h *history) add(r Record) *history {
	h.now += time.Second
	r.At = h.now
	h.records = append(h.records, r)
	return h
}

func (h *history) begin(may map[string]int) *history {
	return h.add(Record{Begin: &Begin{May: may}})
}

func (h *history) look() *history {
	l := h.view()
	return h.add(Record{Look: &l})
}

// view is everything as it is now.
func (h *history) view() Look {
	l := Look{API: h.api}
	for _, p := range h.engine {
		l.Processes = append(l.Processes, p)
	}
	if h.api != "" {
		return l
	}
	for id, p := range h.pools {
		l.Pools = append(l.Pools, p)
		if !p.Ready {
			continue
		}
		a := Answer{Unit: unit(id), PID: h.engine[id].PID}
		if other, ok := h.answers[id]; ok {
			a = other
		}
		l.Answers = append(l.Answers, a)
		f := File{Name: id + ".r0.json", Pool: id, PID: h.engine[id].PID}
		if other, ok := h.files[id]; ok {
			f = other
		}
		l.Files = append(l.Files, f)
	}
	return l
}

func (h *history) settle() *history {
	var units []Unit
	for id, p := range h.engine {
		u := Unit{Name: unit(id), PID: p.PID, Invocation: "run of " + id}
		if other, ok := h.units[id]; ok {
			u = other
		}
		units = append(units, u)
	}
	return h.add(Record{Settled: &Settled{Look: h.view(), Units: units, Held: h.held, Manager: h.manager,
		Journal: h.journal}})
}

// lease records an answer about a lease of pool "a", of ten seconds.
func (h *history) lease(asked, did, id string) *history {
	return h.add(Record{Lease: &Lease{Did: did, Asked: asked, Pool: "a", ID: id, Holder: "holder of " + id, Sent: h.now,
		TTL: 10 * time.Second}})
}

// list has the API count and list these leases of pool "a".
func (h *history) list(ids ...string) *history {
	h.held = nil
	for _, id := range ids {
		h.held = append(h.held, Held{Pool: "a", ID: id, Holder: "holder of " + id})
	}
	p := h.pools["a"]
	p.Leases, p.Free = len(ids), p.Total-len(ids)
	h.pools["a"] = p
	return h
}

// TestRules: each history breaks one rule, or none.
func TestRules(t *testing.T) {
	a1 := map[string]int{"a": 1}
	for _, c := range []struct {
		name string
		do   func(h *history)
		want string // the rule, "" for none
		text string
	}{
		{"nothing_happens", func(h *history) { h.begin(nil).look().look().settle() }, "", ""},
		{"a_restart_that_was_asked_for", func(h *history) {
			h.begin(a1).run("a", 101).ready("a").look()
			h.units["a"] = Unit{Name: unit("a"), PID: 101, Invocation: "another", Restarts: 1}
			h.settle()
		}, "", ""},
		{"a_healthy_engine_was_killed", func(h *history) { h.begin(nil).run("a", 101).ready("a").look() }, RuleEngine,
			"process 100 of pool-engine@a.r0.service ended, and nothing had asked for that"},
		{"another_pool_was_to_be_restarted", func(h *history) { h.begin(map[string]int{"b": 1}).run("a", 101).ready("a").look() },
			RuleEngine, "nothing had asked for that"},
		{"a_process_with_the_same_number", func(h *history) {
			h.begin(nil)
			h.engine["a"] = Process{Unit: unit("a"), PID: 100, Start: 2}
			h.look()
		}, RuleEngine, "nothing had asked for that"},
		{"restarted_after_the_round_had_settled", func(h *history) { h.begin(a1).settle().run("a", 101).ready("a").look() },
			RuleEngine, "nothing had asked for that"},
		{"one_execution_too_many", func(h *history) {
			h.begin(a1).run("a", 101).ready("a").look().run("a", 102).ready("a").look()
		}, RuleEngine, "is execution 2 of this round, at most 1 were asked for"},
		{"an_engine_of_a_pool_that_was_to_wait", func(h *history) { h.begin(nil).run("b", 200).look() }, RuleEngine,
			"is execution 1 of this round, at most 0"},
		{"pid_1_counted_a_restart_that_no_look_saw", func(h *history) {
			h.begin(nil)
			h.units["a"] = Unit{Name: unit("a"), PID: 100, Invocation: "run of a", Restarts: 1}
			h.settle()
		}, RuleEngine, "PID 1 had"},
		{"pid_1_has_another_process", func(h *history) {
			h.begin(a1)
			h.units["a"] = Unit{Name: unit("a"), PID: 99, Invocation: "run of a"}
			h.settle()
		}, RuleEngine, "PID 1 has process 99"},

		{"a_lease_is_held", func(h *history) { h.begin(nil).lease(Granted, Granted, "l1").list("l1").settle() }, "", ""},
		{"a_lease_is_released", func(h *history) {
			h.begin(nil).lease(Granted, Granted, "l1").lease(Released, Released, "l1").settle()
		}, "", ""},
		{"a_lease_is_lost", func(h *history) { h.begin(nil).lease(Granted, Granted, "l1").settle() }, RuleLease,
			"l1 of holder of l1 is not listed"},
		{"a_renewal_finds_it_lost", func(h *history) {
			h.begin(nil).lease(Granted, Granted, "l1").lease(Renewed, Lost, "l1")
		}, RuleLease, "l1 of holder of l1 was lost"},
		{"a_lease_is_lost_with_its_engine", func(h *history) {
			h.begin(a1).lease(Granted, Granted, "l1").lease(Renewed, Lost, "l1").settle()
		}, "", ""},
		{"a_lease_expires", func(h *history) {
			h.begin(nil).lease(Granted, Granted, "l1")
			h.now += 10 * time.Second
			h.lease(Renewed, Lost, "l1").settle()
		}, "", ""},
		{"a_lease_is_renewed", func(h *history) {
			h.begin(nil).lease(Granted, Granted, "l1")
			h.now += 6 * time.Second
			h.lease(Renewed, Renewed, "l1")
			h.now += 6 * time.Second
			h.settle()
		}, RuleLease, "l1 of holder of l1 is not listed"},
		{"one_lease_for_two", func(h *history) { h.begin(nil).lease(Granted, Granted, "l1").lease(Granted, Granted, "l1") },
			RuleLease, "l1 was granted to holder of l1, and before"},
		{"a_lease_outlives_its_release", func(h *history) {
			h.begin(nil).lease(Granted, Granted, "l1").lease(Released, Released, "l1").list("l1").settle()
		}, RuleLease, "l1 of holder of l1 is listed, and ended before"},
		{"a_release_without_an_answer_leaves_both_open", func(h *history) {
			h.begin(nil).lease(Granted, Granted, "l1").lease(Released, Unknown, "l1")
			h.list("l1").settle().list().settle()
		}, "", ""},
		{"a_release_that_is_refused_leaves_both_open", func(h *history) {
			h.begin(nil).lease(Granted, Granted, "l1").lease(Released, Refused, "l1").settle().list("l1").settle()
		}, "", ""},
		{"a_release_that_was_repeated_is_one", func(h *history) {
			h.begin(nil).lease(Granted, Granted, "l1").lease(Released, Refused, "l1").lease(Released, Released, "l1")
			h.list("l1").settle()
		}, RuleLease, "is listed, and ended before"},
		{"a_lease_is_renewed_after_its_end", func(h *history) {
			h.begin(nil).lease(Granted, Granted, "l1").lease(Renewed, Lost, "l1").lease(Renewed, Renewed, "l1")
		}, RuleLease, "l1 was"},
		{"a_lease_is_listed_twice", func(h *history) {
			h.begin(nil).lease(Granted, Granted, "l1").list("l1", "l1").settle()
		}, RuleLease, "l1 is listed twice"},
		{"the_count_is_wrong", func(h *history) {
			h.begin(nil).lease(Granted, Granted, "l1").list("l1")
			p := h.pools["a"]
			p.Leases, p.Free = 2, 2
			h.pools["a"] = p
			h.settle()
		}, RuleLease, "active_leases is 2, 1 are listed"},
		{"slots_do_not_add_up", func(h *history) {
			h.begin(nil)
			p := h.pools["a"]
			p.Free = -2
			h.pools["a"] = p
			h.settle()
		}, RuleLease, "slots_free is -2"},
		{"refused_though_the_disk_is_good", func(h *history) {
			h.begin(nil).add(Record{Lease: &Lease{Did: Refused, Asked: Granted, Pool: "a", Code: "STATE_NOT_SAVED"}})
		}, RuleLease, "no disk was full"},
		{"refused_for_a_full_disk", func(h *history) {
			h.add(Record{Begin: &Begin{Refuses: true}}).
				add(Record{Lease: &Lease{Did: Refused, Asked: Granted, Pool: "a", Code: "STATE_NOT_SAVED"}})
		}, "", ""},

		{"one_port_for_two", func(h *history) {
			h.begin(map[string]int{"b": 1}).run("b", 200)
			h.pools["b"] = Pool{ID: "b", State: "starting", Replicas: []Replica{{Unit: unit("b"), PID: 200,
				Reason: "loads", Endpoint: "http://127.0.0.1:1a"}}}
			h.look()
		}, RulePort, "both have http://127.0.0.1:1a"},
		{"a_stranger_answers", func(h *history) {
			h.begin(nil)
			h.answers["a"] = Answer{Unit: unit("a"), PID: 999}
			h.look().look()
		}, RulePort, "process 999 answers"},
		{"an_engine_is_replaced_between_two_answers", func(h *history) {
			h.begin(a1)
			h.answers["a"] = Answer{Unit: unit("a"), PID: 101}
			h.look()
			delete(h.answers, "a")
			h.look()
		}, "", ""},
		{"more_on_a_gpu_than_fit", func(h *history) { h.begin(map[string]int{"b": 1}).run("b", 200).ready("b").look() },
			RuleMemory, "are ready on one GPU, where 1 fit"},
		{"started_without_memory", func(h *history) {
			p := h.pools["b"]
			p.LastError = "CUDA_OOM: cudaMalloc failed: out of memory"
			h.pools["b"] = p
			h.begin(nil).look()
		}, RuleMemory, "it was started without memory"},
		{"tried_without_memory_while_nothing_answers_for_it", func(h *history) {
			h.add(Record{Begin: &Begin{Unchecked: []string{"a", "b"}}}).run("b", 200).look()
			p := h.pools["b"]
			p.LastError = "CUDA_OOM: cudaMalloc failed: out of memory"
			h.pools["b"] = p
			delete(h.engine, "b")
			h.look().run("b", 201).look()
			delete(h.engine, "b")
			h.look().settle()
		}, "", ""},
		{"restarted_while_nothing_answers_for_its_memory", func(h *history) {
			h.add(Record{Begin: &Begin{Unchecked: []string{"a", "b"}}}).run("a", 101).ready("a").look()
		}, RuleEngine, "nothing had asked for that"},

		{"ready_and_silent", func(h *history) {
			h.begin(nil)
			h.answers["a"] = Answer{Unit: unit("a"), Error: "connection refused"}
			h.look().look().look().look()
		}, RuleReady, "has not answered for 3s: connection refused"},
		{"silent_for_less_than_the_probes_need", func(h *history) {
			h.begin(nil)
			h.answers["a"] = Answer{Unit: unit("a"), Error: "connection refused"}
			h.look().look().look()
			delete(h.answers, "a")
			h.look()
			h.answers["a"] = Answer{Unit: unit("a"), Error: "connection refused"}
			h.look()
		}, "", ""},
		{"no_claim_while_the_manager_is_down", func(h *history) {
			h.begin(nil)
			h.answers["a"] = Answer{Unit: unit("a"), Error: "connection refused"}
			h.look().look()
			h.api = "connection refused"
			h.look().look().look()
		}, "", ""},

		{"no_code", func(h *history) { h.without("", "Wait.").look().look().look() }, RuleReason, "waiting and not ready"},
		{"no_hint", func(h *history) { h.without("INSUFFICIENT_VRAM: none", "").look().look().look() }, RuleReason,
			"waiting and not ready"},
		{"a_reason_that_comes_a_little_later", func(h *history) {
			h.without("", "").look().without("INSUFFICIENT_VRAM: none", "Wait.").look()
		}, "", ""},
		{"it_loads", func(h *history) {
			h.begin(nil)
			h.pools["b"] = Pool{ID: "b", State: "starting", Replicas: []Replica{{Reason: "the engine loads"}}}
			h.look().look().look()
		}, "", ""},
		{"it_loads_for_no_reason", func(h *history) {
			h.begin(nil)
			h.pools["b"] = Pool{ID: "b", State: "starting", Replicas: []Replica{{}}}
			h.look().look().look()
		}, RuleReason, "starting and not ready"},

		{"half_a_file", func(h *history) {
			h.begin(nil)
			h.files["a"] = File{Name: "a.r0.json", Pool: "a", PID: 100, Error: "unexpected end"}
			h.look()
		}, RuleHandOff, "a.r0.json: unexpected end"},
		{"no_file", func(h *history) {
			h.begin(nil)
			h.files["a"] = File{Pool: "b"}
			h.settle()
		}, RuleHandOff, ""},
		{"a_file_of_a_former_process", func(h *history) {
			h.begin(nil)
			h.files["a"] = File{Pool: "a", PID: 99}
			h.settle()
		}, RuleHandOff, "its file has process 99, the API 100"},

		{"more_memory", func(h *history) { h.manager.RSSKiB += 1001; h.begin(nil).settle() }, RuleGrowth, "KiB resident"},
		{"more_descriptors", func(h *history) { h.manager.Descriptors += 11; h.begin(nil).settle() }, RuleGrowth, "descriptors"},
		{"more_goroutines", func(h *history) { h.manager.Goroutines += 11; h.begin(nil).settle() }, RuleGrowth, "goroutines"},
		{"a_little_more", func(h *history) {
			h.manager = Manager{PID: 8, RSSKiB: 21000, Descriptors: 40, Goroutines: 50}
			h.begin(nil).settle()
		}, "", ""},
		{"a_flood_of_lines", func(h *history) { h.journal = 103; h.begin(nil).settle() }, RuleJournal, "103 lines in 2s, at most 102"},
		{"some_lines", func(h *history) { h.journal = 102; h.begin(nil).settle() }, "", ""},
		{"many_lines_that_were_asked_for", func(h *history) {
			h.journal = 500
			h.add(Record{Begin: &Begin{Lines: 400}}).settle()
		}, "", ""},
		{"it_did_not_come_back", func(h *history) {
			h.begin(nil).lease(Granted, Granted, "l1").add(Record{Settled: &Settled{Unready: "pool a is failed"}})
		}, RuleSettle,
			"pool a is failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory()
			c.do(h)
			checker := New(bounds)
			var found []Violation
			for _, r := range h.records {
				found = append(found, checker.See(r)...)
			}
			if c.want == "" {
				if len(found) > 0 {
					t.Errorf("nothing is wrong, and it found %v", found)
				}
				return
			}
			expected := func(v Violation) bool { return v.Rule == c.want && strings.Contains(v.Text, c.text) }
			if !slices.ContainsFunc(found, expected) {
				t.Errorf("it found %v, want %s: %s", found, c.want, c.text)
			}
			if i := slices.IndexFunc(found, func(v Violation) bool { return v.Rule != c.want }); i >= 0 {
				t.Errorf("it also found %v", found[i])
			}
		})
	}
}

// without shows pool "b" as waiting with this error and hint.
func (h *history) without(lastError, hint string) *history {
	p := h.pools["b"]
	p.LastError, p.Hint = lastError, hint
	h.pools["b"] = p
	return h
}

// TestPoolOf: a pool is found by the unit of its engine, whichever side of a reload it is.
func TestPoolOf(t *testing.T) {
	for unit, want := range map[string]string{
		"pool-engine@a.r0.service": "a", "pool-engine@a.b.r12b.service": "a.b", "pool-engine@x.service": "x",
	} {
		if got := PoolOf(unit); got != want {
			t.Errorf("%s is of %q, want %q", unit, got, want)
		}
	}
}
