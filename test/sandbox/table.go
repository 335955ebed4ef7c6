package sandbox

import (
	"fmt"
	"slices"
	"strings"
)

// Verdict is whether a program needs a relaxation.
type Verdict string

// The verdicts.
const (
	Needed    Verdict = "needed"
	NotNeeded Verdict = "-"
	Unknown   Verdict = "?"
)

// Row is what was found of one program.
type Row struct {
	Program string
	Needs   map[string]Verdict // by the name of the relaxation
	Strict  bool               // it runs with nothing relaxed
	Minimal bool               // it runs with what it needs alone
	Says    string             // the last line of its log with nothing relaxed
}

// Find tries a program with each relaxation missing from all, and then with those that it needs
// alone. run starts it with relaxations and returns its log, and whether it ended well.
func Find(program string, names []string, run func(allow []string) (log string, ok bool)) Row {
	row := Row{Program: program, Needs: map[string]Verdict{}}
	says, ok := run(nil)
	row.Strict, row.Says = ok, lastLine(says)
	if row.Strict {
		for _, name := range names {
			row.Needs[name] = NotNeeded
		}
		row.Minimal = true
		return row
	}
	_, whole := run(names)
	var needed []string
	for _, name := range names {
		if !whole { // it fails for another reason
			row.Needs[name] = Unknown
			continue
		}
		others := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
		row.Needs[name] = NotNeeded
		if _, ok := run(others); !ok {
			row.Needs[name] = Needed
			needed = append(needed, name)
		}
	}
	if whole {
		_, row.Minimal = run(needed)
	}
	return row
}

// Print returns the rows as a table of Markdown.
func Print(rows []Row, names []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| program | %s | log without them |\n|%s\n", strings.Join(names, " | "),
		strings.Repeat(" --- |", len(names)+2))
	for _, r := range rows {
		cells := make([]string, len(names))
		for i, name := range names {
			cells[i] = string(r.Needs[name])
		}
		says := r.Says
		switch {
		case r.Strict:
			says = "runs"
		case !r.Minimal:
			says += " (does not run with what is needed one by one, either)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.Program, strings.Join(cells, " | "), says)
	}
	return b.String()
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.ReplaceAll(strings.TrimSpace(lines[len(lines)-1]), "|", `\|`)
}
