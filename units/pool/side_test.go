package pool

import "testing"

// TestSides: a place has two sides, whose units and names differ, and which are read back from the
// unit's name.
func TestSides(t *testing.T) {
	cases := []struct {
		r          Replica
		name, unit string
	}{
		{Replica{Pool: "tiny", Index: 0}, "r0", "pool-engine@tiny.r0.service"},
		{Replica{Pool: "tiny", Index: 0, Side: 1}, "r0b", "pool-engine@tiny.r0b.service"},
		{Replica{Pool: "tiny.r0b", Index: 12, Side: 1}, "r12b", "pool-engine@tiny.r0b.r12b.service"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.r.Name() != c.name || c.r.Unit() != c.unit {
				t.Errorf("%+v is %s in %s, want %s in %s", c.r, c.r.Name(), c.r.Unit(), c.name, c.unit)
			}
			if back, ok := ParseUnit(c.unit); !ok || back != c.r {
				t.Errorf("ParseUnit(%s) = %+v, %t", c.unit, back, ok)
			}
			if first := (Replica{Pool: c.r.Pool, Index: c.r.Index}); c.r.Stable() != first.Name() ||
				c.r.Other().Stable() != first.Name() {
				t.Errorf("%+v is known as %s, its other side as %s", c.r, c.r.Stable(), c.r.Other().Stable())
			}
			if c.r.Other().Other() != c.r || c.r.Other() == c.r {
				t.Errorf("the other side of %+v is %+v", c.r, c.r.Other())
			}
		})
	}
	for _, unit := range []string{"pool-engine@tiny.rb.service", "pool-engine@tiny.r0bb.service",
		"pool-engine@tiny.r00b.service", "pool-engine@tiny.r0c.service"} {
		if r, ok := ParseUnit(unit); ok {
			t.Errorf("%s was read as %+v", unit, r)
		}
	}
}
