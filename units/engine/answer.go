package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Bounds of an engine's answer. An engine may be broken or malicious.
const (
	// MaxSlots is the most requests at the same time.
	MaxSlots = 1 << 16
	// MaxMark is the longest mark of progress, in bytes.
	MaxMark = 1024
	// maxVersion is the longest version, in bytes.
	maxVersion = 64
)

// errNotReported is returned for a value that an engine does not report.
var errNotReported = errors.New("the engine does not report it")

// firstMatch returns the first group of the pattern's first match, at most maxVersion bytes of it,
// and "" where it is not printable ASCII: it becomes a label and a field of the journal.
func firstMatch(pattern *regexp.Regexp, out []byte) string {
	m := pattern.FindSubmatch(out)
	if m == nil || bytes.ContainsFunc(m[1], func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return ""
	}
	return string(m[1][:min(len(m[1]), maxVersion)])
}

// short returns a mark of at most MaxMark bytes; marks that differ still do.
func short(mark string) string {
	if len(mark) <= MaxMark {
		return mark
	}
	sum := sha256.Sum256([]byte(mark))
	return hex.EncodeToString(sum[:])
}

// slotsField reads a number of slots from a JSON object.
func slotsField(body []byte, field string) (int, error) {
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
	if n < 1 || n > MaxSlots {
		return 0, fmt.Errorf("read %s: it is %d, want 1 to %d", field, n, MaxSlots)
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

// counted sums counters in Prometheus's text format, under any of the names that a client library
// gives them, into a mark of progress.
func counted(body []byte, names ...string) (string, error) {
	total, seen := 0.0, false
	for line := range bytes.Lines(body) {
		name, value, ok := sample(strings.TrimSpace(string(line)))
		if !ok || !slices.Contains(names, name) {
			continue
		}
		if math.IsNaN(value) || math.IsInf(value, 0) || value < 0 {
			return "", fmt.Errorf("read metrics: %s is %v", name, value)
		}
		total, seen = total+value, true
	}
	if !seen {
		return "", fmt.Errorf("read metrics: none of %s is published", strings.Join(names, ", "))
	}
	return strconv.FormatFloat(total, 'g', -1, 64), nil
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
