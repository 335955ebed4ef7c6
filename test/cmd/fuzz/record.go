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
aim is 10,000,000 for each parser of bytes from outside. Guided inputs are those of ` + "`go test -fuzz`" + `, which looks at the coverage after each of them, and therefore tries some ten thousand a second; the others, of
` + "`MANY=N`" + `, are changes of what was found so, tried without looking (` + "`test/mutate`" + `).

| target | guided by coverage | changes of those |
| --- | --- | --- |
`

var recorded = regexp.MustCompile(`(?m)^\| (\S+) \| (\d+) \| (\d+) \|$`)

// totals are what a target has tried in all runs.
type totals struct {
	guided, mutated int
}

// record adds the inputs that a target has tried to the totals of a page. all are the targets of
// the tree: each has a row, and one that is gone has none.
func record(page string, all []target, tried target) error {
	text, err := os.ReadFile(page)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	of := make(map[string]totals)
	for _, m := range recorded.FindAllStringSubmatch(string(text), -1) {
		guided, err := strconv.Atoi(m[2])
		if err != nil {
			return fmt.Errorf("%s: the inputs of %s: %w", page, m[1], err)
		}
		mutated, err := strconv.Atoi(m[3])
		if err != nil {
			return fmt.Errorf("%s: the inputs of %s: %w", page, m[1], err)
		}
		of[m[1]] = totals{guided, mutated}
	}
	was := of[tried.String()]
	of[tried.String()] = totals{was.guided + tried.inputs, was.mutated + tried.mutated}
	var out strings.Builder
	out.WriteString(recordHead)
	for _, t := range all {
		fmt.Fprintf(&out, "| %s | %d | %d |\n", t, of[t.String()].guided, of[t.String()].mutated)
	}
	return os.WriteFile(page, []byte(out.String()), 0o644)
}
