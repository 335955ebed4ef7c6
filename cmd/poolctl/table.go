package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// table prints aligned columns. Every cell is cleaned; an empty one is a dash.
type table struct {
	rows [][]string
	part map[int]bool // rows that are parts of the row above
	// colour: it is for a terminal that shows states in colour
	colour bool
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// below adds a row for a part of the row above: its second cell is indented, and empty cells are
// blank.
func (t *table) below(cells ...string) {
	if t.part == nil {
		t.part = make(map[int]bool)
	}
	t.part[len(t.rows)] = true
	t.row(cells...)
}

func (t *table) print(w io.Writer) error {
	if !t.colour {
		return t.layOut(w)
	}
	var b strings.Builder
	if err := t.layOut(&b); err != nil {
		return err
	}
	_, err := io.WriteString(w, inColour(b.String()))
	return err
}

func (t *table) layOut(w io.Writer) error {
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

// slots formats free and total slots, "" if unknown.
func slots(free, total int) string {
	if total == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", free, total)
}

// code returns the code that an error begins with.
func code(lastError *string) string {
	c, _, _ := strings.Cut(text(lastError), ":")
	return c
}

// base returns the last part of a model reference: "tiny:Q8_0" of "hf:acme/tiny:Q8_0".
func base(model *string) string {
	_, rest, _ := strings.Cut(text(model), ":")
	return rest[strings.LastIndexByte(rest, '/')+1:]
}

// ago formats the time since a moment, in at most two units; "" if unknown.
func ago(now time.Time, ms *int64) string {
	if ms == nil {
		return ""
	}
	return span(max(0, now.Sub(time.UnixMilli(*ms))))
}

// span formats a duration for people: 4 s, 12 min, 3 h 5 min, 2 d 4 h.
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
