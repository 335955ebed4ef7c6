package render

import (
	"slices"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
)

// Plan is a unit whose input was checked, and which can be rendered. The rendered unit takes ten
// times its memory: the manager keeps a plan for each engine, and renders it for a call to PID 1.
type Plan struct {
	SpecHash string // see SpecHash

	in      Input
	command engine.Command
	limits  []Line
}

// NewPlan checks what a unit depends on. An error is a *registry.Failure if a change of the pool
// file fixes it, and a plain error if the caller passed invalid values. The plan refers to the
// slices and maps of its input, which must not be changed afterwards.
func NewPlan(in Input) (*Plan, error) {
	if err := check(in); err != nil {
		return nil, err
	}
	limits, err := limitLines(in.Pool)
	if err != nil {
		return nil, err
	}
	command := in.Adapter.Command(in.Pool, instance(in))
	if r := command.Refused; r != nil {
		return nil, registry.Fail(registry.CodeDeviceMaskInvalid, r.Message, r.Hint)
	}
	command.Args = slices.Concat(command.Args,
		engine.PromptCacheArgs(in.Pool, in.Prepared.Version, in.Pool.Limits.MemoryMaxBytes, in.Need.Host),
		engine.LayerLogArgs(in.Pool, in.Prepared.Version, len(in.Mask)))
	return &Plan{SpecHash: SpecHash(in), in: in, command: command, limits: limits}, nil
}

// Args are the arguments of the engine, after its binary.
func (p *Plan) Args() []string { return p.command.Args }

// Port renders the units of the port; nil: the engine listens on its port itself.
func (p *Plan) Port() *Port { return portOf(p.in) }

// Unit renders the unit, the same each time.
func (p *Plan) Unit() Unit {
	in, shown, relaxed := p.in, shownPaths(p.in), allowed(p.in)
	u := Unit{Name: replica(in).Unit(), SpecHash: p.SpecHash, Port: portOf(in), growth: growthOf(in)}
	if in.Prepared.ByPodman() {
		u.Lines = podmanLines(p, shown, relaxed)
		return u
	}
	if in.Prepared.ByDocker() {
		u.Lines = dockerLines(p, relaxed)
		return u
	}
	for _, part := range [][]Line{
		unitLines(in),
		targetLines(in.Host),
		restartLines(in),
		execLines(in, p.command),
		rootLines(in),
		directoryLines(in),
		credentialLines(in),
		environmentLines(in, p.command),
		logLines(in, p.SpecHash),
		accountingLines(),
		sandboxLines(in, relaxed, shown),
		treeLines(in, p.command, shown),
		networkLines(in, relaxed),
		deviceLines(in.Mask),
		p.limits,
	} {
		u.Lines = append(u.Lines, part...)
	}
	return u
}

// Render returns the replica's unit, or the error of NewPlan.
func Render(in Input) (Unit, error) {
	p, err := NewPlan(in)
	if err != nil {
		return Unit{}, err
	}
	return p.Unit(), nil
}
