package registry

import (
	"slices"
	"testing"
)

// TestKindsAreAll: the list has every constant, in the same order.
func TestKindsAreAll(t *testing.T) {
	declared := constantsOf[Kind](t, "event.go", "Kind")
	if got := Kinds(); !slices.Equal(got, declared) || len(got) < 10 {
		t.Errorf("Kinds() is %v, and the constants are %v: keep one order", got, declared)
	}
}
