package strict

import (
	"bytes"
	"math"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	toml "github.com/pelletier/go-toml/v2"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// plain turns a table into what the TOML library's decoder makes of it.
func plain(t *Table) map[string]any {
	m := make(map[string]any)
	for _, e := range t.Entries() {
		m[e.Key] = plainValue(e.Value)
	}
	return m
}

func plainValue(v *Value) any {
	switch v.Kind {
	case String:
		return v.Str
	case Integer:
		return v.Int
	case Float:
		return v.Float
	case Bool:
		return v.Bool
	case TableKind:
		return plain(v.Table)
	case Array:
		list := make([]any, len(v.Items))
		for i, item := range v.Items {
			list[i] = plainValue(item)
		}
		return list
	}
	return date{}
}

// date stands for every date and time: no key takes them, so that their value is not kept.
type date struct{}

// withoutDates replaces what the decoder makes of dates and times.
func withoutDates(x any) any {
	switch x := x.(type) {
	case map[string]any:
		for k, v := range x {
			x[k] = withoutDates(v)
		}
		return x
	case []any:
		for i, v := range x {
			x[i] = withoutDates(v)
		}
		return x
	case time.Time, toml.LocalDate, toml.LocalTime, toml.LocalDateTime:
		return date{}
	}
	return x
}

// FuzzParse compares the reader with the TOML library's own decoder: they agree on which documents
// are TOML and on what is in them, and each place is inside the file.
func FuzzParse(f *testing.F) {
	for _, seed := range parseSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(mutate.Many(func(t *testing.T, data []byte) {
		doc, problems := Parse("f.toml", data)
		for _, p := range problems {
			if p.Line < 0 || p.Line > bytes.Count(data, []byte("\n"))+1 || p.Line > 0 && p.Column < 1 {
				t.Errorf("the place is outside of the file: %s", p.Error())
			}
			if !utf8.ValidString(p.Error()) {
				t.Errorf("the message is no text: %q", p.Error())
			}
		}
		if doc.Broken != (len(problems) > 0) {
			t.Errorf("Broken is %v with %d problems", doc.Broken, len(problems))
		}
		if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 || bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
			if len(problems) == 0 {
				t.Error("not plain text, and no problem")
			}
			return
		}
		want := make(map[string]any)
		err := toml.Unmarshal(data, &want)
		if (err != nil) != (len(problems) > 0) {
			t.Fatalf("problems %v, and the decoder says %v", problems, err)
		}
		if err != nil {
			return
		}
		got := plain(doc.Root)
		nan := cmp.Comparer(func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) })
		if diff := cmp.Diff(withoutDates(want), any(got), nan); diff != "" {
			t.Errorf("the decoder's (-) and ours (+):\n%s", diff)
		}
	}))
}

