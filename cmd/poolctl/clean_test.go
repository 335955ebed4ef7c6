package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestClean(t *testing.T) {
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
			if got := clean(c.in); got != c.want {
				t.Errorf("clean(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

// FuzzCleanJSON: what is printed means the same and moves nothing.
func FuzzCleanJSON(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b[2J", "\u009b", "\u202e", "a\xffb", "\u2028", "\\u001b", "\ufffd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		in, err := json.Marshal(map[string]string{"v": s})
		if err != nil {
			t.Fatal(err)
		}
		out := cleanJSON(in)
		if strings.ContainsFunc(string(out), unsafeRune) {
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
	})
}

func TestNearest(t *testing.T) {
	names := []string{"gemma", "llama3-8b", "llama3-70b", "phi"}
	cases := []struct{ typed, want string }{
		{"gema", "gemma"}, {"gmema", "gemma"}, {"llama3", "llama3-8b"}, {"llama3-8", "llama3-8b"}, {"llama3-71b", "llama3-70b"},
		{"ph", "phi"}, {"zebra", ""}, {"x", ""}, {"gemma-2b", "gemma"},
	}
	for _, c := range cases {
		t.Run(c.typed, func(t *testing.T) {
			if got := nearest(c.typed, names); got != c.want {
				t.Errorf("nearest = %q, want %q", got, c.want)
			}
		})
	}
}

func TestSpan(t *testing.T) {
	cases := []struct {
		d    time.Duration
		want string
	}{
		{0, "0 s"}, {250 * time.Millisecond, "250 ms"}, {59 * time.Second, "59 s"}, {61 * time.Second, "1 min"},
		{3*time.Hour + 5*time.Minute, "3 h 5 min"}, {49 * time.Hour, "2 d 1 h"},
	}
	for _, c := range cases {
		if got := span(c.d); got != c.want {
			t.Errorf("span(%s) = %q, want %q", c.d, got, c.want)
		}
	}
}
