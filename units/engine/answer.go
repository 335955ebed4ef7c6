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
	"strings"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/engine/exposition"
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
	err := exposition.Read(body, func(name []byte) bool {
		return slices.ContainsFunc(names, func(n string) bool { return n == string(name) })
	}, func(s exposition.Sample) error {
		seen = true
		return sum.Add(s.Name, s.Value)
	})
	switch {
	case errors.Is(err, exposition.ErrMalformed):
		return sum, bounds.Refuse(sum.Subject, "%s", err)
	case err != nil:
		return sum, err
	case !seen:
		return sum, fmt.Errorf("read metrics: none of %s is published: %w", strings.Join(names, ", "), errNotReported)
	}
	return sum, nil
}
