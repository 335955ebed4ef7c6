package render

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// unword reads one word as systemd.syntax(7) describes it: double quotes, C escapes, doubled
// percent signs. It is written from the manual, to hold word to it; the machine tests ask PID 1
// itself.
func unword(s string) (string, error) {
	if body, quoted := strings.CutPrefix(s, `"`); quoted {
		var closed bool
		if s, closed = strings.CutSuffix(body, `"`); !closed {
			return "", fmt.Errorf("no closing quote")
		}
	} else if strings.ContainsAny(s, " \t\n'\"\\") || s == "" {
		return "", fmt.Errorf("splits")
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"' || s[i] < ' ':
			return "", fmt.Errorf("bare %q", s[i])
		case s[i] == '%':
			if i++; i >= len(s) || s[i] != '%' {
				return "", fmt.Errorf("a specifier")
			}
			b.WriteByte('%')
		case s[i] == '\\':
			if i++; i >= len(s) {
				return "", fmt.Errorf("an escape without end")
			}
			switch s[i] {
			case '\\', '"':
				b.WriteByte(s[i])
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case 'x':
				if i+2 >= len(s) {
					return "", fmt.Errorf("a short escape")
				}
				c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
				if err != nil {
					return "", err
				}
				b.WriteByte(byte(c))
				i += 2
			default:
				return "", fmt.Errorf("unknown escape %q", s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}

// FuzzWord: any text comes back from a unit file as it was.
func FuzzWord(f *testing.F) {
	for _, s := range []string{"", "plain", "a b", "100%", "%h", `"`, `\`, "a\nb\tc\x01\x7f", "$HOME", ";", "é",
		"{% if x %}", "'", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(mutate.Many(func(t *testing.T, s string) {
		if strings.ContainsRune(s, 0) {
			return
		}
		written := word(s)
		if got, err := unword(written); err != nil || got != s {
			t.Errorf("word(%q) = %s, which reads as %q, %v", s, written, got, err)
		}
		if strings.ContainsAny(written, "\n\r") {
			t.Errorf("word(%q) = %q breaks the line", s, written)
		}
	}))
}

// FuzzShellInput: a shell's line holds each argument in single quotes and nothing outside of them.
func FuzzShellInput(f *testing.F) {
	f.Add("a'b", "$x")
	f.Add("", "';'")
	f.Fuzz(mutate.Many(func(t *testing.T, a, b string) {
		lines := shellInput([]string{a, b})
		script := string(lines[1].Property.Value.([]byte))
		line, begins := strings.CutPrefix(script, "exec ")
		line, ends := strings.CutSuffix(line, " </dev/null\n")
		if !begins || !ends {
			t.Fatalf("script %q", script)
		}
		var got []string
		for rest := line; rest != ""; {
			var arg strings.Builder
			for rest != "" && rest[0] != ' ' {
				if tail, escaped := strings.CutPrefix(rest, `\'`); escaped {
					arg.WriteByte('\'')
					rest = tail
					continue
				}
				end := strings.IndexByte(rest[1:], '\'')
				if rest[0] != '\'' || end < 0 {
					t.Fatalf("%q stands outside of quotes in %q", rest, script)
				}
				arg.WriteString(rest[1 : end+1])
				rest = rest[end+2:]
			}
			got = append(got, arg.String())
			rest = strings.TrimPrefix(rest, " ")
		}
		if len(got) != 2 || got[0] != a || got[1] != b {
			t.Errorf("%q and %q became %q in %q", a, b, got, script)
		}
	}))
}

func TestSpanText(t *testing.T) {
	for usec, want := range map[uint64]string{0: "0", 1: "1us", 1500: "1500us", 2000: "2ms", 1_057_000: "1057ms", 60_000_000: "1min",
		61_000_000: "61s", 3_600_000_000: "1h", 5_400_000_000: "90min"} {
		if got := spanText(usec); got != want {
			t.Errorf("spanText(%d) = %s, want %s", usec, got, want)
		}
	}
}
