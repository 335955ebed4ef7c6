package convert

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// spot is a place in a source.
type spot struct {
	file string
	line int // from 1
}

// setting is a text of a source, with the name that it is set to.
type setting struct {
	name, text string
	at         spot
}

// launch is how a source starts one engine.
type launch struct {
	name string // of the pool's id
	what string // as comments call it: model "x"
	at   spot

	argv     []string
	quoting  quoting // of a command line within it
	env      []setting
	envFiles []setting
	cwd      string
	box      *box
	check    *setting // the path that is asked whether it is ready; nil: the engine's own
	devices  *setting // what it may see; nil: the source does not say
	keys     []entry  // that are settled already
	notes    []Note
}

// box is a container.
type box struct {
	image   string
	entry   string // the program in it; empty: the image's own
	volumes []volume
	ports   map[string]string // of the host, by the container's
}

// volume is a directory of the host in a container.
type volume struct{ host, inside string }

// note makes a note at the place where the launch begins.
func (l *launch) note(format string, args ...any) Note {
	return Note{File: l.at.file, Line: l.at.line, Text: plain(fmt.Sprintf(format, args...))}
}

// left notes what was left out, at a line of the source.
func (l *launch) left(at spot, format string, args ...any) {
	n := l.note(format, args...)
	n.File, n.Line = at.file, at.line
	l.notes = append(l.notes, n)
}

func (l *launch) key(table, name, value, why string) {
	l.keys = slices.DeleteFunc(l.keys, func(e entry) bool { return e.table == table && e.name == name })
	l.keys = append(l.keys, entry{table: table, name: name, value: value, why: plain(why)})
}

// wrappers are programs that start another one and add nothing that a pool file has. Their options
// that take a value are given.
var wrappers = map[string][]string{
	"exec": nil, "nohup": nil, "setsid": nil, "time": nil, "stdbuf": {"-i", "-o", "-e"}, "ionice": {"-c", "-n"},
	"sudo": {"-u", "-g"}, "chrt": {"-p"}, "uv": {"--with", "--python", "-p", "--project"},
}

const maxWrappers = 8

// unwrap removes what starts the engine's own program, and takes what it means.
func (l *launch) unwrap() error {
	for range maxWrappers {
		switch {
		case len(l.argv) == 0 && l.box != nil:
			return nil // the image's own
		case len(l.argv) == 0:
			return fmt.Errorf("no command line")
		}
		name, base := l.argv[0], path.Base(l.argv[0])
		options, known := wrappers[base]
		switch {
		case assignment(name):
			l.setEnv(name)
			l.argv = l.argv[1:]
		case base == "env":
			l.flags([]string{"-u", "-C"}, nil)
		case base == "nice":
			l.nice()
		case base == "taskset":
			l.taskset()
		case base == "numactl":
			l.numactl()
		case slices.Contains([]string{"sh", "bash", "dash", "zsh"}, base):
			if done, err := l.shell(); done || err != nil {
				return err
			}
		case (base == "docker" || base == "podman") && len(l.argv) > 1:
			return l.container(l.argv[1:])
		case known:
			l.left(l.at, "%s: left out; an engine is started by PID 1 itself", base)
			l.flags(options, nil)
			if base == "uv" && len(l.argv) > 0 && l.argv[0] == "run" {
				l.argv[0] = base
				l.flags(options, nil)
			}
		default:
			return nil
		}
	}
	return fmt.Errorf("more than %d programs start each other", maxWrappers)
}

func assignment(word string) bool {
	name, _, found := strings.Cut(word, "=")
	return found && name != "" && strings.Trim(name,
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789") == ""
}

func (l *launch) setEnv(word string) {
	name, value, _ := strings.Cut(word, "=")
	l.env = append(l.env, setting{name, value, l.at})
}

// flags removes the first word, and the options after it. Those of valued take the next word; take
// gets each option with its value and returns whether it knew it.
func (l *launch) flags(valued []string, take func(name, value string) bool) {
	words := l.argv[1:]
	for len(words) > 0 && strings.HasPrefix(words[0], "-") {
		name, value, inline := strings.Cut(words[0], "=")
		words = words[1:]
		if name == "--" {
			break
		}
		if !inline && slices.Contains(valued, name) && len(words) > 0 {
			value, words = words[0], words[1:]
		}
		if take != nil && !take(name, value) {
			l.left(l.at, "%s %s: left out", path.Base(l.argv[0]), strings.TrimSpace(name+" "+value))
		}
	}
	l.argv = words
}

func (l *launch) nice() {
	adjusted := "10" // nice(1)
	l.flags([]string{"-n", "--adjustment"}, func(name, value string) bool {
		if name == "-n" || name == "--adjustment" {
			adjusted = value
			return true
		}
		_, err := strconv.Atoi(name[1:])
		adjusted = name[1:]
		return err == nil
	})
	l.number("limits", "nice", adjusted, l.at, "nice "+adjusted)
}

func (l *launch) taskset() {
	listed := false
	l.flags(nil, func(name, _ string) bool {
		listed = listed || name == "-c" || name == "--cpu-list"
		return listed
	})
	if len(l.argv) == 0 {
		return
	}
	if listed {
		l.key("limits", "cpus", quoted(l.argv[0]), "taskset -c "+l.argv[0])
	} else {
		l.left(l.at, "taskset %s: left out; write the CPUs as [limits] cpus", l.argv[0])
	}
	l.argv = l.argv[1:]
}

func (l *launch) numactl() {
	l.flags([]string{"-m", "-i", "-N", "-C", "-p"}, func(name, value string) bool {
		policy := map[string]string{"-m": "bind", "--membind": "bind", "-i": "interleave", "--interleave": "interleave",
			"-p": "preferred", "--preferred": "preferred"}[name]
		switch {
		case policy != "" && value != "all":
			l.key("limits", "numa_policy", quoted(policy), "numactl "+name+" "+value)
			l.key("limits", "numa_nodes", quoted(value), "")
		case name == "-C" || name == "--physcpubind":
			l.key("limits", "cpus", quoted(value), "numactl "+name+" "+value)
		default:
			return false
		}
		return true
	})
}

// shell replaces "sh -c COMMAND" by the command. done is true where there is none.
func (l *launch) shell() (done bool, err error) {
	i := slices.IndexFunc(l.argv, func(word string) bool {
		return strings.HasPrefix(word, "-") && !strings.HasPrefix(word, "--") && strings.HasSuffix(word, "c")
	})
	if i < 0 || i+1 >= len(l.argv) {
		return true, nil // a script, which is a program like others
	}
	script := l.argv[i+1]
	bare := strings.ReplaceAll(script, portMark, "")
	if at := strings.IndexAny(bare, "|&;<>()`$"); at >= 0 {
		return true, fmt.Errorf("%s -c runs a script (%q in it); write the server's own command line",
			path.Base(l.argv[0]), bare[at:at+1])
	}
	l.quoting = asShell
	words, err := asShell.split(script)
	if err != nil {
		return true, fmt.Errorf("%s -c: %w", path.Base(l.argv[0]), err)
	}
	l.argv = words
	return false, nil
}
