package programs

import (
	"path"
	"slices"
	"strings"
)

// shebangLen is how much of a script the kernel reads for its first line: BINPRM_BUF_SIZE of
// linux/binfmts.h.
const shebangLen = 256

// shells are the interpreters whose scripts are looked through.
var shells = []string{"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "busybox"}

// script resolves a script: its interpreter, and what it executes if that is a shell.
func (r *resolver) script(at, line string, depth int) {
	line, _, _ = strings.Cut(line, "\n")
	interpreter, argument, _ := strings.Cut(strings.Trim(line, " \t\r"), " ")
	interpreter = strings.TrimRight(interpreter, "\t\r")
	if !path.IsAbs(interpreter) {
		return
	}
	if !r.interpreter(path.Clean(interpreter), at, depth) {
		return
	}
	shell := interpreter
	if path.Base(interpreter) == "env" {
		if shell = r.throughEnv(argument, at, depth); shell == "" {
			return
		}
	}
	if !slices.Contains(shells, path.Base(shell)) {
		return
	}
	real, err := r.real(at)
	if err != nil {
		return
	}
	text, err := r.read(real, maxScript)
	if err != nil {
		return
	}
	sh := &shellScript{resolver: r, self: at, real: real, text: string(text), depth: depth,
		vars: make(map[string]string)}
	sh.run(string(text))
}

// interpreter resolves the program that a script names in its first line.
func (r *resolver) interpreter(program, by string, depth int) bool {
	is, open := r.file(program, 0o001)
	if !is || !open {
		m := Missing{Kind: Interpreter, Name: program, By: by}
		if is {
			m.Closed = program
		}
		r.missing(m)
		return false
	}
	r.program(program, depth+1)
	return true
}

// throughEnv resolves the interpreter that a script has env(1) search in PATH, and returns its
// path.
func (r *resolver) throughEnv(argument, by string, depth int) string {
	words := strings.Fields(argument)
	if len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		words = words[:1] // the kernel passes the rest of the line as one argument
	}
	for i := 0; i < len(words); i++ {
		word, joined := splitString(words[i])
		switch {
		case joined && word == "", words[i] == "-i", words[i] == "-":
			continue
		case words[i] == "-u" || words[i] == "-C":
			i++
			continue
		case !joined && strings.HasPrefix(word, "-"), strings.Contains(word, "="):
			continue
		}
		if found := r.lookPath(word); found != "" {
			r.program(found, depth+1)
			return found
		}
		r.missing(Missing{Kind: Interpreter, Name: word, By: by, Searched: split(r.env["PATH"], ":")})
		return ""
	}
	return ""
}

// splitString returns what env(1) splits of an option: "-Sbash", "-iS", "--split-string=bash".
func splitString(option string) (rest string, is bool) {
	if rest, long := strings.CutPrefix(option, "--split-string"); long {
		return strings.TrimPrefix(rest, "="), true
	}
	if flags, rest, short := strings.Cut(option, "S"); short && len(flags) > 0 && flags[0] == '-' &&
		strings.Trim(flags[1:], "iv0") == "" {
		return rest, true
	}
	return option, false
}

// lookPath returns the first executable of a name in PATH; "": there is none.
func (r *resolver) lookPath(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	for _, dir := range split(r.env["PATH"], ":") {
		p := path.Join(dir, name)
		if is, open := r.file(p, 0o001); is && open && path.IsAbs(p) {
			return p
		}
	}
	return ""
}
