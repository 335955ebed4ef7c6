package relax

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/pattern"
)

// Run is how a run of an engine ended, and what it was in.
type Run struct {
	Lines   []string // of its log, the oldest first
	Signal  string   // that ended it, as "SIGSYS"; "" for none
	Allowed []string // the relaxations that it had
	// Hides returns the tree around a path that the unit hides from the engine; "": it hides none.
	Hides func(path string) string
	Home  string // the engine's state directory, which it may write to
	// Unwritable returns why the key writable may not name a path; "": it may, as where it is nil.
	Unwritable func(path string) string
	// NoInternet is whether the unit refuses sockets of the Internet's families too.
	NoInternet bool
}

// Finding is the part of the sandbox that explains the end of a run best.
type Finding struct {
	Text string // a clause, with the line of the unit
	Hint string // what to write in the pool's file
}

// Explain returns how the sandbox explains the end of a run; ok is false if nothing in its log or
// its signal does. The newest line that shows a symptom decides, an error before a warning, and of
// a line the first symptom.
func Explain(run Run) (f Finding, ok bool) {
	if f, ok := run.bySignal(); ok {
		return f, true
	}
	run.Lines = slices.Clone(run.Lines[max(len(run.Lines)-newest, 0):])
	for i, line := range run.Lines {
		run.Lines[i] = line[:min(len(line), longest)]
	}
	for _, look := range []struct {
		how      manner
		survived bool
	}{{named, false}, {nearby, false}, {named, true}, {vague, false}} {
		for i, line := range slices.Backward(run.Lines) {
			if survived().MatchString(line) != look.survived || supposed().MatchString(line) {
				continue
			}
			if f, ok := run.matches(look.how, i); ok {
				return f, true
			}
		}
	}
	return Finding{}, false
}

// matches returns the finding of the first symptom that a line shows in this manner.
func (run Run) matches(how manner, at int) (f Finding, ok bool) {
	line := run.Lines[at]
	text := line
	if how == nearby {
		if !unnamed().MatchString(line) {
			return f, false
		}
		text = strings.Join(run.Lines[max(at-traceback, 0):at+1], " ")
	}
	for _, s := range table() {
		if s.manners&how == 0 || !s.pattern.MatchString(text) {
			continue
		}
		if f, ok := s.find(run, line); ok {
			return f, true
		}
	}
	return f, false
}

// survived are lines that a program writes and goes on: they explain its end only where no error
// does.
var survived = pattern.Lazy(`\b(?:WARNING|WARN|INFO|DEBUG|NOTICE)\b|\b\w*Warning:|(?i:^\W*(?:warn|warning|info|debug)\b)`)

// supposed are lines about what may happen later, as vLLM's about its limit of open files.
var supposed = pattern.Lazy(`(?i)\b(?:can|may|could|might) (?:cause|lead to|result in)\b`)

// traceback is how many lines before an error may name the call that failed: Python prints the
// line of the program and a line of marks, and three lines for each library between them.
const traceback = 8

// newest is how many lines of a log are examined: a runtime writes its stack behind the reason.
const newest = 40

// longest is how much of a line is examined, in bytes.
const longest = 2000

// bySignal explains the signals by which a process ends that the kernel or its own runtime stopped
// at a forbidden step.
func (run Run) bySignal() (Finding, bool) {
	switch run.Signal {
	case "SIGSYS":
		return Finding{"the sandbox allows the calls of this machine's own architecture alone " +
			"(SystemCallArchitectures=native)",
			"Install a build for this architecture: 32-bit programs and libraries do not run as engines."}, true
	case "SIGTRAP":
		return run.relaxation(JIT)
	}
	return Finding{}, false
}

// relaxation is the finding that a relaxation is missing; ok is false if the run had it.
func (run Run) relaxation(name string) (f Finding, ok bool) {
	r, found := Find(name)
	if !found || slices.Contains(run.Allowed, name) {
		return f, false
	}
	key := r.blocks()
	hint := fmt.Sprintf("If the engine needs it, write [sandbox] allow = [%q] in the pool's file.", name)
	if r.Instead != "" {
		hint = r.Instead + " " + hint
	}
	return Finding{"the sandbox forbids it " + r.Denied + " (" + key + ")", hint}, true
}

