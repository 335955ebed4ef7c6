package chaos

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/chaos/truth"
	"github.com/pool-managerd/pool-managerd/test/e2e/host"
)

// TestRoundIsAFunctionOfTheSeed: the same seed makes the same steps, another makes others.
func TestRoundIsAFunctionOfTheSeed(t *testing.T) {
	kinds := Kinds()
	text := func(seed uint64) (all string) {
		for n := range 50 {
			all += fmt.Sprintln(Round(seed, n, kinds))
		}
		return all
	}
	first, again, other := text(1), text(1), text(2)
	if first != again {
		t.Error("the same seed made other steps")
	}
	if first == other {
		t.Error("another seed made the same steps")
	}
}

// TestRounds: each kind comes up, no two steps of a round take the same, and each is within what
// its row says.
func TestRounds(t *testing.T) {
	kinds := Kinds()
	seen := make(map[string]int)
	for seed := range uint64(20) {
		for n := range 100 {
			var taken []string
			steps := Round(seed, n, kinds)
			if len(steps) == 0 {
				t.Fatalf("round %d of seed %d is empty", n, seed)
			}
			for i, s := range steps {
				k := kinds[slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == s.Kind })]
				seen[s.Kind]++
				for _, what := range k.Takes {
					if slices.Contains(taken, what) {
						t.Errorf("two steps of %v take %s", steps, what)
					}
				}
				taken = append(taken, k.Takes...)
				if s.Name() != fmt.Sprintf("%d.%d", n, i) || s.At < 0 || s.At >= latest ||
					s.Hold < k.Shortest || s.Hold > k.Longest {
					t.Errorf("%s of %+v", s, k)
				}
				if len(k.Of) > 0 && (len(s.Pools) == 0 || k.Hits > 0 && len(s.Pools) > k.Hits) {
					t.Errorf("%s hits %d pools, of at most %d", s, len(s.Pools), k.Hits)
				}
			}
		}
	}
	for _, k := range kinds {
		if seen[k.Name] == 0 {
			t.Errorf("%s never came up", k.Name)
		}
	}
}

// TestOnly: a step that is tried alone is the one of the whole run.
func TestOnly(t *testing.T) {
	steps := Round(3, 7, Kinds())
	if got := Only("7.0", steps); len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(steps[0]) {
		t.Errorf("%v of %v", got, steps)
	}
	if got := Only("6.0, 8.1", steps); len(got) != 0 {
		t.Errorf("%v of another round", got)
	}
	if got := Only("", steps); len(got) != len(steps) {
		t.Errorf("%v, want all of %v", got, steps)
	}
}

// TestNamed: the kinds of a run are those that are named, or all.
func TestNamed(t *testing.T) {
	kinds := Kinds()
	if got, err := Named("", kinds); err != nil || len(got) != len(kinds) {
		t.Errorf("%d kinds of %d, %v", len(got), len(kinds), err)
	}
	got, err := Named("clock-jump, crash", kinds)
	if err != nil || len(got) != 2 || got[0].Name != "clock-jump" || got[1].Name != "crash" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := Named("clock-jump clock-leap", kinds); err == nil || got != nil {
		t.Errorf("%v of a kind that does not exist, %v", got, err)
	}
}

// TestBegin: a round may change what its steps hit, and nothing else.
func TestBegin(t *testing.T) {
	kinds := Kinds()
	for _, c := range []struct {
		name  string
		steps []Step
		want  truth.Begin
	}{
		{"nothing_is_restarted", []Step{{Kind: "manager-kill"}, {Kind: "engine-stop", Pools: []string{"p00"}}},
			truth.Begin{May: map[string]int{}}},
		{"two_crashes", []Step{{Kind: "crash", Pools: []string{"p00", "p01"}}, {Kind: "engine-exit", Pools: []string{"p01"}}},
			truth.Begin{May: map[string]int{"p00": 1, "p01": 2}}},
		{"others_take_the_memory", []Step{{Kind: "crash-storm", Pools: []string{"g0"}}},
			truth.Begin{May: map[string]int{"g0": 2, "g1": 2, "g2": 2}}},
		{"nothing_answers_for_the_memory", []Step{{Kind: "helper-stop"}},
			truth.Begin{May: map[string]int{}, Unchecked: []string{"g0", "g1", "g2"}}},
		{"a_full_disk_refuses", []Step{{Kind: "state-full"}}, truth.Begin{May: map[string]int{}, Refuses: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := begin(0, c.steps, kinds); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// TestRecovered: a machine has recovered when all pools serve that can.
func TestRecovered(t *testing.T) {
	all := func(change func(id string, p *host.Pool)) (l host.PoolList) {
		for _, id := range everyone() {
			p := host.Pool{ID: id, State: "ready", Ready: true, Replicas: make([]host.Replica, 1)}
			if id == "g1" {
				p.State, p.Ready, p.LastError = "waiting", false, "INSUFFICIENT_VRAM: 1 GiB is free"
			}
			change(id, &p)
			l.Pools = append(l.Pools, p)
		}
		return l
	}
	if text := recovered(all(func(string, *host.Pool) {})); text != "" {
		t.Error(text)
	}
	for name, change := range map[string]func(id string, p *host.Pool){
		"one_is_not_ready": func(id string, p *host.Pool) { p.Ready = id != "p03" && p.Ready },
		"all_contenders":   func(_ string, p *host.Pool) { p.Ready = true },
		"no_reason":        func(id string, p *host.Pool) { p.LastError = "" },
		"another_pool": func(id string, p *host.Pool) {
			if id == "p03" {
				p.ID = "extra"
			}
		},
		"two_replicas": func(id string, p *host.Pool) { p.Replicas = make([]host.Replica, 2) },
	} {
		if recovered(all(change)) == "" {
			t.Errorf("%s: recovered", name)
		}
	}
}
