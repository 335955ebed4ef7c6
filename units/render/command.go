package render

import (
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/systemd"
)

// Reasons of the two commands, which are the same on every host.
const (
	whyEngine  = `the engine; ":" leaves $ alone, which chat templates hold`
	whyMemory  = `a start that finds too little memory fails at once, PID 1's own restarts too; "+" since the socket of the GPU helper is root's`
	whyRelease = `the engine holds its memory now: what is left of the promise is free for others. A command of its own, since the gate has given up the rights for it`
	whyGate    = `the unit is active only when the engine answers; "+" lets the gate read the unit's cgroup and journal before it drops every right`
)

// commands are the command lines of a unit; memory and release are nil where there is nothing to
// promise.
type commands struct{ engine, gate, memory, release []string }

// commandLines are the rows of these commands. A unit file says them in one way. Over
// the bus there are two: with flags where PID 1 keeps them, and without where it does not.
//
// systemd 252 writes a transient unit's ExecStartEx under that very name to the unit's file, where
// no such key exists, so that after the next daemon-reload, which installing any package does, the
// unit has no command and is never started again (seen on 252; 257 and 262 write ExecStart=).
func commandLines(h Host, c commands) []Line {
	lines := privileged(h, "ExecStartPre", c.memory, whyMemory)
	start := Line{Section: sectionService, Key: "ExecStart", Text: ":" + words(c.engine), Why: whyEngine}
	post := append(privileged(h, "ExecStartPost", c.gate, whyGate),
		privileged(h, "ExecStartPost", c.release, whyRelease)...)
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
		Why:      `what "+" does in ExecStartPost=, on a systemd that loses such flags`,
		Property: systemd.Property{Name: "PermissionsStartOnly", Value: true}})
	return slices.Concat(lines, []Line{start}, post, extra)
}

// privileged is the row of a command that is run as root, none for a nil one.
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

// shellInput hands a shell its command line on standard input, which PID 1 keeps in base64: the
// shell becomes the engine, byte by byte what was asked for.
func shellInput(argv []string) []Line {
	var b strings.Builder
	b.WriteString("exec")
	for _, arg := range argv {
		b.WriteString(" '" + strings.ReplaceAll(arg, "'", `'\''`) + "'")
	}
	b.WriteString(" </dev/null\n")
	const why = "the command line holds $ or ;, which this systemd loses from ExecStart at the next daemon-reload: a " +
		"shell reads it and becomes the engine"
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
