package render

import (
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/systemd"
)

// Reasons of the two commands, which are the same on every host.
const (
	whyEngine = `the engine; ":" leaves $ alone, which chat templates hold`
	whyMemory = `a start that finds too little memory fails at once, PID 1's own restarts too; "+" since the socket of the GPU helper is root's`
	whyGate   = `the unit is active only when the engine answers; "+" lets the gate read the unit's cgroup and journal before it drops every right`
)

// commandLines are the command lines of the engine, its gate, and the step before it where there is one. A unit file says both in one way. Over
// the bus there are two: with flags where PID 1 keeps them, and without where it does not.
//
// systemd 252 writes a transient unit's ExecStartEx under that very name to the unit's file, where no
// such key exists, so that after the next daemon-reload, which installing any package does, the unit
// has no command and is never started again (seen on 252; 257 and 262 write ExecStart=).
func commandLines(h Host, engine, gate, memory []string) []Line {
	start := Line{Section: sectionService, Key: "ExecStart", Text: ":" + words(engine), Why: whyEngine}
	post := Line{Section: sectionService, Key: "ExecStartPost", Text: "+:" + words(gate), Why: whyGate}
	var before []Line
	if memory != nil {
		pre := Line{Section: sectionService, Key: "ExecStartPre", Text: "+:" + words(memory), Why: whyMemory, Property: plain("ExecStartPre", memory)}
		if h.ExecFlags {
			pre.Property = flagged("ExecStartPreEx", memory, "privileged", "no-env-expand")
		}
		before = []Line{pre}
	}
	if h.ExecFlags {
		start.Property = flagged("ExecStartEx", engine, "no-env-expand")
		post.Property = flagged("ExecStartPostEx", gate, "privileged", "no-env-expand")
		return append(before, start, post)
	}
	var extra []Line
	if strings.ContainsAny(strings.Join(engine, ""), lostCharacters) {
		extra = shellInput(engine)
		engine = []string{"/bin/sh", "-s"}
	}
	start.Property = plain("ExecStart", engine)
	post.Property = plain("ExecStartPost", gate)
	extra = append(extra, Line{Section: sectionService, Why: `what "+" does in ExecStartPost=, on a systemd that loses such flags`,
		Property: systemd.Property{Name: "PermissionsStartOnly", Value: true}})
	return slices.Concat(before, []Line{start, post}, extra)
}

// lostCharacters do not survive a daemon-reload in a command without flags: 252 reads back "\\$" and
// "\\;" with the backslash that it wrote, and newer ones double every "$$" (seen).
const lostCharacters = "$;"

// shellInput hands a shell its command line on standard input, which PID 1 keeps in base64: the shell
// becomes the engine, byte by byte what was asked for.
func shellInput(argv []string) []Line {
	var b strings.Builder
	b.WriteString("exec")
	for _, arg := range argv {
		b.WriteString(" '" + strings.ReplaceAll(arg, "'", `'\''`) + "'")
	}
	b.WriteString(" </dev/null\n")
	const why = "the command line holds $ or ;, which this systemd loses from ExecStart at the next daemon-reload: a shell reads it and becomes the engine"
	return []Line{
		{Section: sectionService, Why: why, Property: systemd.Property{Name: "StandardInput", Value: "data"}},
		{Section: sectionService, Why: why, Property: systemd.Property{Name: "StandardInputData", Value: []byte(b.String())}},
	}
}

// words writes a command line for a unit file.
func words(argv []string) string {
	quoted := make([]string, len(argv))
	for i, arg := range argv {
		quoted[i] = word(arg)
	}
	return strings.Join(quoted, " ")
}

// flagged is a command with flags, which are those of systemd's exec_command_flags.
func flagged(name string, argv []string, flags ...string) systemd.Property {
	return systemd.Property{Name: name, Value: []systemd.ExecCommand{{Path: argv[0], Args: argv, Flags: flags}}}
}

func plain(name string, argv []string) systemd.Property {
	return systemd.Property{Name: name, Value: []systemd.PlainCommand{{Path: argv[0], Args: argv}}}
}
