// Package exposition reads samples of Prometheus's text format
// (https://prometheus.io/docs/instrumenting/exposition_formats/), as engines publish them.
//
// It owns the form of a line, and is strict about the lines of the metrics that are wanted: one
// that is not well formed is an error and not a sample less. Other lines are not looked at beyond
// their name. It allocates nothing for them, so that a page of 1 MiB costs no memory beside itself.
// It must not know which metrics there are. The reader of prometheus/common builds every family of
// the page before the first can be used.
package exposition

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Bounds of one page.
const (
	maxSamples = 8192 // of the wanted metrics
	maxLabels  = 64   // of one sample
)

// ErrMalformed is a line that is not in the text format, or a page beyond the bounds.
var ErrMalformed = errors.New("not Prometheus's text format")

// Sample is one line.
type Sample struct {
	Name   string
	Value  float64 // finite or not; never the result of rounding beyond the range
	labels string  // as written between the braces, well formed
}

// Read calls take with each sample whose name is wanted, in order, and returns its first error.
func Read(body []byte, wanted func(name []byte) bool, take func(Sample) error) error {
	samples := 0
	for line := range bytes.Lines(body) {
		line = bytes.TrimSpace(line)
		name := line[:nameLength(line)]
		if len(name) == 0 || !wanted(name) {
			continue
		}
		if samples++; samples > maxSamples {
			return fmt.Errorf("%w: more than %d samples", ErrMalformed, maxSamples)
		}
		s, err := parse(string(name), string(line[len(name):]))
		if err != nil {
			return err
		}
		if err := take(s); err != nil {
			return err
		}
	}
	return nil
}

// nameLength is how many bytes at the begin of a line are the name of a metric.
func nameLength(line []byte) int {
	for i, c := range line {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == ':'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(line)
}

// parse reads what follows a name: labels, a value, and sometimes a timestamp.
func parse(name, rest string) (Sample, error) {
	s := Sample{Name: name}
	rest = strings.TrimLeft(rest, " \t")
	if strings.HasPrefix(rest, "{") {
		n, ok := labelsLength(rest[1:])
		if !ok {
			return Sample{}, fmt.Errorf("%w: the labels of %s", ErrMalformed, name)
		}
		s.labels, rest = rest[1:1+n], rest[2+n:]
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 || len(fields) > 2 {
		return Sample{}, fmt.Errorf("%w: %s has %d values", ErrMalformed, name, len(fields))
	}
	v, ok := number(fields[0])
	if !ok {
		return Sample{}, fmt.Errorf("%w: the value of %s", ErrMalformed, name)
	}
	if len(fields) == 2 {
		if _, err := strconv.ParseInt(fields[1], 10, 64); err != nil {
			return Sample{}, fmt.Errorf("%w: the timestamp of %s", ErrMalformed, name)
		}
	}
	s.Value = v
	return s, nil
}

// number reads a value. Go's own forms, such as 0x1p-2 and 1_000, are not in the format.
func number(text string) (float64, bool) {
	if strings.ContainsAny(text, "xXpP_") {
		return 0, false
	}
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil || errors.Is(err, strconv.ErrRange) // infinite then
}

// labelsLength is how long the labels at the begin of a text are, which is behind the opening
// brace; ok: they are well formed and end with a brace.
func labelsLength(text string) (n int, ok bool) {
	rest := text
	for range maxLabels + 1 {
		rest = strings.TrimLeft(rest, " \t")
		if strings.HasPrefix(rest, "}") {
			return len(text) - len(rest), true
		}
		_, _, after, ok := label(rest)
		if !ok {
			return 0, false
		}
		rest = after
	}
	return 0, false
}

// label reads one label, with the comma that follows it.
func label(text string) (name, value, rest string, ok bool) {
	name, rest, ok = strings.Cut(text, "=")
	name = strings.TrimRight(name, " \t")
	if !ok || name == "" || nameLength([]byte(name)) != len(name) || strings.Contains(name, ":") {
		return "", "", "", false
	}
	if rest = strings.TrimLeft(rest, " \t"); !strings.HasPrefix(rest, `"`) {
		return "", "", "", false
	}
	end := 1
	for ; end < len(rest) && rest[end] != '"'; end++ {
		if rest[end] == '\\' {
			if end++; end == len(rest) || !strings.ContainsRune(`\"n`, rune(rest[end])) {
				return "", "", "", false
			}
		}
	}
	if end >= len(rest) {
		return "", "", "", false
	}
	value, rest = rest[1:end], strings.TrimLeft(rest[end+1:], " \t")
	if after, comma := strings.CutPrefix(rest, ","); comma {
		return name, value, after, true
	}
	return name, value, rest, strings.HasPrefix(rest, "}") || rest == ""
}

// Label returns the value of a label, "" if the sample has none of that name, as to Prometheus.
func (s Sample) Label(name string) string {
	for rest := strings.TrimLeft(s.labels, " \t"); rest != ""; rest = strings.TrimLeft(rest, " \t") {
		n, value, after, ok := label(rest)
		if !ok {
			return ""
		}
		if n == name {
			return unescape.Replace(value)
		}
		rest = after
	}
	return ""
}

var unescape = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n")
