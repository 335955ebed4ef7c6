package host

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Unit is a unit's state as systemctl show prints it.
type Unit struct {
	Name          string
	ActiveState   string
	SubState      string
	MainPID       int
	InvocationID  string
	NRestarts     int
	Result        string
	StatusText    string
	ExecStartUSec int64 // ExecMainStartTimestampMonotonic: when the main process was executed
}

// Process identifies one run of an engine: PID 1 gives each run a new InvocationID.
type Process struct {
	PID        int
	Invocation string
	Restarts   int
}

// Process returns the unit's run.
func (u Unit) Process() Process { return Process{u.MainPID, u.InvocationID, u.NRestarts} }

// EngineUnit is the unit of a pool's first replica, for ids that need no escaping.
func EngineUnit(id string) string { return "pool-engine@" + id + ".r0.service" }

// Units returns the units of a pattern, asked from PID 1 and not from the manager.
func (h *Host) Units(ctx context.Context, pattern string) (map[string]Unit, error) {
	out, err := h.Run(ctx, "systemctl", "show", "--all",
		"--property=Id,ActiveState,SubState,MainPID,InvocationID,NRestarts,Result,StatusText",
		"--property=ExecMainStartTimestampMonotonic", "--", pattern)
	if err != nil {
		return nil, err
	}
	units := make(map[string]Unit)
	for block := range strings.SplitSeq(strings.TrimSpace(out), "\n\n") {
		u := parseUnit(block)
		if u.Name != "" {
			units[u.Name] = u
		}
	}
	return units, nil
}

// Unit returns one unit.
func (h *Host) Unit(ctx context.Context, name string) (Unit, error) {
	units, err := h.Units(ctx, name)
	if err != nil {
		return Unit{}, err
	}
	u, ok := units[name]
	if !ok {
		return Unit{}, fmt.Errorf("systemctl show %s showed %v", name, units)
	}
	return u, nil
}

func parseUnit(block string) Unit {
	var u Unit
	for line := range strings.Lines(block) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		switch key {
		case "Id":
			u.Name = value
		case "ActiveState":
			u.ActiveState = value
		case "SubState":
			u.SubState = value
		case "InvocationID":
			u.InvocationID = value
		case "Result":
			u.Result = value
		case "StatusText":
			u.StatusText = value
		case "MainPID":
			u.MainPID, _ = strconv.Atoi(value) // PID 1 prints a number; 0: no process
		case "NRestarts":
			u.NRestarts, _ = strconv.Atoi(value)
		case "ExecMainStartTimestampMonotonic":
			u.ExecStartUSec, _ = strconv.ParseInt(value, 10, 64)
		}
	}
	return u
}

// Processes returns the running engines by unit name.
func (h *Host) Processes(ctx context.Context) (map[string]Process, error) {
	units, err := h.Units(ctx, "pool-engine@*")
	if err != nil {
		return nil, err
	}
	running := make(map[string]Process)
	for name, u := range units {
		if u.MainPID != 0 {
			running[name] = u.Process()
		}
	}
	return running, nil
}
