package supervise

import (
	"fmt"
	"slices"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// blocked returns how the sandbox explains the end of a run of the replica; nil: not at all.
func (r *replica) blocked(lines []string, signal string) *relax.Finding {
	allowed := relaxations(r.pool(), r.id.Index)
	alone := r.unit.status.LogFields[render.FieldSocket] != ""
	f, ok := relax.Explain(relax.Run{
		Lines:      slices.DeleteFunc(slices.Clone(lines), classify.Quotes),
		Signal:     signal,
		Allowed:    allowed,
		NoInternet: alone && !slices.Contains(allowed, relax.HostAddress),
		Hides: func(path string) string {
			if r.prep.plan == nil { // the manager adopted the engine
				return render.Unit{}.Hides(path)
			}
			return r.prep.plan.Unit().Hides(path)
		},
		Home:       "/var/lib/pool-engine/" + r.id.FileStem(),
		Unwritable: confine.Unwritable,
	})
	if !ok {
		return nil
	}
	return &f
}

// relaxations are the names of those that a replica's unit has.
func relaxations(p pool.Pool, index int) []string {
	names := slices.Clone(p.Sandbox.Allow)
	at := engine.Instance{}
	if index < len(p.Devices) {
		at.Devices = p.Devices[index]
	}
	if a, ok := engine.For(p.Engine); ok {
		for _, needed := range a.Relax(at) {
			names = append(names, needed.Name)
		}
	}
	return names
}

// withFinding adds how the sandbox explains a failure, where the failure itself is of no cause that
// is better known.
func (e *ended) withFinding(f registry.Failure) registry.Failure {
	if e.blocked == nil || e.verdict != nil {
		return f
	}
	switch f.Code {
	case registry.CodeEngineCrashed, registry.CodeEngineStartFailed, registry.CodeEngineStartTimeout:
		return *registry.Fail(f.Code, f.Message+"; "+e.blocked.Text, fmt.Sprintf("%s %s", e.blocked.Hint, f.Hint))
	}
	return f
}
