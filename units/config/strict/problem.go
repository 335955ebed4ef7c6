// Package strict reads TOML files by a schema and finds everything that is wrong with a file in one
// go: each problem has file, line and column, the dotted key, what was found and what is allowed.
//
// It owns the reading of the file (bounded, never blocking), the document tree with positions, and
// the schema as rows of a table. It must not know pools, hosts, or any key by name.
package strict

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Problem is one thing that is wrong with a configuration. It is an error.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`    // from 1; 0: the file as a whole
	Column  int    `json:"column,omitempty"`  // from 1, in characters
	Key     string `json:"key,omitempty"`     // dotted, as "limits.memory_max"
	PoolID  string `json:"pool_id,omitempty"` // the pool that the file asks for, empty if unknown
	Message string `json:"message"`           // what was found
	Allowed string `json:"allowed,omitempty"` // what is allowed instead
	Hint    string `json:"hint,omitempty"`    // what to do, a sentence
}

// Error returns the problem on one line: "llama.toml:12:9: replicas is 0; want 1-8".
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(plainName(p.File))
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	b.WriteString(p.Message)
	if p.Allowed != "" {
		b.WriteString("; want ")
		b.WriteString(p.Allowed)
	}
	return b.String()
}

// plainName returns a file's name as it is, or quoted where it would break the line that names it.
func plainName(file string) string {
	if utf8.ValidString(file) && OneLine(file) == "" {
		return file
	}
	return strconv.Quote(file)
}

// Action returns the hint, or else where to fix the problem.
func (p Problem) Action() string {
	switch {
	case p.Hint != "":
		return p.Hint
	case p.Line > 0:
		return fmt.Sprintf("Fix line %d of %s, then run systemctl reload pool-managerd.", p.Line, p.File)
	default:
		return fmt.Sprintf("Fix %s, then run systemctl reload pool-managerd.", p.File)
	}
}

// Sort puts problems in the order of files and lines; those about a whole file come first.
func Sort(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
