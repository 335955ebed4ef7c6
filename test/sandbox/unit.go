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
}

// UnitName is the name of the unit that File is for.
const UnitName = "sandboxed.service"

// File returns the unit in which the manager would run a program as engine, with these relaxations:
// its sandbox without the gate and the restarts.
func File(p Program, allow []string) (string, error) {
	adapter, _ := engine.For(engine.Program)
	unit, err := render.Render(render.Input{
		Pool: pool.Pool{ID: "sandboxed", Engine: engine.Program, Replicas: 1, Args: p.Argv[1:],
			Sandbox: pool.Sandbox{Allow: allow}},
		Prepared: pool.Prepared{Binary: p.Argv[0]},
		Port:     21000,
		Adapter:  adapter,
		Host:     render.Host{ExecFlags: true, MemoryBytes: 1 << 30},
	})
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
