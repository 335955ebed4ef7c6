package render

import (
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/systemd"
)

// Comments of the commands, the same on every host.
const (
	whyEngine = `the engine; ":" disables the expansion of $, which chat templates contain`
	whyMemory = `checks and reserves the memory, also before PID 1's own restarts; ` +
		`"+" since only root may use the GPU helper's socket`
	whyGPU = `the unit becomes active only when NVML lists the engine on its GPUs; releases the rest of the ` +
		`reservation. A separate command, since the gate has dropped the privileges for pool-gpu's socket`
	whyGate = `the unit becomes active only when the engine answers; "+" lets the gate ` +
		`read the unit's cgroup and journal before it drops its privileges`
)

// commands are the command lines of a unit; memory is nil if there is nothing to reserve, gpu for
// an engine without GPUs.
type commands struct{ engine, gate, memory, gpu []string }

// commandLines returns the rows of these commands. Over D-Bus they are sent with flags if PID 1
// keeps them, else without.
//
// systemd 252 writes a transient unit's ExecStartEx under that name to the unit's file, where no
// such key exists: after the next daemon-reload, which the installation of any package triggers,
// the unit has no command and never restarts (seen on 252; 257 and 262 write ExecStart=).
func commandLines(h Host, c commands) []Line {
	lines := privileged(h, "ExecStartPre", c.memory, whyMemory)
	start := Line{Section: sectionService, Key: "ExecStart", Text: ":" + words(c.engine), Why: whyEngine}
	post := append(privileged(h, "ExecStartPost", c.gate, whyGate),
		privileged(h, "ExecStartPost", c.gpu, whyGPU)...)
	if h.ExecFlags {
		start.Property = flagged("ExecStartEx", c.engine, "no-env-expand")
		return slices.Concat(lines, []Line{start}, post)
	}
	engine := c.engine
	var extra []Line
	if strings.ContainsAny(strings.Join(engine, ""), lostCharacters) {
		extra = shellInput(engine)
		engine = []string{"/bin/sh", "-s"}
	}
	start.Property = plain("ExecStart", engine)
	extra = append(extra, Line{Section: sectionService,
		Why:      `the effect of "+" in ExecStartPost=, on a systemd that loses such flags`,
		Property: systemd.Property{Name: "PermissionsStartOnly", Value: true}})
	return slices.Concat(lines, []Line{start}, post, extra)
}

// privileged returns the row of a command that runs as root, none for a nil command.
func privileged(h Host, key string, argv []string, why string) []Line {
	if argv == nil {
		return nil
	}
	line := Line{Section: sectionService, Key: key, Text: "+:" + words(argv), Why: why, Property: plain(key, argv)}
	if h.ExecFlags {
		line.Property = flagged(key+"Ex", argv, "privileged", "no-env-expand")
	}
	return []Line{line}
}

// lostCharacters do not survive a daemon-reload in a command without flags: 252 reads back "\\$"
// and "\\;" with the backslash that it wrote, and newer ones double every "$$" (seen).
const lostCharacters = "$;"

// shellInput passes the command line to a shell on standard input, which PID 1 stores in base64;
// the shell executes the engine with the exact arguments.
func shellInput(argv []string) []Line {
	var b strings.Builder
	b.WriteString("exec")
	for _, arg := range argv {
		b.WriteString(" '" + strings.ReplaceAll(arg, "'", `'\''`) + "'")
	}
	b.WriteString(" </dev/null\n")
	const why = "the command line has $ or ;, which this systemd loses from ExecStart at the next daemon-reload: a " +
		"shell reads it and executes the engine"
	return []Line{
		{Section: sectionService, Why: why, Property: systemd.Property{Name: "StandardInput", Value: "data"}},
		{Section: sectionService, Why: why, Property: systemd.Property{Name: "StandardInputData", Value: []byte(b.String())}},
	}
}

// words formats a command line for a unit file.
func words(argv []string) string {
	quoted := make([]string, len(argv))
	for i, arg := range argv {
		quoted[i] = word(arg)
	}
	return strings.Join(quoted, " ")
}

// flagged returns a command with flags of systemd's exec_command_flags.
func flagged(name string, argv []string, flags ...string) systemd.Property {
	return systemd.Property{Name: name, Value: []systemd.ExecCommand{{Path: argv[0], Args: argv, Flags: flags}}}
}

func plain(name string, argv []string) systemd.Property {
	return systemd.Property{Name: name, Value: []systemd.PlainCommand{{Path: argv[0], Args: argv}}}
}
