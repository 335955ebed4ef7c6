package registry

import "testing"

// TestHints: the hints of a pool are those of its slowest ready replica, in every status that is
// written.
func TestHints(t *testing.T) {
	hints := map[string]*Perf{"r0": {TokensPerS: 40, FirstTokenMS: 90}, "r1": {TokensPerS: 30},
		"r2": {TokensPerS: 1, FirstTokenMS: 999}}
	r := New()
	r.Hint(func(_ string, r *Replica) *Perf { return hints[r.ID] })
	put := func() {
		r.Put(Aggregate(Pool{ID: "a", Replicas: []Replica{{ID: "r0", State: StateReady, Ready: true},
			{ID: "r1", State: StateReady, Ready: true}, {ID: "r2", State: StateStarting}}}))
	}
	want := func(tokens, first float64) {
		t.Helper()
		if p, _ := r.Pool("a"); p.TokensPerS != tokens || p.FirstTokenMS != first {
			t.Errorf("%v tokens/s and %v ms, want %v and %v", p.TokensPerS, p.FirstTokenMS, tokens, first)
		}
	}
	put()
	want(30, 90)
	version, _ := r.Version()
	put()
	if now, _ := r.Version(); now != version {
		t.Error("the same hints count as a change")
	}
	hints["r1"] = nil
	r.HintsChanged("a")
	want(40, 90)
	hints["r0"] = nil
	r.HintsChanged("a")
	want(0, 0)
	r.HintsChanged("none")
}
