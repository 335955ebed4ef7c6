package perf

import "math"

// Half-lives of the averages, in what is observed and not in time: an idle engine forgets nothing.
const (
	HalfLifeDecode   = 60.0 // seconds in which requests generated
	HalfLifeRequests = 30.0 // requests
)

// Average is an exponentially weighted moving average. The zero value knows nothing.
type Average struct {
	value float64
	known bool
}

// Value returns the average, 0 if nothing is known.
func (a Average) Value() float64 { return a.value }

// Set begins with a value that was measured.
func (a *Average) Set(v float64) { a.value, a.known = v, v > 0 }

// Add takes the mean of so much that was observed. What was known before counts half as much once a
// half-life more was observed.
func (a *Average) Add(mean, observed, halfLife float64) {
	if !(mean > 0) || !(observed > 0) || math.IsInf(mean, 0) || math.IsInf(observed, 0) {
		return
	}
	if !a.known {
		a.value, a.known = mean, true
		return
	}
	a.value += (1 - math.Exp2(-observed/halfLife)) * (mean - a.value)
}

// Observed is what an engine counted since it was last asked.
type Observed struct {
	Requests     uint64  // that got their first token
	FirstTokenMS float64 // their sum
	Tokens       uint64  // that were generated
	Ended        uint64  // requests that ended
	DecodeMS     float64 // the sum of their times from the first token to the last
}

// Hints are the figures of an engine as it works: those of its measurement, followed by what it
// counts itself. The zero value knows nothing.
type Hints struct{ FirstToken, TokensPerS Average }

// Begin starts from a measurement.
func (h *Hints) Begin(r Result) {
	h.FirstToken.Set(r.One.FirstTokenMS)
	h.TokensPerS.Set(r.One.TokensPerS)
}

// Observe takes what the engine counted.
func (h *Hints) Observe(o Observed) {
	if o.Requests > 0 {
		h.FirstToken.Add(o.FirstTokenMS/float64(o.Requests), float64(o.Requests), HalfLifeRequests)
	}
	// The first token of each request is not part of its decoding.
	if seconds := o.DecodeMS / 1000; seconds > 0 && o.Tokens > o.Ended {
		h.TokensPerS.Add(float64(o.Tokens-o.Ended)/seconds, seconds, HalfLifeDecode)
	}
}
