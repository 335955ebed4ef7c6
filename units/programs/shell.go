package programs

import (
	"path"
	"slices"
	"strings"
)

// shellScript looks through a wrapper script for what it executes and for the search paths that it
// sets. It runs nothing and does not know which branch a script takes, so what it finds may be more
// than what is needed; only a script without branches proves that something is missing.
type shellScript struct {
	*resolver
	self, real string // the script, and its path without links
	text       string // of the script itself
	depth      int    // of programs that execute one another
	vars       map[string]string
	folder     string // after cd; empty: not known
	sourced    int    // how many files that a file reads are open
	branches   int    // how many if, case, loops, functions are open
	branched   bool   // the command may not be executed: it follows && or ||
	doubtful   bool   // there was a branch, so that the script may not come this far
	commands   int
}

// maxCommands is how many commands of a script are looked at.
const maxCommands = 500

// wrappers execute the rest of their command line.
var wrappers = []string{"env", "nice", "ionice", "taskset", "numactl", "nohup", "setsid", "stdbuf", "chrt", "timeout",
	"time", "setarch", "prlimit", "chpst", "catchsegv", "catatonit", "tini", "dumb-init"}

// systemTools are the folders of small programs that scripts call beside the engine.
var systemTools = []string{"/usr/bin", "/usr/sbin", "/bin", "/sbin"}

func (s *shellScript) run(text string) {
	w := words{src: text, look: s.variable, self: s.self, real: s.real}
	var command []word
	for s.commands < maxCommands {
		operator, next, more := w.next()
		switch {
		case more && operator == "":
			command = append(command, next)
			continue
		case strings.HasPrefix(operator, "<<"):
			s.doubtful = true // a here-document follows, whose lines are taken for commands
			continue
		case strings.ContainsAny(operator, "<>"):
			command = withoutNumber(command, text[:w.at-len(operator)])
			// The file of a redirection, or what follows the & of >&1 or the | of >|file.
			if follows, _, _ := w.next(); follows == "&" || follows == "|" {
				w.next()
			}
			continue
		}
		s.commands++
		if len(command) > 0 && s.command(command) || !more {
			return
		}
		command = nil
		if operator == "\n" || operator == ";" {
			s.branched = false
		} else {
			s.branched, s.doubtful = true, true
		}
	}
}

// withoutNumber drops the descriptor of a redirection, the 2 of "2>file" or the {log} of
// "{log}>file", which is no word.
func withoutNumber(c []word, before string) []word {
	n := len(c)
	if n == 0 || !c[n-1].bare || !strings.HasSuffix(before, c[n-1].text) {
		return c
	}
	text := c[n-1].text
	named := strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}") && len(text) > 2
	if named || strings.Trim(text, "0123456789") == "" {
		return c[:n-1]
	}
	return c
}

// setElsewhere are variables that PID 1 or the manager sets for an engine.
var setElsewhere = []string{"HOME", "USER", "LOGNAME", "SHELL", "PWD", "XDG_CACHE_HOME", "STATE_DIRECTORY",
	"CACHE_DIRECTORY", "RUNTIME_DIRECTORY", "CUDA_VISIBLE_DEVICES"}

// variable is what is known of a variable. One that was set nowhere is empty, but what follows from
// that proves nothing: a command that is not looked at may set it.
func (s *shellScript) variable(name string) (string, bool) {
	if v, ok := s.vars[name]; ok {
		if v == unknown {
			return "", false
		}
		return v, true
	}
	if v, ok := s.env[name]; ok {
		return v, true
	}
	if slices.Contains(setElsewhere, name) {
		return "", false
	}
	s.doubtful = true
	return "", true
}

// unknown is the value of a variable that was set to something that could not be found out.
const unknown = "\x00"

// command looks at one simple command, and reports whether the script ends with it.
func (s *shellScript) command(c []word) (ends bool) {
	c = s.reserved(c)
	for len(c) > 0 && s.assignment(c[0]) {
		c = c[1:]
	}
	if len(c) == 0 || !c[0].known {
		return false
	}
	switch c[0].text {
	case "export", "declare", "typeset", "readonly", "local":
		for _, w := range c[1:] {
			s.assignment(w)
		}
		return false
	case "cd", "pushd":
		if s.folder = ""; len(c) == 2 && c[1].known {
			s.folder = s.absolute(c[1].text)
		}
		return false
	case "set": // "set -- program", and later exec "$@"
		if len(c) > 2 && c[1].text == "--" {
			s.execute(c[2:])
		}
		return false
	case ".", "source":
		if len(c) > 1 {
			s.source(c[1], c[2:])
		}
		return false
	case "eval", "return", "exit", "trap":
		s.doubtful = true
		return false
	}
	if isActivation(c) {
		s.activate("", c[2:])
		return false
	}
	return s.execute(c)
}

// reserved drops the reserved words before a command, and counts the branches that they open and
// close.
func (s *shellScript) reserved(c []word) []word {
	for len(c) > 0 && c[0].bare {
		switch c[0].text {
		case "if", "while", "until", "for", "case", "select", "{":
			s.branches++
			s.doubtful = true
		case "fi", "done", "esac", "}":
			s.branches = max(s.branches-1, 0)
		case "then", "else", "elif", "do", "!":
		default:
			return c
		}
		if word := c[0].text; word == "for" || word == "case" || word == "select" {
			if len(c) > 1 && word != "case" {
				s.vars[c[1].text] = unknown
			}
			return nil
		}
		c = c[1:]
	}
	return c
}