// parseSeeds hold the corners of TOML's tables; the fuzz test compares each with the decoder.
var parseSeeds = []string{
	"", "\n", "# only\n", "a = 1", "a = 1\r\nb = 2\r\n", "a=1\na=2\n", "a.b = 1\na.c = 2\n", "a.b = 1\n[a]\nc = 2\n",
	"[a]\n[a]\n", "[a.b]\n[a]\nc = 1\n", "[a.b]\n[a]\nb.c = 1\n", "[a.b.c]\nz = 9\n[a]\nb.c.t = 1\n", "[a.b.c]\n[a]\nb.d = 1\n",
	"[a]\nb.c = 1\n[a.b]\n", "[a]\nb.c = 1\n[a.b.d]\ne = 1\n", "a = { b = 1 }\n[a.c]\n", "a = { b = 1 }\na.c = 2\n",
	"a = { b.c = 1, b.d = 2 }\n", "a = { b = { c = 1 }, b.d = 2 }\n", "a = { b = 1, b = 2 }\n", "a = {}\n[a]\n",
	"[[a]]\nb = 1\n[[a]]\nb = 2\n[a.c]\nd = 1\n", "[[a]]\n[a]\n", "[a]\n[[a]]\n", "a = []\n[[a]]\n", "a = [{}]\n[a.b]\n", "[[a.b]]\n[a]\nc=1\n",
	"[[a]]\n[[a.b]]\nc = 1\n[[a.b]]\n[a.b.d]\n", "[a]\nb = 1\n[a.b]\n", "[a]\nb = 1\n[a.b.c]\n", "a = 1\n[a]\n", "a = 1\na.b = 2\n",
	"a = [1, [2, 3], # note\n 4,\n]\nb = 5\n", "a = [ { b = [1], c = \"]\" }, [], \"}\" ]\n", "a = { b = [ { c = 1 } ], d = 2 }\n",
	"\"\" = 1\n", "\"a b\".c = 1\n", "'x' = '''\n'a''' \n", "a = \"\"\"b\nc\"\"\"\n", "a = \"\\u00e9\\n\"\n", "a = +1_000\nb = 0xFF\nc = -0.5e-3\nd = inf\ne = nan\n",
	"a = 1979-05-27T07:32:00Z\nb = 07:32:00\nc = 1979-05-27\nd = 1979-05-27 07:32:00\n", "a = 1979-13-27\n", "a = 9223372036854775808\n", "a = 1__0\n",
	"a = \"x\nb = 2\n", "a = [1\nb = 2\n", "[a\nb = 1\n", "a\n", "= 1\n", "a = 1 b = 2\n", "a = tru\n", "a = {b = 1\n", "\xff", "a\x00", "\xef\xbb\xbfa = 1\n",
	"[]\n", "[.]\n", "[a.]\n", "a..b = 1\n", "a = \"\x01\"\n", "a = '\xc3\xa9'\n\xc3\xa9 = 1\n", "a = {\n b = 1,\n}\n", "a = [\n  'b'\n  , 'c' ]",
}

func TestParse(t *testing.T) {
	t.Run("nesting_is_bounded", func(t *testing.T) {
		deep := append([]byte("a = "), bytes.Repeat([]byte("["), 1<<19)...)
		if _, problems := Parse("f.toml", deep); len(problems) != 1 {
			t.Errorf("%d problems", len(problems))
		}
	})
	t.Run("problems_are_bounded", func(t *testing.T) {
		for name, line := range map[string]string{"syntax": "=\n", "twice": "a = 1\n"} {
			_, problems := Parse("f.toml", bytes.Repeat([]byte(line), 100_000))
			if len(problems) != maxProblems+1 {
				t.Errorf("%s: %d problems, want %d", name, len(problems), maxProblems+1)
			}
		}
	})
	t.Run("problems_on_one_long_line_are_bounded", func(t *testing.T) {
		line := append([]byte("a = { "), bytes.Repeat([]byte("b = 1, "), 140_000)...)
		_, problems := Parse("f.toml", append(line, "}\n"...))
		if len(problems) != maxProblems+1 {
			t.Errorf("%d problems", len(problems))
		}
	})
	t.Run("places_of_values", func(t *testing.T) {
		doc, problems := Parse("f.toml", []byte("a = [ # ]\n  \"é\", [1], { b = 2 },\n]\n[c]\n\"d\" . e = 'x'\n"))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		items := doc.Find("a").Items
		for _, place := range []struct {
			what         string
			v            *Value
			line, column int
		}{
			{"a", doc.Find("a"), 1, 5}, {"text", items[0], 2, 3}, {"list", items[1], 2, 8}, {"item", items[1].Items[0], 2, 9},
			{"table", items[2], 2, 13}, {"b", items[2].Table.Get("b").Value, 2, 19}, {"c.d.e", doc.Find("c", "d", "e"), 5, 11},
		} {
			if line, column := doc.Place(place.v.At); line != place.line || column != place.column {
				t.Errorf("%s is at %d:%d, want %d:%d", place.what, line, column, place.line, place.column)
			}
		}
	})
}
