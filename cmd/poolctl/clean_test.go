package main

import (
	"testing"
	"time"
)

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