// assignment reports whether a word sets a variable, and notes it.
func (s *shellScript) assignment(w word) bool {
	name, value, ok := strings.Cut(w.text, "=")
	if !ok || name == "" {
		return false
	}
	name, extend := strings.CutSuffix(name, "+")
	for i := range len(name) {
		if !isName(name[i], i) {
			return false
		}
	}
	if extend {
		value = s.env[name] + value
	}
	if !w.known {
		value = unknown
		if strings.HasSuffix(name, "PATH") { // what is known of it is better than nothing
			value = strings.SplitN(w.text, "=", 2)[1]
			s.doubtful = true
		}
	}
	if len(value) > maxValue {
		value = unknown
	}
	if len(s.vars) < maxCommands {
		s.vars[name] = value
		if value != unknown {
			s.env[name] = value
		}
	}
	return true
}

// absolute returns a path, relative to the folder that the script changed to; "": not known.
func (s *shellScript) absolute(p string) string {
	switch {
	case path.IsAbs(p):
		return path.Clean(p)
	case s.folder != "":
		return path.Join(s.folder, p)
	}
	return ""
}

// source follows a file that a script reads. The "activate" of a Python environment puts its
// programs first; that of conda takes the name of one.
func (s *shellScript) source(w word, args []word) {
	file := s.absolute(w.text)
	if !w.known || file == "" {
		s.doubtful = true // it may set PATH
		return
	}
	if prefix := path.Dir(path.Dir(file)); path.Base(file) == "activate" && s.exists(path.Join(prefix, "conda-meta")) {
		s.guesses++
		s.show(&s.needs.Programs, file)
		s.guesses--
		s.activate(prefix, args)
		return
	}
	if path.Base(file) == "activate" && path.Base(path.Dir(file)) == "bin" {
		if extended := path.Dir(file) + ":" + s.env["PATH"]; len(extended) <= maxValue {
			s.env["PATH"] = extended
		}
		s.guesses++
		s.show(&s.needs.Programs, file)
		s.guesses--
		return
	}
	real, err := s.resolver.real(file)
	if err != nil || s.sourced >= maxNesting {
		s.doubtful = true
		return
	}
	text, err := s.read(real, maxScript)
	if err != nil {
		s.doubtful = true
		return
	}
	s.guesses++
	s.show(&s.needs.Programs, s.chain(file)...)
	s.guesses--
	s.sourced++
	s.run(string(text))
	s.sourced--
}

// execute follows the program of a command, and reports whether the script ends with it.
func (s *shellScript) execute(c []word) (ends bool) {
	replaced := c[0].text == "exec"
	if replaced {
		if c = withoutOptions(c[1:]); len(c) == 0 {
			return false // redirections alone
		}
	}
	ends = replaced && s.branches == 0 && !s.branched
	certain := ends && !s.doubtful
	for len(c) > 0 && c[0].known && slices.Contains(wrappers, path.Base(c[0].text)) {
		c, certain = s.unwrap(c[1:]), false
	}
	if len(c) == 0 || !c[0].known {
		return ends
	}
	s.runs(c[0].text, replaced, certain)
	return ends
}

// runs follows a program by the name that a command has for it.
func (s *shellScript) runs(name string, replaced, certain bool) {
	program := s.target(name, replaced)
	is, open := s.file(program, 0o001)
	switch {
	case is && open && certain:
		s.program(program, s.depth+1)
	case is && open:
		s.guesses++
		s.program(program, s.depth+1)
		s.guesses--
	case certain && program != "":
		m := Missing{Kind: Program, Name: program, By: s.self}
		if is {
			m.Closed = program
		}
		s.missing(m)
	case certain && !strings.Contains(name, "/"):
		s.missing(Missing{Kind: Program, Name: name, By: s.self, Searched: split(s.env["PATH"], ":")})
	}
}

// withoutOptions drops the options of exec.
func withoutOptions(c []word) []word {
	for len(c) > 0 && strings.HasPrefix(c[0].text, "-") {
		n := 1
		if strings.HasSuffix(c[0].text, "a") { // -a NAME
			n = 2
		}
		c = c[min(n, len(c)):]
	}
	return c
}

// target returns the path of a command's program; "": it is a builtin, a tool, or not known.
func (s *shellScript) target(name string, replaced bool) string {
	if strings.Contains(name, "/") {
		return s.absolute(name)
	}
	found := s.lookPath(name)
	if !replaced && slices.Contains(systemTools, path.Dir(found)) {
		return ""
	}
	return found
}

// unwrap drops the options and assignments of a program that executes the rest of its arguments:
// what follows is the first word with a path or a name that is found and no number.
func (s *shellScript) unwrap(c []word) []word {
	for i, w := range c {
		switch {
		case strings.HasPrefix(w.text, "-"), s.assignment(w):
		case !w.known:
			return c[i:]
		case strings.Contains(w.text, "/"), s.lookPath(w.text) != "":
			return c[i:]
		}
	}
	return nil
}
