package safe

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

func TestLine(t *testing.T) {
	cases := []struct{ name, in, want string }{
		{"plain", "exit 1: größer als 6 GiB 🙂", "exit 1: größer als 6 GiB 🙂"},
		{"colour", "\x1b[31mred\x1b[0m", "?[31mred?[0m"},
		{"title", "\x1b]0;x\a", "?]0;x?"},
		{"c1", "a\u009b31mb", "a?31mb"},
		{"lines", "a\nb\r\nc\td", "a b  c d"},
		{"direction", "a\u202eb\u2066c", "a?b?c"},
		{"not_utf8", "a\xff\xfeb", "a??b"},
		{"delete", "a\x7f", "a?"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := Line(c.in); got != c.want {
				t.Errorf("Line(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

// FuzzJSON: what is printed means the same and moves nothing.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b[2J", "\u009b", "\u202e", "a\xffb", "\u2028", "\\u001b", "\ufffd"} {
		f.Add(s)
	}
	f.Fuzz(mutate.Many(func(t *testing.T, s string) {
		in, err := json.Marshal(map[string]string{"v": s})
		if err != nil {
			t.Fatal(err)
		}
		out := JSON(in)
		if strings.ContainsFunc(string(out), Unsafe) {
			t.Errorf("%q", out)
		}
		var before, after map[string]string
		if err := json.Unmarshal(in, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%q became %q", before, after)
		}
	}))
}
