// Package bounds limits what is taken from an engine. An engine may be broken, and one that was
// taken over lies: no number, text or size that it reports is used beyond these bounds.
//
// It owns the bounds, the error by which an answer is refused, and the reading of numbers. A value
// beyond its bound is refused as a whole and never cut to the bound: what is shown is what an
// engine reported, or nothing. It must not know engines or connections.
package bounds

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Numbers that an engine reports.
const (
	// Slots is the most requests that one engine processes at the same time.
	Slots = 1 << 16
	// Requests is the most requests that one engine has accepted. The sum over all engines of a
	// host, and its product with Slots, fit into an int.
	Requests = 1 << 20
	// Context is the longest context of one request, tokens.
	Context = 1 << 28
	// Tokens is the most tokens, or steps, that one engine counts: years of work.
	Tokens = 1 << 50
	// TokensPerSecond is the most that one engine counts in a second. What exceeds it since the
	// last answer was not worked, so that a sum over years stays exact.
	TokensPerSecond = 1 << 24
	// Requests that one engine answers in a second, likewise.
	RequestsPerSecond = 1 << 16
)

// Texts that an engine reports, in bytes.
const (
	Mark    = 1024 // a mark of progress
	Version = 64
	Excerpt = 160 // of an answer in a message
)

// Sizes of an engine's answers, in bytes. Reading stops at the bound.
const (
	Answer     = 1 << 20  // a body that is parsed: slots, metrics
	Generation = 1 << 20  // the body of a generation
	HealthBody = 64 << 10 // the part of a health answer that is matched
	Header     = 16 << 10 // a header, and the framing of a body in chunks
	GRPC       = 4 << 10  // a HealthCheckResponse with its frame; a real one has seven
	VersionOut = 16 << 10 // what the binary prints of its version
)

// Subject is what an answer is about, a closed list for the label of a metric.
type Subject string

// The subjects.
const (
	OfSlots    Subject = "slots"
	OfBusy     Subject = "busy"
	OfQueue    Subject = "queue"
	OfProgress Subject = "progress"
	OfSleep    Subject = "sleep"
	OfContext  Subject = "context"
	OfFigures  Subject = "metrics"
)

// Refused is an answer that is not believed: a value beyond its bound, or a form that cannot be
// read. It is not one that lacks the value.
type Refused struct {
	Subject Subject
	Text    string // a clause: what was answered, and what is possible
}

func (e *Refused) Error() string { return "read " + string(e.Subject) + ": " + e.Text }

// Refuse returns an error for an answer. The text may quote the engine by Quote only.
func Refuse(s Subject, format string, args ...any) error {
	return &Refused{Subject: s, Text: fmt.Sprintf(format, args...)}
}

// About returns the error with another subject if it is a refusal.
func About(s Subject, err error) error {
	var r *Refused
	if errors.As(err, &r) {
		return &Refused{Subject: s, Text: r.Text}
	}
	return err
}

// Quote formats an engine's text for a message: on one line, without control characters, and cut.
func Quote(text string) string {
	const most = 48
	if len(text) > most {
		return strconv.Quote(strings.ToValidUTF8(text[:most], "")) + "…"
	}
	return strconv.Quote(text)
}

// Int returns a number between least and most that is written as decimal digits, as JSON has it.
func Int(s Subject, text string, least, most int) (int, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < int64(least) || n > int64(most) {
		return 0, Refuse(s, "it is %s, want %d to %d", Quote(text), least, most)
	}
	return int(n), nil
}

// Sum adds values of Prometheus's text format, each and together between 0 and most.
type Sum struct {
	Subject Subject
	Most    float64
	total   float64
}

// Add adds one value, which is named in the error.
func (s *Sum) Add(name string, value float64) error {
	// The comparison is false for NaN.
	if !(value >= 0 && value <= s.Most) {
		return Refuse(s.Subject, "%s is %v, want 0 to %v", Quote(name), value, s.Most)
	}
	if s.total += value; s.total > s.Most {
		return Refuse(s.Subject, "%s and others add up to %v, want at most %v", Quote(name), s.total, s.Most)
	}
	return nil
}

// Value returns the sum.
func (s *Sum) Value() float64 { return s.total }

// Int returns the sum as a whole number, rounded up.
func (s *Sum) Int() int { return int(math.Ceil(s.total)) }

// Text returns the sum in decimal digits.
func (s *Sum) Text() string { return strconv.FormatFloat(s.total, 'g', -1, 64) }
