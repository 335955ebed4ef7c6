package engine

import (
	"math"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
)

// Counted is what an engine counted between two readings. A nil field is not published.
type Counted struct {
	TokensIn, TokensOut *uint64
	FirstToken, Decode  *Latency
	DecodeMS            *float64
}

// Since returns what was counted since an earlier reading of the same unit, elapsed ago; nil: since
// the engine's process began, at most that long ago. A counter that is lower than before is one of
// a new process, which began at 0. More than an engine can work in that time is refused.
func (f Figures) Since(before *Figures, elapsed time.Duration) (Counted, error) {
	if before == nil {
		before = &Figures{}
	}
	most := uint64(math.Ceil(max(elapsed, time.Second).Seconds()))
	c := Counted{TokensIn: rise(before.TokensIn, f.TokensIn), TokensOut: rise(before.TokensOut, f.TokensOut)}
	for _, n := range []*uint64{c.TokensIn, c.TokensOut} {
		if n != nil && *n > most*bounds.TokensPerSecond {
			return Counted{}, bounds.Refuse(bounds.OfFigures, "%d tokens in %s, want at most %d a second", *n,
				elapsed.Round(time.Second), bounds.TokensPerSecond)
		}
	}
	c.FirstToken, c.Decode = f.FirstToken.since(before.FirstToken), f.Decode.since(before.Decode)
	if c.DecodeMS = riseMS(before.DecodeMS, f.DecodeMS); c.DecodeMS != nil &&
		*c.DecodeMS > 1000*float64(most)*bounds.RequestsPerSecond {
		return Counted{}, bounds.Refuse(bounds.OfFigures, "%v ms of generation in %s", *c.DecodeMS,
			elapsed.Round(time.Second))
	}
	for _, l := range []*Latency{c.FirstToken, c.Decode} {
		if l != nil && (l.Count > most*bounds.RequestsPerSecond ||
			l.SumMS > float64(l.Count)*float64(longestMean.Milliseconds())) {
			return Counted{}, bounds.Refuse(bounds.OfFigures, "%d requests in %s that took %v ms", l.Count,
				elapsed.Round(time.Second), l.SumMS)
		}
	}
	return c, nil
}

// longestMean is the longest mean of a latency that is believed.
const longestMean = 7 * 24 * time.Hour

// rise is by how much a counter has grown.
func rise(before, now *uint64) *uint64 {
	if now == nil {
		return nil
	}
	n := *now
	if before != nil && *before <= n {
		n -= *before
	}
	return &n
}

// riseMS is rise of a time.
func riseMS(before, now *float64) *float64 {
	if now == nil {
		return nil
	}
	ms := *now
	if before != nil && *before <= ms {
		ms -= *before
	}
	return &ms
}

// since returns the requests that came after an earlier reading; all of them where a count fell.
func (l *Latency) since(before *Latency) *Latency {
	if l == nil {
		return nil
	}
	d := &Latency{Buckets: slices.Clone(l.Buckets), Count: l.Count, SumMS: l.SumMS}
	if before == nil || before.Count > l.Count || before.SumMS > l.SumMS {
		return d
	}
	for i := range l.Buckets {
		if before.Buckets[i] > l.Buckets[i] {
			return d
		}
	}
	d.Count, d.SumMS = l.Count-before.Count, l.SumMS-before.SumMS
	for i := range d.Buckets {
		d.Buckets[i] -= before.Buckets[i]
	}
	return d
}
