package render

import (
	"maps"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/engine"
)

// managedVariables are those that the unit sets, whatever the pool says.
func managedVariables(in Input, command engine.Command) []Line {
	return []Line{
		variable(confine.EnvHome, stateDirectory(in), "for libraries that write to the home directory"),
		variable(confine.EnvCache, cacheDirectory(in), "caches go where they survive a restart"),
		variable(confine.EnvDeviceOrder, "PCI_BUS_ID", "device numbers as nvidia-smi prints them, not the fastest first"),
		visibleLine(in.Mask, command.Visible),
	}
}

// environmentLines returns the manager's variables, then the engine's, then the operator's: later
// ones win. Those of files win over all, for PID 1: see engineArgv.
func environmentLines(in Input, command engine.Command) []Line {
	lines := managedVariables(in, command)
	for _, key := range slices.Sorted(maps.Keys(in.Prepared.Env)) {
		if _, own := in.Pool.Env[key]; !own {
			why := "the program's modules are there"
			if in.Prepared.Image != nil {
				why = "of the image"
			}
			lines = append(lines, variable(key, in.Prepared.Env[key], why))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(command.Env)) {
		if _, own := in.Pool.Env[key]; !own {
			lines = append(lines, variable(key, command.Env[key], "set for this engine"))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(in.Pool.Env)) {
		lines = append(lines, variable(key, in.Pool.Env[key], "env of the pool file"))
	}
	for _, path := range in.Pool.EnvFiles {
		lines = append(lines, Line{Section: sectionService, Key: "EnvironmentFile", Text: escapeSpecifiers(path),
			Why:      "env_file of the pool file: PID 1 reads it at each start, and prints its contents nowhere",
			Property: systemd.Property{Name: "EnvironmentFiles", Value: []systemd.EnvironmentFile{{Path: path}}}})
	}
	return lines
}

// engineArgv is the command line of the engine. One that takes its key as a variable only is
// executed by pool-gate, which sets it. So is one whose variables come from files: PID 1 has those
// win over Environment=, also where a file changed since it was looked at, and pool-gate sets what
// must hold.
func engineArgv(in Input, command engine.Command) []string {
	argv := append([]string{in.Prepared.Binary}, command.Args...)
	var set []string
	if variable := in.Adapter.APIKey().Variable; in.Pool.APIKeyFile != "" && variable != "" {
		set = append(set, "--key", variable)
	}
	if len(in.Pool.EnvFiles) > 0 {
		for _, line := range managedVariables(in, command) {
			set = append(set, "--set", line.Property.Value.([]string)[0])
		}
		for _, name := range slices.Sorted(maps.Keys(in.Pool.Env)) {
			set = append(set, "--set", name+"="+in.Pool.Env[name])
		}
	}
	if len(set) == 0 {
		return argv
	}
	return slices.Concat([]string{gatePath(in), "exec"}, set, []string{"--"}, argv)
}

func visibleLine(devices []Device, numbers []string) Line {
	if len(devices) == 0 {
		return variable(confine.EnvVisible, "", "empty hides every GPU; without the variable all would be visible")
	}
	if numbers != nil {
		return variable(confine.EnvVisible, strings.Join(numbers, ","),
			"the replica's device mask, as numbers, which is all that this version of the engine reads")
	}
	names := make([]string, len(devices))
	for i, d := range devices {
		names[i] = d.Visible
	}
	return variable(confine.EnvVisible, strings.Join(names, ","),
		"the replica's device mask, in the order of the pool file")
}

func variable(key, value, why string) Line {
	line := list("Environment", key+"="+value, why)
	line.Text = word(key + "=" + value)
	return line
}
