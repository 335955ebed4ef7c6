package cmdline

import (
	"flag"
	"strings"
	"testing"
)

// TestParse: help and the version end a program well, other arguments than its own with status 2.
func TestParse(t *testing.T) {
	for _, c := range []struct {
		args           string
		status         int
		ends           bool
		stdout, stderr string
	}{
		{"", 0, false, "", ""},
		{"--socket /x", 0, false, "", ""},
		{"--version", 0, true, "pool-x 1.2.3\n", ""},
		{"--help", 0, true, "", "listen at this path"},
		{"--sockets /x", 2, true, "", "flag provided but not defined: -sockets"},
		{"--socket", 2, true, "", "needs an argument"},
		{"--version more", 2, true, "", "pool-x: unexpected argument \"more\"\n"},
	} {
		t.Run(c.args, func(t *testing.T) {
			var stdout, stderr strings.Builder
			f := flag.NewFlagSet("pool-x", flag.ContinueOnError)
			socket := f.String("socket", "", "listen at this `path`")
			status, ends := Parse(f, "1.2.3", strings.Fields(c.args), &stdout, &stderr)
			if status != c.status || ends != c.ends || stdout.String() != c.stdout {
				t.Errorf("status %d, ends %t, %q", status, ends, stdout.String())
			}
			if !strings.Contains(stderr.String(), c.stderr) {
				t.Errorf("stderr %q", stderr.String())
			}
			if !ends && c.args != "" && *socket != "/x" {
				t.Errorf("socket %q", *socket)
			}
		})
	}
}
