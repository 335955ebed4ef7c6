package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

var sgr = regexp.MustCompile("\x1b\\[[0-9;]*m")

// TestColours: on a terminal states are coloured, and nothing else changes: what engines wrote has
// no colour, and without the colours it is what a file gets.
func TestColours(t *testing.T) {
	h := newHost(t)
	h.fillGPUs()
	h.reg.Put(registry.Aggregate(registry.Pool{ID: "evil", Wanted: true, Engine: "\x1b[31mready",
		ModelID:  "file:/ready",
		Replicas: []registry.Replica{{ID: "r0", State: registry.StateFailed, Reason: "State: ready"}}}))
	for _, c := range []struct {
		line string
		want []string
	}{
		{"list", []string{"gemma      \x1b[32mready\x1b[0m    yes", "\x1b[1;31mfailed\x1b[0m", "\x1b[1;31minvalid\x1b[0m"}},
		{"list -o wide", []string{"\x1b[32mready\x1b[0m    yes"}},
		{"status llama3-8b", []string{"State:       \x1b[32mready\x1b[0m, 1 of 2", "\x1b[1;33mbackoff\x1b[0m"}},
		{"status evil", []string{"State:      \x1b[1;31mfailed\x1b[0m\n"}},
		{"devices", []string{"\x1b[32mhealthy\x1b[0m", "\x1b[1;33mdegraded\x1b[0m", "\x1b[1;31mlost\x1b[0m"}},
		{"explain gemma", []string{"gemma r0: \x1b[32mready\x1b[0m\n", "  \x1b[32mok\x1b[0m   pool file"}},
		{"explain evil", []string{"evil r0: \x1b[1;31mfailed\x1b[0m\n", "  \x1b[1;31mNO\x1b[0m   "}},
		{"list -o json", nil},
		{"list -o name", nil},
	} {
		t.Run(strings.ReplaceAll(c.line, " ", "_"), func(t *testing.T) {
			var out, errOut syncBuffer
			a := &app{out: &out, err: &errOut, now: func() time.Time { return clock }, colour: true}
			code := run(t.Context(), a, append(strings.Fields(c.line), "--socket", h.socket))
			got, plain := out.String(), h.run(strings.Fields(c.line)...).out
			if code != exitOK || sgr.ReplaceAllString(got, "") != plain {
				t.Errorf("%d %q, want but for colours\n%q", code, got, plain)
			}
			for _, part := range c.want {
				if !strings.Contains(got, part) {
					t.Errorf("no %q in\n%q", part, got)
				}
			}
			if c.want == nil && got != plain {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestEveryStateHasAColour, but for those that an operator asked for.
func TestEveryStateHasAColour(t *testing.T) {
	asked := map[registry.State]bool{registry.StateDraining: true, registry.StateStopping: true,
		registry.StateStopped: true}
	for _, s := range registry.States() {
		if (colourOf(string(s)) == "") != asked[s] {
			t.Errorf("%s: %q", s, colourOf(string(s)))
		}
	}
	for _, h := range registry.Healths() {
		if colourOf(string(h)) == "" {
			t.Errorf("%s", h)
		}
	}
}

// TestColoursAreWanted: what the environment says of the terminal and the user decides.
func TestColoursAreWanted(t *testing.T) {
	for _, c := range []struct {
		kind, none string
		want       bool
	}{
		{"xterm-256color", "", true}, {"linux", "", true}, {"xterm", "1", false}, {"vt220", "", false},
		{"xterm-mono", "", false}, {"dumb", "", false}, {"", "", false},
	} {
		got := colours(func(name string) string { return map[string]string{"TERM": c.kind, "NO_COLOR": c.none}[name] })
		if got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
