package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
)

// errNotReported is returned for a value that an engine does not report. An answer that reports an
// impossible one is a *bounds.Refused.
var errNotReported = errors.New("the engine does not report it")

// firstMatch returns the first group of the pattern's first match, and "" where it is longer than
// its bound or not printable ASCII: it becomes a label and a field of the journal.
func firstMatch(pattern *regexp.Regexp, out []byte) string {
	m := pattern.FindSubmatch(out)
	if m == nil || len(m[1]) > bounds.Version || bytes.ContainsFunc(m[1], func(r rune) bool {
		return r <= ' ' || r >= 0x7f
	}) {
		return ""
	}
	return string(m[1])
}

// short returns a mark of at most bounds.Mark bytes; marks that differ still do.
func short(mark string) string {
	if len(mark) <= bounds.Mark {
		return mark
	}
	sum := sha256.Sum256([]byte(mark))
	return hex.EncodeToString(sum[:])
}

// slotsField reads a number of slots from a JSON object.
func slotsField(body []byte, field string) (int, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		return 0, bounds.Refuse(bounds.OfSlots, "no JSON object: %s", bounds.Quote(err.Error()))
	}
	raw, ok := object[field]
	if !ok {
		return 0, fmt.Errorf("read %s: %w", field, errNotReported)
	}
	return bounds.Int(bounds.OfSlots, string(raw), 1, bounds.Slots)
}

// sumGauges adds up every sample of the named gauges in Prometheus's text format
// (https://prometheus.io/docs/instrumenting/exposition_formats/). An engine that publishes none of
// them is an error: absent is not idle.
func sumGauges(subject bounds.Subject, body []byte, names ...string) (int, error) {
	sum, err := sumOf(bounds.Sum{Subject: subject, Most: bounds.Requests}, body, names)
	if err != nil {
		return 0, err
	}
	return sum.Int(), nil
}

// counted sums counters in Prometheus's text format, under any of the names that a client library
// gives them, into a mark of progress.
func counted(body []byte, names ...string) (string, error) {
	sum, err := sumOf(bounds.Sum{Subject: bounds.OfProgress, Most: bounds.Tokens}, body, names)
	if err != nil {
		return "", err
	}
	return sum.Text(), nil
}

// sumOf adds the samples of these names to a sum.
func sumOf(sum bounds.Sum, body []byte, names []string) (bounds.Sum, error) {
	seen := false
	for line := range bytes.Lines(body) {
		name, value, ok := sample(strings.TrimSpace(string(line)))
		if !ok || !slices.Contains(names, name) {
			continue
		}
		if err := sum.Add(name, value); err != nil {
			return sum, err
		}
		seen = true
	}
	if !seen {
		return sum, fmt.Errorf("read metrics: none of %s is published: %w", strings.Join(names, ", "), errNotReported)
	}
	return sum, nil
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
	return name, value, err == nil || errors.Is(err, strconv.ErrRange) // infinite then
}
