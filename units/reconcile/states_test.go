package reconcile

import (
	"slices"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestEveryStateIsDerived: each state has a row of the table that leads to it.
func TestEveryStateIsDerived(t *testing.T) {
	for _, s := range registry.States() {
		if !slices.ContainsFunc(stateTable, func(r stateRow) bool { return r.State == s }) {
			t.Errorf("no facts lead to state %s", s)
		}
	}
}
