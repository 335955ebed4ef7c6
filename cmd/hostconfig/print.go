package hostconfig

import (
	"encoding/json"
	"fmt"
	"io"
)

// Print writes the result of a check for people: each problem on a line that editors can jump to,
// the hint below it, and how many there are.
func Print(w io.Writer, r Report) error {
	for _, p := range r.Problems {
		if err := printOne(w, p); err != nil {
			return err
		}
	}
	for _, p := range r.Warnings {
		p.Message = "warning: " + p.Message
		if err := printOne(w, p); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, summary(r))
	return err
}

func printOne(w io.Writer, p Problem) error {
	if _, err := fmt.Fprintln(w, p.Error()); err != nil || p.Hint == "" {
		return err
	}
	_, err := fmt.Fprintln(w, "    "+p.Hint)
	return err
}

// summary counts the problems, and the warnings where there are any.
func summary(r Report) string {
	files := make(map[string]bool)
	for _, p := range r.Problems {
		files[p.File] = true
	}
	text := "The configuration is good"
	switch n := len(r.Problems); {
	case n == 1:
		text = "1 problem"
	case n > 1 && len(files) == 1:
		text = fmt.Sprintf("%d problems in one file", n)
	case n > 1:
		text = fmt.Sprintf("%d problems in %d files", n, len(files))
	}
	switch n := len(r.Warnings); n {
	case 0:
		return text + "."
	case 1:
		return text + ", with one warning."
	default:
		return fmt.Sprintf("%s, with %d warnings.", text, n)
	}
}

// PrintJSON writes the result of a check for programs:
// {"ok":false,"problems":[…],"warnings":[…]}.
func PrintJSON(w io.Writer, r Report) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		OK       bool      `json:"ok"`
		Problems []Problem `json:"problems"`
		Warnings []Problem `json:"warnings"`
	}{len(r.Problems) == 0, append([]Problem{}, r.Problems...), append([]Problem{}, r.Warnings...)})
}
