package term

import (
	"slices"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// typed decodes what was typed, of which nothing more comes.
func typed(b string) []Key {
	var keys []Key
	for rest := []byte(b); len(rest) > 0; {
		k, n := decode(rest, true)
		if n == 0 {
			return append(keys, "(stuck)")
		}
		keys, rest = append(keys, k), rest[n:]
	}
	return keys
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		name, typed string
		want        []Key
	}{
		{"letters", "qD/", []Key{"q", "D", "/"}},
		{"a_character_of_several_bytes", "é字", []Key{"é", "字"}},
		{"not_utf8", "\xff", []Key{""}},
		{"a_control_of_8_bits", "\u009b", []Key{""}},
		{"controls", "\r\n\x7f\x08\t\x03\x1a\x0c", []Key{Enter, Enter, Backspace, Backspace, Tab, Interrupt, Suspend,
			Refresh}},
		{"a_control_without_a_name", "\x01a", []Key{"", "a"}},
		{"arrows", "\x1b[A\x1b[B\x1b[C\x1b[D", []Key{Up, Down, RightKey, LeftKey}},
		{"arrows_in_application_mode", "\x1bOA\x1bOB", []Key{Up, Down}},
		{"pages_and_ends", "\x1b[5~\x1b[6~\x1b[H\x1b[F\x1b[1~\x1b[4~\x1b[7~\x1b[8~\x1bOH\x1bOF",
			[]Key{PageUp, PageDown, Home, End, Home, End, Home, End, Home, End}},
		{"with_shift_it_has_no_name", "\x1b[1;2Aq", []Key{"", "q"}},
		{"escape_alone", "\x1b", []Key{Escape}},
		{"escape_twice", "\x1b\x1b", []Key{Escape, Escape}},
		{"escape_before_an_arrow", "\x1b\x1b[A", []Key{Escape, Up}},
		{"with_alt", "\x1bqx", []Key{"", "x"}},
		{"a_sequence_that_does_not_end", "\x1b[11", []Key{""}},
		{"an_answer_of_the_terminal", "\x1b[?62;1cq", []Key{"", "q"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := typed(c.typed); !slices.Equal(got, c.want) {
				t.Errorf("%q: %q, want %q", c.typed, got, c.want)
			}
		})
	}
}

// TestKeysInParts: a slow line brings a key in several reads, and none of its bytes is taken for
// another key before the rest is there.
func TestKeysInParts(t *testing.T) {
	for _, whole := range []string{"\x1b[A", "\x1bOA", "\x1b[5~", "字"} {
		for end := 1; end < len(whole); end++ {
			if k, n := decode([]byte(whole[:end]), false); n != 0 {
				t.Errorf("%q of %q: %q, %d bytes; want to wait for the rest", whole[:end], whole, k, n)
			}
		}
	}
}

// FuzzKeys: whatever is typed ends, is taken bytewise to its end, and is no control character.
func FuzzKeys(f *testing.F) {
	for _, s := range []string{"q", "\x1b[A", "\x1b", "\x1b[1;2", "字\xff", "\x1b[" + "1;1;1;1;1;1;1;1;1;1;1"} {
		f.Add(s)
	}
	f.Fuzz(mutate.Many(func(t *testing.T, s string) {
		for _, k := range typed(s) {
			if k == "(stuck)" {
				t.Fatalf("%q is not taken", s)
			}
			if len(k) > 0 && (k[0] < 0x20 || k[0] == 0x7f) {
				t.Errorf("%q gives the key %q", s, k)
			}
		}
	}))
}
