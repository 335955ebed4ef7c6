// Package perf defines the performance figures of an engine: how they follow from the times and
// counts of streamed answers, when a measurement was disturbed, what it is a measurement of, and
// how the figures follow the engine's own counters while it works. docs/performance.md has the
// same definitions for administrators.
//
// It owns the arithmetic and is pure. It must not know HTTP, engines, files or when something is
// measured.
package perf

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"
)

// Stream is one streamed answer.
type Stream struct {
	Sent   time.Time // the request was sent
	First  time.Time // its first output arrived
	End    time.Time // its last output arrived
	Prompt int       // tokens of the prompt
	Output int       // tokens of the output
	// Late is how many outputs were read together with the one before: their reader was too slow,
	// as on a busy host, and First and End are closer to each other than what they stand for.
	Late int
}

// late reports whether the times of most outputs say nothing of when they were sent.
func (s Stream) late() bool { return 2*s.Late > s.Output }

// Figures are what so many streams at once showed.
type Figures struct {
	Streams          int     `json:"streams"`
	FirstTokenMS     float64 `json:"first_token_ms"`      // First − Sent, the median of the streams
	TokensPerS       float64 `json:"tokens_per_s"`        // (Output − 1)/(End − First), the median of the streams
	TotalTokensPerS  float64 `json:"total_tokens_per_s"`  // of all Output, from the first Sent to the last End
	PromptTokensPerS float64 `json:"prompt_tokens_per_s"` // Prompt/(First − Sent), the median of the streams
	// Late reports that most outputs of a stream were read late. Its tokens per second are then
	// those of its whole time: too low, where those of its outputs could be any number.
	Late bool `json:"late,omitempty"`
}

// Result is one measurement: the median of Repeats, at one stream and at as many as there are
// slots.
type Result struct {
	At        time.Time `json:"at"`
	One       Figures   `json:"one"`
	All       *Figures  `json:"all,omitempty"` // nil: the engine works on one request at a time
	Spread    float64   `json:"spread"`        // the larger of the two, see Spread
	Disturbed string    `json:"disturbed,omitempty"`
}

// Repeats is of how many runs a measurement is the median.
const Repeats = 3

// SpreadBound is the spread above which a measurement counts as disturbed.
const SpreadBound = 0.25

// DropBound is the drop against an earlier measurement that is reported.
const DropBound = 0.30

var (
	errNoStream = errors.New("nothing was streamed")
	errTooShort = errors.New("the engine generated fewer than two tokens")
	errAtOnce   = errors.New("the engine sent its output at once instead of streaming it")
	errOrder    = errors.New("the times of a stream are not in order")
)

// Of returns the figures of streams that ran at the same time.
func Of(streams []Stream) (Figures, error) {
	if len(streams) == 0 {
		return Figures{}, errNoStream
	}
	var first, rate, prompt []float64
	began, ended, tokens, late := streams[0].Sent, streams[0].End, 0, false
	for _, s := range streams {
		wait, decode := s.First.Sub(s.Sent).Seconds(), s.End.Sub(s.First).Seconds()
		switch {
		case s.Output < 2:
			return Figures{}, errTooShort
		case wait < 0 || decode < 0:
			return Figures{}, errOrder
		case wait == 0 || decode == 0:
			return Figures{}, errAtOnce
		case s.late():
			decode, late = s.End.Sub(s.Sent).Seconds(), true
		}
		first, rate = append(first, wait*1000), append(rate, float64(s.Output-1)/decode)
		prompt = append(prompt, float64(s.Prompt)/wait)
		tokens += s.Output
		if s.Sent.Before(began) {
			began = s.Sent
		}
		if s.End.After(ended) {
			ended = s.End
		}
	}
	return Figures{Streams: len(streams), FirstTokenMS: median(first), TokensPerS: median(rate),
		TotalTokensPerS:  float64(tokens) / ended.Sub(began).Seconds(),
		PromptTokensPerS: median(prompt), Late: late}, nil
}

// Median returns the median of each figure of several runs.
func Median(runs []Figures) Figures {
	of := func(figure func(Figures) float64) float64 {
		values := make([]float64, len(runs))
		for i, r := range runs {
			values[i] = figure(r)
		}
		return median(values)
	}
	return Figures{Streams: runs[0].Streams,
		FirstTokenMS:     of(func(f Figures) float64 { return f.FirstTokenMS }),
		TokensPerS:       of(func(f Figures) float64 { return f.TokensPerS }),
		TotalTokensPerS:  of(func(f Figures) float64 { return f.TotalTokensPerS }),
		PromptTokensPerS: of(func(f Figures) float64 { return f.PromptTokensPerS }),
		Late:             slices.ContainsFunc(runs, func(f Figures) bool { return f.Late })}
}

// Spread returns how far runs lie apart in their tokens per second of all streams together:
// (highest − lowest)/median.
func Spread(runs []Figures) float64 {
	by := func(a, b Figures) int { return cmp.Compare(a.TotalTokensPerS, b.TotalTokensPerS) }
	return (slices.MaxFunc(runs, by).TotalTokensPerS - slices.MinFunc(runs, by).TotalTokensPerS) /
		Median(runs).TotalTokensPerS
}

// median returns the mean of the two in the middle of an even number of values.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// Valid reports whether a result could have been measured: what is read from a file may be
// anything.
func (r Result) Valid() bool {
	return !r.At.IsZero() && r.One.Streams == 1 && r.One.valid() && r.Spread >= 0 && !math.IsInf(r.Spread, 0) &&
		(r.All == nil || r.All.Streams > 1 && r.All.valid())
}

func (f Figures) valid() bool {
	for _, v := range []float64{f.FirstTokenMS, f.TokensPerS, f.TotalTokensPerS} {
		if !(v > 0) || math.IsInf(v, 0) {
			return false
		}
	}
	return f.PromptTokensPerS >= 0 && !math.IsInf(f.PromptTokensPerS, 0)
}

// Better returns the one of two measurements of the same engine that was disturbed less: of two
// that were, the one whose runs differ less.
func Better(a, b Result) Result {
	if (a.Disturbed == "") != (b.Disturbed == "") {
		if a.Disturbed == "" {
			return a
		}
		return b
	}
	if a.Spread < b.Spread {
		return a
	}
	return b
}

// Drop returns by which share of before the tokens per second are lower now: of one stream or, if
// both were measured with as many, of all together, whichever fell more. It is negative if both
// rose.
func Drop(before, now Result) float64 {
	drop := 1 - now.One.TokensPerS/before.One.TokensPerS
	if before.All != nil && now.All != nil && before.All.Streams == now.All.Streams {
		drop = max(drop, 1-now.All.TotalTokensPerS/before.All.TotalTokensPerS)
	}
	return drop
}

// Slower reports whether a measurement is so much below an earlier one that it is reported. Two
// that were disturbed are not compared.
func Slower(before, now Result) bool {
	return before.Disturbed == "" && now.Disturbed == "" && Drop(before, now) > DropBound
}

// Round returns v with three significant digits: further ones differ with each look.
func Round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	scale := math.Pow(10, 2-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}
