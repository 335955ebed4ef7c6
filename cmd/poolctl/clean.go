package main

import (
	"io"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/safe"
)

// Everything that is printed and not poolctl's own passes through one of these.

// clean makes text safe to print on one line of a terminal.
func clean(s string) string { return safe.Line(s) }

// cleanJSON escapes what is not safe.
func cleanJSON(b []byte) []byte { return safe.JSON(b) }

// cleaner writes text of several lines and makes it safe. Each Write must hold whole characters.
type cleaner struct{ to io.Writer }

func (c cleaner) Write(p []byte) (int, error) {
	if _, err := io.WriteString(c.to, safe.Text(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
