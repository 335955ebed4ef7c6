package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// recordHead is what stands above the table of a record.
const recordHead = `# Inputs that the fuzz targets have tried

Written by ` + "`make fuzz RECORD=1`" + `, which adds what each target tried in that run. Runs without it, those of before this page included, are not counted: the figures are lower bounds. The
aim is 10,000,000 for each parser of bytes from outside.

| target | inputs |
| --- | --- |
`

var recorded = regexp.MustCompile(`(?m)^\| (\S+) \| (\d+) \|$`)

// record adds the inputs that a target has tried to the totals of a page. all are the targets of
// the tree: each has a row, and one that is gone has none.
func record(page string, all []target, tried target) error {
	text, err := os.ReadFile(page)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	totals := make(map[string]int)
	for _, m := range recorded.FindAllStringSubmatch(string(text), -1) {
		if totals[m[1]], err = strconv.Atoi(m[2]); err != nil {
			return fmt.Errorf("%s: the inputs of %s: %w", page, m[1], err)
		}
	}
	totals[tried.String()] += tried.inputs
	var out strings.Builder
	out.WriteString(recordHead)
	for _, t := range all {
		fmt.Fprintf(&out, "| %s | %d |\n", t, totals[t.String()])
	}
	return os.WriteFile(page, []byte(out.String()), 0o644)
}
