package config

import (
	"strings"

	"github.com/pool-managerd/pool-managerd/units/engine"
)

// The reference's notes about single engines come from their adapters.

// engineDocs lists every kind with what it is.
func engineDocs() string {
	var docs []string
	for _, kind := range engine.Kinds() {
		a, _ := engine.For(kind)
		docs = append(docs, code([]string{kind})+", "+a.Doc())
	}
	return strings.Join(docs, "; ")
}

// withoutGeneration names the engines that have no generation of their own.
func withoutGeneration() string {
	return sentence("have none without `generate_path`.", func(a engine.Adapter) bool { return a.GeneratePath() == "" })
}

// withoutBinary names the engines that have no default program.
func withoutBinary() string {
	return sentence("must name one.", func(a engine.Adapter) bool { return a.DefaultBinary() == "" })
}

// splitting names the engines that accept tensor_split.
func splitting() string {
	return sentence("only.", func(a engine.Adapter) bool { return a.SplitsByShare() })
}

// sentence is "Engine `a` only." or "Engines `a` and `b` only.", of the kinds of which something
// holds.
func sentence(end string, holds func(engine.Adapter) bool) string {
	kinds := engine.Where(holds)
	word := "Engine "
	if len(kinds) > 1 {
		word = "Engines "
	}
	return word + code(kinds) + " " + end
}

// code lists kinds as the reference prints them: "`a`, `b` and `c`".
func code(kinds []string) string {
	quoted := make([]string, len(kinds))
	for i, k := range kinds {
		quoted[i] = "`" + k + "`"
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " and " + quoted[last]
}
