package supervise

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestFaultsNameEachProblem: the error of a pool has all that is wrong with its file.
func TestFaultsNameEachProblem(t *testing.T) {
	byPool, unnamed := Desired{Problems: []registry.Problem{
		{PoolID: "a", Text: "args[0] is -c", Hint: "set ctx"},
		{PoolID: "b", Text: "engine is missing"},
		{PoolID: "a", Text: "args[2] is --host", Hint: "leave it out"},
	}}.faults()
	if f := byPool["a"]; unnamed != nil || len(byPool) != 2 || f.Message != "args[0] is -c; args[2] is --host" ||
		f.Hint != "set ctx" {
		t.Errorf("faults = %+v, %+v", byPool, unnamed)
	}
}
