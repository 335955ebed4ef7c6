package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// table prints aligned columns. Every cell is made fit for a terminal; an empty one is a dash.
type table struct {
	rows [][]string
	part map[int]bool // rows that are parts of the row above
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// below adds a row for a part of the one above: its second cell is indented, and what it does not have is blank.
func (t *table) below(cells ...string) {
	if t.part == nil {
		t.part = make(map[int]bool)
	}
	t.part[len(t.rows)] = true
	t.row(cells...)
}

func (t *table) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for n, r := range t.rows {
		for i, cell := range r {
			cell = strings.TrimSpace(clean(cell))
			switch {
			case cell == "" && !t.part[n]:
				cell = "-"
			case i == 1 && t.part[n]:
				cell = "  " + cell
			}
			r[i] = cell
		}
		if _, err := io.WriteString(tw, strings.Join(r, "\t")+"\n"); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// text returns what an optional field holds, or "".
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// slots shows how many are free of how many, nothing where that is not known.
func slots(free, total int) string {
	if total == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", free, total)
}

// code is what an error begins with.
func code(lastError *string) string {
	c, _, _ := strings.Cut(text(lastError), ":")
	return c
}

// base is the last part of a model reference.
func base(model *string) string {
	m := text(model)
	return m[strings.LastIndexAny(m, "/:")+1:]
}

// ago says how long ago a moment was, in two units at most; "" where it is not known.
func ago(now time.Time, ms *int64) string {
	if ms == nil {
		return ""
	}
	return span(max(0, now.Sub(time.UnixMilli(*ms))))
}

// span renders a duration as people say it: 4 s, 12 min, 3 h 5 min, 2 d 4 h.
func span(d time.Duration) string {
	switch {
	case d < time.Second && d > 0:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}
