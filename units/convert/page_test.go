package convert_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/golden"
	"github.com/pool-managerd/pool-managerd/units/convert"
)

const page = "../../docs/migrating.md"

// example is a source on the page, and the block with what it becomes.
var example = regexp.MustCompile(`(?s)<!-- import: (\S+) -->\n\n(.*?)\n\nbecomes\n\n<!-- becomes: (\S+) -->\n\n((?:    [^\n]*\n|\n)*)`)

// TestPage: what the page about migrating shows is what poolctl import prints.
func TestPage(t *testing.T) {
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	got := example.ReplaceAllStringFunc(string(data), func(text string) string {
		m := example.FindStringSubmatch(text)
		examples++
		r, err := convert.Convert(convert.Source{Name: m[1], Data: []byte(indented(m[2], "    ", ""))})
		if err != nil || len(r.Pools) != 1 || r.Pools[0].ID+".toml" != m[3] {
			t.Errorf("%s: %s", m[1], show(r, err))
			return text
		}
		checkAll(t, r)
		return strings.TrimSuffix(text, m[4]) + indented(r.Pools[0].Text, "", "    ") + "\n"
	})
	if examples != 3 || strings.Count(string(data), "<!-- import: ") != examples {
		t.Errorf("%d examples were read", examples)
	}
	golden.File(t, page, got, *update)
}

// indented replaces the indentation of each line that is not empty.
func indented(text, from, to string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			line = to + strings.TrimPrefix(line, from)
		}
		b.WriteString(line)
	}
	return b.String()
}
