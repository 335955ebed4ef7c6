package sandbox

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/relax"
)

// Verdict is whether a program needs a relaxation.
type Verdict string

// The verdicts.
const (
	Needed    Verdict = "needed"
	NotNeeded Verdict = "-"
	Unknown   Verdict = "?"
)

// Outcome is how a program ended.
type Outcome struct {
	Log    string
	Signal string // that ended it, as "SIGTRAP"; "": none
	OK     bool   // it ended with status 0
}

// Row is what was found of one program.
type Row struct {
	Program string
	Needs   map[string]Verdict // by the name of the relaxation
	Strict  bool               // it runs with nothing relaxed
	Hinted  bool               // the hints of relax.Explain alone led to what it needs
	Says    string             // the last line of its log with nothing relaxed
}

// suggested finds the relaxations that a hint names.
var suggested = regexp.MustCompile(`allow = \[([^]]*)\]`)

// Find runs a program with the relaxations to begin with, most often none, then with what the hint
// of each failure says, as an administrator would. When it runs, each relaxation that it has is
// taken away once. Where the hints lead nowhere, each is taken away from all of them.
func Find(program string, names, begin []string, run func(allow []string) Outcome) Row {
	first := run(begin)
	row := Row{Program: program, Needs: map[string]Verdict{}, Strict: first.OK && len(begin) == 0,
		Says: lastLine(first.Log)}
	for _, name := range names {
		row.Needs[name] = NotNeeded
	}
	if row.Strict {
		return row
	}
	enough, ok := follow(begin, first, run)
	row.Hinted = ok
	if !ok {
		enough = names
		ok = run(names).OK
	}
	if !ok { // it fails for another reason
		for _, name := range names {
			row.Needs[name] = Unknown
		}
		return row
	}
	if len(enough) == 1 { // it fails with none
		row.Needs[enough[0]] = Needed
		return row
	}
	for _, name := range enough {
		others := slices.DeleteFunc(slices.Clone(enough), func(n string) bool { return n == name })
		if !run(others).OK {
			row.Needs[name] = Needed
		}
	}
	return row
}

// follow returns the relaxations to which the hints lead; ok is false if the program does not run
// with them.
func follow(begin []string, failed Outcome, run func([]string) Outcome) (allow []string, ok bool) {
	allow = slices.Clone(begin)
	for !failed.OK {
		found, _ := relax.Explain(relax.Run{Lines: strings.Split(strings.TrimSpace(failed.Log), "\n"),
			Signal: failed.Signal, Allowed: allow})
		more := false
		if m := suggested.FindStringSubmatch(found.Hint); m != nil {
			for quoted := range strings.SplitSeq(m[1], ",") {
				name := strings.Trim(quoted, ` "`)
				if !slices.Contains(allow, name) {
					allow, more = append(allow, name), true
				}
			}
		}
		if !more {
			return allow, false
		}
		failed = run(slices.Clone(allow))
	}
	return allow, true
}

// Print returns the rows as a table of Markdown.
func Print(rows []Row) string {
	var b strings.Builder
	b.WriteString("| program | needs | the hints lead there | log with nothing relaxed |\n| --- | --- | --- | --- |\n")
	for _, r := range rows {
		var needed []string
		unknown := false
		for _, name := range relax.Names() {
			unknown = unknown || r.Needs[name] == Unknown
			if r.Needs[name] == Needed {
				needed = append(needed, "`"+name+"`")
			}
		}
		needs, says, hints := strings.Join(needed, ", "), r.Says, "no"
		if needs == "" {
			needs = "nothing"
		}
		if unknown {
			needs = "unknown"
		}
		if r.Hinted {
			hints = "yes"
		}
		if r.Strict {
			says, hints = "works", ""
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.Program, needs, hints, says)
	}
	return b.String()
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.ReplaceAll(strings.TrimSpace(lines[len(lines)-1]), "|", `\|`)
}
