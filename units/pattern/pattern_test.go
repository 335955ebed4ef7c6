package pattern_test

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/units/pattern"
)

// TestLazy: an expression is compiled once, and not before it is used.
func TestLazy(t *testing.T) {
	invalid := pattern.Lazy("(") // no panic yet
	digits := pattern.Lazy("^[0-9]+$")
	first := digits()
	if again := digits(); again != first || !first.MatchString("12") {
		t.Error("it is compiled again, or another expression")
	}
	defer func() {
		if recover() == nil {
			t.Error("an invalid expression is taken")
		}
	}()
	invalid()
}
