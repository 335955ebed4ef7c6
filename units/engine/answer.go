package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// firstMatch returns the first group of the pattern's first match, at most 64 characters of it.
func firstMatch(pattern *regexp.Regexp, out []byte) string {
	m := pattern.FindSubmatch(out)
	if m == nil {
		return ""
	}
	return string(m[1][:min(len(m[1]), 64)])
}

// positiveField reads a whole number above zero from a JSON object.
func positiveField(body []byte, field string) (int, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		return 0, fmt.Errorf("read %s: %w", field, err)
	}
	raw, ok := object[field]
	if !ok {
		return 0, fmt.Errorf("read %s: the answer has no such field", field)
	}
	var n int
	if err := json.Unmarshal(raw, &n); err != nil {
		return 0, fmt.Errorf("read %s: %w", field, err)
	}
	if n < 1 {
		return 0, fmt.Errorf("read %s: it is %d, want 1 or more", field, n)
	}
	return n, nil
}

// sumGauges adds up every sample of the named gauges in Prometheus's text format
// (https://prometheus.io/docs/instrumenting/exposition_formats/). An engine that publishes none of
// them is an error: absent is not idle.
func sumGauges(body []byte, names ...string) (int, error) {
	total, seen := 0.0, false
	for line := range bytes.Lines(body) {
		name, value, ok := sample(strings.TrimSpace(string(line)))
		if !ok || !slices.Contains(names, name) {
			continue
		}
		if math.IsNaN(value) || value < 0 || value > math.MaxInt32 {
			return 0, fmt.Errorf("read metrics: %s is %v", name, value)
		}
		total, seen = total+value, true
	}
	if !seen {
		return 0, fmt.Errorf("read metrics: none of %s is published", strings.Join(names, ", "))
	}
	if total > math.MaxInt32 {
		return 0, fmt.Errorf("read metrics: %s add up to %v", strings.Join(names, ", "), total)
	}
	return int(math.Ceil(total)), nil
}

// sample splits one line of the text format into the metric's name and value.
func sample(line string) (name string, value float64, ok bool) {
	end := strings.IndexAny(line, "{ \t")
	if end <= 0 || line[0] == '#' {
		return "", 0, false
	}
	name, rest := line[:end], line[end:]
	if rest[0] == '{' {
		// A label's value may hold a brace, but nothing behind the labels does.
		closing := strings.LastIndexByte(rest, '}')
		if closing < 0 {
			return "", 0, false
		}
		rest = rest[closing+1:]
	}
	fields := strings.Fields(rest) // a value, and sometimes a timestamp
	if len(fields) == 0 {
		return "", 0, false
	}
	value, err := strconv.ParseFloat(fields[0], 64)
	return name, value, err == nil
}
