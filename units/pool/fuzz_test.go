package pool

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// FuzzParseUnit: any user may give a unit a name. One that is taken for an engine's is the only
// name of its replica.
func FuzzParseUnit(f *testing.F) {
	f.Add("pool-engine@a.r0.service")
	f.Add(`pool-engine@llama3\x2d8b.r12b.service`)
	f.Add("pool-engine@a.r00.service")
	f.Add(`pool-engine@\x2e\x2e.r0.service`)
	f.Fuzz(mutate.Many(func(t *testing.T, unit string) {
		r, ok := ParseUnit(unit)
		if !ok {
			return
		}
		if !ValidID(r.Pool) || r.Index < 0 || r.Side < 0 || r.Side > 1 || r.Unit() != unit {
			t.Errorf("%q is taken for %+v, whose unit is %q", unit, r, r.Unit())
		}
	}))
}