// family explains a socket that the unit refuses. Programs do not say of which family it was: it is
// one of netlink, which lists interfaces, or, for an engine without a network, of the Internet.
func (run Run) family(line string) (f Finding, ok bool) {
	if other := run.otherFamily(line); other != "" {
		return Finding{"the sandbox lets no engine make a socket of " + other + " (RestrictAddressFamilies=)",
			notPermitted}, true
	}
	f, ok = run.relaxation(Netlink)
	if !run.NoInternet {
		return f, ok
	}
	hint := `An engine that connects to a port needs [sandbox] network = "loopback" in the pool's file.`
	if ok {
		hint += " One that lists network interfaces needs allow = [\"" + Netlink + "\"]."
	}
	return Finding{"the sandbox gives it no network: it may use unix sockets alone (RestrictAddressFamilies=)",
		hint}, true
}

// blocks is the line of the unit without the relaxation.
func (r Relaxation) blocks() string {
	key, _, _ := strings.Cut(r.Lines[0], "=")
	return strings.TrimSuffix(key, "+") + "="
}

// absolute finds the first absolute path in a line.
var absolute = pattern.Lazy(`(?:^|[\s'"=:(\x60])(/[^\s[:cntrl:]'"\x60:,;()\[\]\\]+)`)

// pathIn returns the first absolute path in a line, without a slash at its end; "": none.
func pathIn(line string) string {
	m := absolute().FindStringSubmatch(line)
	if m == nil {
		return ""
	}
	return strings.TrimRight(m[1], "/.")
}

// controlGroups is the tree of the control groups, which engines without the relaxation of /proc do
// not see.
const controlGroups = "/sys/fs/cgroup"

// hidden explains a path that the engine does not see, or sees empty.
func (run Run) hidden(line string) (f Finding, ok bool) {
	path := pathIn(line)
	if path == "" || run.Hides == nil {
		return f, false
	}
	tree := run.Hides(path)
	switch {
	case tree == "":
		return f, false
	case tree == controlGroups:
		return Finding{"the sandbox hides the control groups from the engine, " + path + " too (InaccessiblePaths=, " +
			"ProtectControlGroups=)", fmt.Sprintf("An engine that reads its limits there needs [sandbox] allow = [%q] "+
			"in the pool's file; to write there no engine may.", Proc)}, true
	}
	write := fmt.Sprintf("To write there, add writable = [%q] to the pool's file, or name a path below its state "+
		"directory, %s. ", path, run.Home)
	if run.unwritable(path) {
		write = fmt.Sprintf("To write, name a path below its state directory, %s. ", run.Home)
	}
	return Finding{
		fmt.Sprintf("the sandbox hides %s from the engine, even where ls shows it: of %s it sees only its model (%s)",
			path, tree,
			"TemporaryFileSystem=, InaccessiblePaths="),
		write + "A file to read can be copied to a directory of the system, such as /usr/local/share.",
	}, true
}

// unwritable reports whether the key writable may not name a path.
func (run Run) unwritable(path string) bool {
	return path != "" && run.Unwritable != nil && run.Unwritable(path) != ""
}

// readOnly explains a path that the engine may not write to.
func (run Run) readOnly(line string) (Finding, bool) {
	path, key := pathIn(line), "/srv/…"
	what := "the file system"
	if path != "" {
		what, key = path, path
	}
	switch {
	case strings.HasPrefix(path, "/proc/sys/"), strings.HasPrefix(path, "/sys/"):
		return Finding{path + " is read-only for the engine (ProtectKernelTunables=, ProtectControlGroups=)",
			"Set it on the host, as in /etc/sysctl.d: no engine may."}, true
	case run.unwritable(path):
		return Finding{fmt.Sprintf("%s is read-only for the engine (ProtectSystem=strict)", what),
			fmt.Sprintf("Let it write to its state directory, %s: %s may not be named in writable.", run.Home,
				path)}, true
	}
	return Finding{
		fmt.Sprintf("%s is read-only for the engine (ProtectSystem=strict)", what),
		fmt.Sprintf("Let it write to its state directory, %s, or to a directory in writable = [%q] of the pool's file.",
			run.Home, key),
	}, true
}
