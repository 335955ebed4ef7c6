package secret

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// environments are files and what PID 1 makes of them: "A=1;B=2", or what a refusal says. A machine
// test compares the same rules with PID 1 itself (test/e2e: TestEnvFileAsPID1ReadsIt).
var environments = []struct{ name, text, want, refused string }{
	{"empty", "", "", ""},
	{"one", "A=1\n", "A=1", ""},
	{"no_newline", "A=1", "A=1", ""},
	{"dos", "A=1\r\nB=2\r\n", "A=1;B=2", ""},
	{"old_mac", "A=1\rB=2\r", "A=1;B=2", ""},
	{"no_value", "A=\nB=2\n", "A=;B=2", ""},
	{"comments", "# A=0\n; B=0\n  # C=0\nA=1 # not a comment\n", "A=1 # not a comment", ""},
	{"white_space", "  A  =  1  2  \n\t\nB=2\t\n", "A=1  2;B=2", ""},
	{"single_quotes", `A='a "b" \n $c'` + "\n", `A=a "b" \n $c`, ""},
	{"double_quotes", `A="a 'b' \$c \"d\" \\ \n"` + "\n", `A=a 'b' $c "d" \ \n`, ""},
	{"quotes_within_a_word", `A=a"b"'c'` + "\n", `A=a"b"'c'`, ""},
	{"quotes_side_by_side", `A="a"  'b' c d ` + "\n", "A=abc d", ""},
	{"lines_in_quotes", "A=\"a\nb\"\nB='c\nd'\n", "A=a\nb;B=c\nd", ""},
	{"continued", "A=a\\\nb\nB=\"c\\\nd\"\n", "A=ab;B=cd", ""},
	{"continued_with_white_space", "A=a \\\n  b\nB=\\\n c\n", "A=a   b;B= c", ""},
	{"escaped", `A=\a\\\"\ ` + "\nB=b\\ \n", `A=a\" ;B=b `, ""},
	{"a_backslash_at_the_end", `A=a \`, "A=a ", ""},
	{"sign_in_a_value", "A==b=\n", "A==b=", ""},
	{"the_last_counts", "A=1\nB=2\nA=3\n", "A=3;B=2", ""},
	{"no_expansion", "A=$HOME %h\n", "A=$HOME %h", ""},
	{"other_scripts", "A=žš 日本\n", "A=žš 日本", ""},
	{"escaped_backslash_in_a_comment", "# a\\\\\nA=1\n", "A=1", ""},

	{"export", "A=1\nexport B=hidden\n", "", "line 2 begins with export"},
	{"no_sign", "A=1\n\nhidden\n", "", "line 3 is no assignment"},
	{"a_line_of_a_key", "hid+den==\n", "", "line 1 assigns to something that is no name"},
	{"a_digit_first", "1A=hidden\n", "", "line 1 assigns to something that is no name"},
	{"no_name", "=hidden=x\n", "", "line 1 assigns to something that is no name"},
	{"open_quotes", "A=1\nB=\"hidden\nC=hidden\n", "", "line 2 opens a quote that is not closed"},
	{"open_single_quotes", "B='hidden", "", "line 1 opens a quote"},
	{"quotes_open_behind_a_backslash", `B="hidden\`, "", "line 1 opens a quote"},
	{"after_lines_in_quotes", "A='a\r\nb'\r\nhidden\n", "", "line 3 is no assignment"},
	{"continued_comment", "# a\\\nA=hidden\n", "", "line 1 is a comment that ends in a backslash"},
	{"bom", "\ufeffA=hidden\n", "", "begins with a byte order mark"},
	{"latin1", "A=hidden\xe9\n", "", "is not UTF-8"},
	{"nul", "A=hidden\x00\n", "", "NUL"},
	{"noncharacter", "A=hidden\ufdd0\n", "", "no character"},
}

// TestParseEnvironment: quotes, comments and continued lines are those of PID 1; what it would drop
// is refused by the line, and without a word of it.
func TestParseEnvironment(t *testing.T) {
	for _, c := range environments {
		t.Run(c.name, func(t *testing.T) {
			found, err := ParseEnvironment([]byte(c.text))
			var parts []string
			for _, v := range found {
				parts = append(parts, v.Name+"="+v.Value)
			}
			if got := strings.Join(parts, ";"); got != c.want || (err == nil) != (c.refused == "") {
				t.Fatalf("%q, %v; want %q", got, err, c.want)
			}
			if err == nil {
				return
			}
			var f *Fault
			if !errors.As(err, &f) || !strings.Contains(err.Error(), c.refused) || f.Hint == "" ||
				strings.Contains(err.Error()+f.Hint, "hid") {
				t.Errorf("%v (%+v), want %q", err, f, c.refused)
			}
		})
	}
}

// TestEnvironmentLines: a variable has the line of its last assignment.
func TestEnvironmentLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(path, []byte("A=1\r\nB=\"x\r\ny\"\r\nC=a\\\nb\nD=1\nA=2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := Environment(path)
	if got := fmt.Sprint(found); err != nil || got != "[{A 2 7} {B x\r\ny 2} {C ab 4} {D 1 6}]" {
		t.Errorf("%s, %v", got, err)
	}
	for name, path := range map[string]string{"missing": "/nowhere/env", "a_directory": t.TempDir(),
		"a_device": "/dev/zero"} {
		if found, err := Environment(path); err == nil {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// TestEveryBadLineIsNamed: of a file, each line that is refused is named, up to a bound, and a
// value of several lines is no line of its own.
func TestEveryBadLineIsNamed(t *testing.T) {
	for _, c := range []struct{ name, text, says, hint string }{
		{"kinds", "A=1\nexport B=hid\n1C=hid\nhid\n# ok\nD=2\n",
			"line 2 begins with export, which PID 1 does not know: it would ignore the line; " +
				"line 3 assigns to something that is no name of a variable: PID 1 would ignore it; line 4 is no assignment: PID 1 would ignore it",
			"Write NAME=value alone. Write NAME=value, with letters, digits and underscores in the name, no digit first; put a value of several " +
				"lines in quotes. Write NAME=value; a line that begins with # is a comment."},
		{"one_hint_for_all", "export A=hid\nexport B=hid\n",
			"line 1 begins with export, which PID 1 does not know: it would ignore the line; " +
				"line 2 begins with export, which PID 1 does not know: it would ignore the line", "Write NAME=value alone."},
		{"a_value_of_several_lines_is_a_part_of_its_line", "export A=\"hid\nhid\nhid\"\nhid\n",
			"line 1 begins with export, which PID 1 does not know: it would ignore the line; line 4 is no assignment: PID 1 would ignore it", ""},
		{"a_comment_that_goes_on", "# x\\\nhid\n", "line 1 is a comment that ends in a backslash, which continues it before systemd 254 only; " +
			"line 2 is no assignment: PID 1 would ignore it", ""},
		{"an_open_quote_ends_it", "hid\nA=\"hid\nexport B=1\n", "line 1 is no assignment: PID 1 would ignore it; line 2 opens a quote that is not closed", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, err := ParseEnvironment([]byte(c.text))
			var f *Fault
			if !errors.As(err, &f) || found != nil || err.Error() != c.says || c.hint != "" && f.Hint != c.hint {
				t.Errorf("%v, %v\nhint %q", found, err, f.Hint)
			}
		})
	}
	_, err := ParseEnvironment([]byte(strings.Repeat("hid\n", 1000)))
	if err == nil || strings.Count(err.Error(), "; ") != maxFaults ||
		!strings.HasSuffix(err.Error(), "; and 992 more") {
		t.Errorf("of a thousand: %v", err)
	}
}

// FuzzParseEnvironment: what is accepted is a list of different names, which is the same after it
// was written in quotes; an error goes without variables.
func FuzzParseEnvironment(f *testing.F) {
	for _, c := range environments {
		f.Add([]byte(c.text))
	}
	quotes := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`")
	f.Fuzz(mutate.Many(func(t *testing.T, text []byte) {
		found, err := ParseEnvironment(text)
		if err != nil {
			var fault *Fault
			if found != nil || !errors.As(err, &fault) {
				t.Fatalf("%v, %v", found, err)
			}
			return
		}
		var again strings.Builder
		lines, seen := strings.Count(string(text), "\n")+strings.Count(string(text), "\r")+1, map[string]bool{}
		for _, v := range found {
			if !variableName(v.Name) || seen[v.Name] || v.Line < 1 || v.Line > lines {
				t.Fatalf("%+v of %q", v, text)
			}
			seen[v.Name] = true
			again.WriteString(v.Name + `="` + quotes.Replace(v.Value) + "\"\n")
		}
		same, err := ParseEnvironment([]byte(again.String()))
		if err != nil || len(same) != len(found) {
			t.Fatalf("%q: %v, %v", again.String(), same, err)
		}
		for i := range same {
			if same[i].Name != found[i].Name || same[i].Value != found[i].Value {
				t.Errorf("%+v is %+v again", found[i], same[i])
			}
		}
	}))
}
