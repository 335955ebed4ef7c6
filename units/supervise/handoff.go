package supervise

import (
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/lastwords"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// describe fills in what a hand-off file says of the engine that runs, as far as it is known. Its
// arguments are known once the unit that it runs in was rendered: soon after a restart of the
// manager, and not while the pool's file asks for another version.
func (r *replica) describe(out *registry.Replica) {
	kind, model := r.serves()
	out.Engine, out.ModelID = kind, model
	out.Provisioning = r.pool().Provisioning.Mode
	out.ModelPath = pool.Model(model).Path()
	if r.current() {
		out.ModelPath = r.prep.staged.Path
		if r.prep.plan != nil {
			out.Flags = lastwords.RedactArgs(r.prep.plan.Args())
		}
	}
}
