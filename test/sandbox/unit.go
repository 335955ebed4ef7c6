package sandbox

import (
	"fmt"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// Program is something that runs in an engine's sandbox, and ends with status 0 when it worked.
type Program struct {
	Name string
	Argv []string
	// Kind is the kind of engine whose arguments and environment it gets beside its own; "": it is
	// an engine of the kind command.
	Kind  string
	Model string // the path of its model; "": it has none
	Env   map[string]string
}

// UnitName is the name of the unit that File is for.
const UnitName = "sandboxed.service"

// strict is an adapter that relaxes nothing by itself.
type strict struct{ engine.Adapter }

func (strict) Relax(engine.Instance) []engine.Relaxation { return nil }

// File returns the unit in which the manager would run a program as engine, with these relaxations
// alone: its sandbox without the gate and the restarts.
func File(p Program, allow []string) (string, error) {
	kind := p.Kind
	if kind == "" {
		kind = engine.Program
	}
	adapter, ok := engine.For(kind)
	if !ok {
		return "", fmt.Errorf("render %s: no engine %q", p.Name, kind)
	}
	in := render.Input{
		Pool: pool.Pool{ID: "sandboxed", Engine: kind, Replicas: 1, Args: p.Argv[1:], Env: p.Env,
			Sandbox: pool.Sandbox{Allow: allow}},
		Prepared: pool.Prepared{Binary: p.Argv[0]},
		Port:     21000,
		Adapter:  strict{adapter},
		Host:     render.Host{ExecFlags: true, MemoryBytes: 1 << 30},
	}
	if p.Model != "" {
		in.Pool.Model = pool.Model("file:" + p.Model)
		in.Staged = pool.Staged{Path: p.Model, Files: []string{p.Model}}
	}
	unit, err := render.Render(in)
	if err != nil {
		return "", fmt.Errorf("render %s: %w", p.Name, err)
	}
	var b strings.Builder
	for line := range strings.Lines(unit.File()) {
		key, _, _ := strings.Cut(line, "=")
		switch {
		case strings.HasPrefix(key, "Restart"), key == "ExecStartPost", key == "ExecStartPre",
			strings.HasPrefix(key, "#"):
		case key == "Type":
			b.WriteString("Type=oneshot\n")
		default:
			b.WriteString(line)
		}
	}
	return b.String(), nil
}
