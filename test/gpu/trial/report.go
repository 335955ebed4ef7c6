package trial

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Table is the result of one step.
type Table struct {
	Title  string     `json:"title"`
	Header []string   `json:"header,omitempty"`
	Rows   [][]string `json:"rows,omitempty"`
	Notes  []string   `json:"notes,omitempty"`
	// Faults are results that differ from what the product needs or reports.
	Faults  []string `json:"faults,omitempty"`
	NotRun  string   `json:"not_run,omitempty"` // why the step, or the rest of it, did not run
	Seconds float64  `json:"seconds"`
}

// row adds a row; every value is printed in its default format.
func (t *Table) row(cells ...any) {
	text := make([]string, len(cells))
	for i, c := range cells {
		text[i] = fmt.Sprint(c)
	}
	t.Rows = append(t.Rows, text)
}

// note adds a sentence below the table.
func (t *Table) note(format string, args ...any) {
	t.Notes = append(t.Notes, fmt.Sprintf(format, args...))
}

// fault records a result that differs from what was expected.
func (t *Table) fault(format string, args ...any) {
	t.Faults = append(t.Faults, fmt.Sprintf(format, args...))
}

// Report is a whole trial.
type Report struct {
	Taken  time.Time `json:"taken"`
	Host   []string  `json:"host"` // card, driver, kernel and the like, one fact each
	Tables []Table   `json:"tables"`
}

// Faults returns those of all tables.
func (r *Report) Faults() []string {
	var all []string
	for _, t := range r.Tables {
		for _, f := range t.Faults {
			all = append(all, t.Title+": "+f)
		}
	}
	return all
}

// Markdown returns the report as a section of a page.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Tried on %s: %s.\n", r.Taken.UTC().Format(time.DateOnly), strings.Join(r.Host, ", "))
	for _, t := range r.Tables {
		fmt.Fprintf(&b, "\n### %s\n\n", t.Title)
		t.markdown(&b)
		fmt.Fprintf(&b, "\n%.1f s.\n", t.Seconds)
	}
	return b.String()
}

func (t *Table) markdown(b *strings.Builder) {
	line := func(cells []string) {
		for _, c := range cells {
			fmt.Fprintf(b, "| %s ", strings.NewReplacer("|", `\|`, "\n", " ").Replace(c))
		}
		b.WriteString("|\n")
	}
	if len(t.Rows) > 0 {
		line(t.Header)
		b.WriteString(strings.Repeat("| --- ", len(t.Header)) + "|\n")
		for _, r := range t.Rows {
			line(r)
		}
		b.WriteString("\n")
	}
	for _, n := range t.Notes {
		fmt.Fprintf(b, "- %s\n", n)
	}
	for _, f := range t.Faults {
		fmt.Fprintf(b, "- **Fault:** %s\n", f)
	}
	if t.NotRun != "" {
		fmt.Fprintf(b, "- Not run: %s\n", t.NotRun)
	}
}

// Write writes the report to dir as name.md and name.json.
func (r *Report) Write(dir, name string) error {
	encoded, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name+".json"), encoded, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".md"), []byte(r.Markdown()), 0o644)
}

// Read reads the tables that a trial in the container has written.
func Read(file string) (Report, error) {
	var r Report
	text, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// Step is one step of a trial.
type Step struct {
	Title string
	Limit time.Duration
	Run   func(ctx context.Context, t *Table) error
}

// run runs a step within its limit. What it had found when it failed stays in the table.
func (s Step) run(ctx context.Context) Table {
	t := Table{Title: s.Title}
	ctx, cancel := context.WithTimeout(ctx, s.Limit)
	defer cancel()
	began := time.Now()
	if err := s.Run(ctx, &t); err != nil {
		t.NotRun = err.Error()
	}
	t.Seconds = time.Since(began).Seconds()
	return t
}

// RunAll runs the steps one after the other and calls done after each. One that fails or exceeds
// its limit does not keep the next from running.
func RunAll(ctx context.Context, steps []Step, done func(Table)) {
	for _, s := range steps {
		if ctx.Err() != nil {
			done(Table{Title: s.Title, NotRun: "no time was left"})
			continue
		}
		done(s.run(ctx))
	}
}
