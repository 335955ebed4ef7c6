package tree

import (
	"cmp"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// wording is a phrase that a reader has to decode, and what the manuals of systemd, Prometheus and
// runc write instead.
type wording struct {
	phrase  *regexp.Regexp
	parts   []string // one of them is in each match: nearly all texts have none
	instead string
}

func phrase(expr, instead string) wording {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		panic(err) // a mistake in the list below
	}
	return wording{regexp.MustCompile(`(?i)\b(?:` + expr + `)\b`), partsOf(tree), instead}
}

// partsOf returns literals, one of which is in each match; nil if there is no such list.
func partsOf(tree *syntax.Regexp) (best []string) {
	shortest := func(list []string) int {
		return len(slices.MinFunc(list, func(a, b string) int { return cmp.Compare(len(a), len(b)) }))
	}
	switch tree.Op {
	case syntax.OpLiteral:
		return []string{string(tree.Rune)}
	case syntax.OpConcat:
		for _, sub := range tree.Sub {
			if parts := partsOf(sub); parts != nil && (best == nil || shortest(parts) > shortest(best)) {
				best = parts
			}
		}
	case syntax.OpAlternate:
		for _, sub := range tree.Sub {
			parts := partsOf(sub)
			if parts == nil {
				return nil
			}
			best = append(best, parts...)
		}
	}
	return best
}

var wordings = []wording{
	phrase(`tells|told`, "logs, reports, returns, names"),
	phrase(`no more`, "no longer, not, stopped"),
	phrase(`any more`, "any longer, no longer"),
	phrase(`of (?:no|more|no more) use`, "unusable, healthy"),
	phrase(`be it`, "if, whether"),
	phrase(`whoever|whom`, "if, any caller; name the actor"),
	phrase(`nobody|somebody|anybody`, "no one, a user, another process; name the actor"),
	phrase(`anew`, "again"),
	phrase(`mends?|mended|mending`, "fix"),
	phrase(`remed(?:y|ies)`, "hint, fix"),
	phrase(`gives? back|gave back|given back`, "releases, returns"),
	phrase(`(?:can|cannot|could not) be told`, "is unknown; could not check"),
	phrase(`forgiv(?:e|es|en)`, "reset"),
	phrase(`hurr(?:y|ies|ied)`, "kill after the deadline"),
	phrase(`judge[sd]?|judging`, "evaluate, classify, check"),
	phrase(`sees? to it`, "ensures"),
}

// quantity follows where the phrase counts something, which is good English: "no more than 16".
var quantity = regexp.MustCompile(`(?i)^ (?:than|GPUs|memory)\b`)

// isName reports whether a match is a part of a name: --kill-whom, uid=nobody, /v1/pools/nobody.
func isName(text string, from, to int) bool {
	switch {
	case from > 0 && strings.ContainsRune("-=/\\`'\"._@", rune(text[from-1])):
		return true
	case to < len(text) && strings.ContainsRune("=_`'", rune(text[to])):
		return true
	}
	return from == 0 && to == len(text)
}

// wrongWords returns the phrases of wordings in a text, each with what to write instead.
func wrongWords(text string) (found []string) {
	low := strings.ToLower(text)
	for _, w := range wordings {
		if !slices.ContainsFunc(w.parts, func(part string) bool { return strings.Contains(low, part) }) {
			continue
		}
		for _, at := range w.phrase.FindAllStringIndex(text, -1) {
			if !quantity.MatchString(text[at[1]:]) && !isName(text, at[0], at[1]) {
				found = append(found, `"`+text[at[0]:at[1]]+`": write `+w.instead)
			}
		}
	}
	return found
}

// TestPlainEnglish: comments, messages and documents use the words of the field's own manuals.
func TestPlainEnglish(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		if f.Path == "test/tree/wording_test.go" {
			continue
		}
		for _, group := range f.AST.Comments {
			for _, c := range group.List {
				for _, w := range wrongWords(c.Text) {
					t.Errorf("%s: comment: %s", f.Fset.Position(c.Pos()), w)
				}
			}
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				text, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				for _, w := range wrongWords(text) {
					t.Errorf("%s: string: %s", f.Fset.Position(lit.Pos()), w)
				}
			}
			return true
		})
	}
	for _, name := range files(t, isDocument) {
		for i, line := range strings.Split(read(t, name), "\n") {
			for _, w := range wrongWords(line) {
				t.Errorf("%s:%d: %s", name, i+1, w)
			}
		}
	}
}

// isDocument reports whether people read the file: documents, manual pages, shipped files.
func isDocument(p string) bool {
	if strings.Contains(p, "testdata/") || strings.HasPrefix(p, "dist/") || strings.HasPrefix(p, ".git/") {
		return false
	}
	switch path.Ext(p) {
	case ".md", ".yaml", ".1", ".5", ".8", ".toml", ".service", ".socket", ".slice":
		return true
	}
	return p == "Makefile" || strings.HasPrefix(p, "packaging/scripts/")
}

func TestWrongWords(t *testing.T) {
	t.Parallel()
	for _, w := range wordings {
		if len(w.parts) == 0 {
			t.Errorf("%s: no part of it is in each match", w.phrase)
		}
	}
	for text, n := range map[string]int{
		"the caller is told":                 1,
		"there are no more than 16 of them":  0,
		"the unit is no more":                1,
		"Whoever asks, nobody answers":       2,
		"of no use, and mended anew":         3,
		"returns an error if the unit fails": 0,
		"setpriv --reuid=nobody":             0,
		"systemctl kill --kill-whom=main":    0,
		"nobody":                             0,
		"JUDGES and judging":                 2,
	} {
		if found := wrongWords(text); len(found) != n {
			t.Errorf("%q: found %d, want %d: %v", text, len(found), n, found)
		}
	}
}
