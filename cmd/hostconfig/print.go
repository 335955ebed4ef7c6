package hostconfig

import (
	"encoding/json"
	"fmt"
	"io"
)

// Print writes the result of a check for people: each problem on a line that editors can jump to,
// the hint below it, and how many there are.
func Print(w io.Writer, problems []Problem) error {
	for _, p := range problems {
		if _, err := fmt.Fprintln(w, p.Error()); err != nil {
			return err
		}
		if p.Hint == "" {
			continue
		}
		if _, err := fmt.Fprintln(w, "    "+p.Hint); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, summary(problems))
	return err
}

func summary(problems []Problem) string {
	files := make(map[string]bool)
	for _, p := range problems {
		files[p.File] = true
	}
	switch {
	case len(problems) == 0:
		return "The configuration is good."
	case len(problems) == 1:
		return "1 problem."
	case len(files) == 1:
		return fmt.Sprintf("%d problems in one file.", len(problems))
	}
	return fmt.Sprintf("%d problems in %d files.", len(problems), len(files))
}

// PrintJSON writes the result of a check for programs: {"ok":false,"problems":[…]}.
func PrintJSON(w io.Writer, problems []Problem) error {
	if problems == nil {
		problems = []Problem{}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		OK       bool      `json:"ok"`
		Problems []Problem `json:"problems"`
	}{len(problems) == 0, problems})
}
