package engine

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/engine/exposition"
)

// Figures are what an engine publishes of its work. A nil field is not published.
type Figures struct {
	// Counted since the engine's process began.
	TokensIn, TokensOut *uint64
	FirstToken, Decode  *Latency
	DecodeMS            *float64 // in which tokens were generated, of all requests

	// Of this moment.
	InProgress     *int     // requests that it works on
	TokensInFlight *int     // tokens of these requests that it keeps
	KVCacheUsage   *float64 // share of its KV cache that these requests use, 0 to 1
}

// Latency is a histogram of one phase of requests.
type Latency struct {
	Buckets []uint64 // requests that were known to take at most each of the bounds
	Count   uint64
	SumMS   float64
}

// FirstTokenBounds are the bounds of Figures.FirstToken, the time until the first token, in
// milliseconds. The metrics contract has them.
func FirstTokenBounds() []float64 {
	return []float64{50, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000}
}

// DecodeBounds are those of Figures.Decode, the time from the first token to the last.
func DecodeBounds() []float64 {
	return []float64{250, 500, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 12000}
}

// FiguresOf returns the path at which a version of an engine publishes figures, and the function
// that reads its answer; "" if it has none. Asking there does not wake an engine that sleeps.
func FiguresOf(a Adapter, version string) (path string, read func(body []byte) (Figures, error)) {
	if x, ok := a.(prefixed); ok {
		path, read = FiguresOf(x.Adapter, version)
		return x.path(path), read
	}
	p, ok := a.(publishing)
	if !ok {
		return "", nil
	}
	table := slices.DeleteFunc(p.published(), func(m published) bool { return !m.in(version) })
	return p.figuresPath(), func(body []byte) (Figures, error) { return readFigures(table, body) }
}

// holding is an adapter whose engine reports the tokens of its requests at another path.
type holding interface {
	heldPath() string
	held(body []byte) (int, error)
}

// HeldOf returns the path that reports the tokens of the requests in progress where the figures do
// not, and the function that reads its answer; "" for none. An engine may be asked there only while
// it works: the question would wake it.
func HeldOf(a Adapter) (path string, read func(body []byte) (int, error)) {
	if x, ok := a.(prefixed); ok {
		path, read = HeldOf(x.Adapter)
		return x.path(path), read
	}
	if h, ok := a.(holding); ok {
		return h.heldPath(), h.held
	}
	return "", nil
}

// gathered is what a page says in one metric of the table.
type gathered struct {
	seen      int
	sum       bounds.Sum
	histogram map[float64]float64 // cumulative counts by upper bound, in seconds
	count     float64             // of the histogram
}

// readFigures reads a page of metrics by a table.
func readFigures(table []published, body []byte) (Figures, error) {
	rows := make([]gathered, len(table))
	part := func(name []byte) (at int, suffix string) { return rowOf(table, name) }
	err := exposition.Read(body, func(name []byte) bool { at, _ := part(name); return at >= 0 },
		func(s exposition.Sample) error {
			at, suffix := part([]byte(s.Name))
			return rows[at].take(table[at].as, suffix, s)
		})
	if errors.Is(err, exposition.ErrMalformed) {
		return Figures{}, bounds.Refuse(bounds.OfFigures, "%s", err)
	}
	if err != nil {
		return Figures{}, err
	}
	var of [figuresLength]*gathered
	for i := range rows {
		if of[table[i].as] == nil && rows[i].seen > 0 {
			of[table[i].as] = &rows[i]
		}
	}
	return figuresOf(of)
}

// rowOf returns the row of the table that a name belongs to, -1 for none, and what follows the name
// of a histogram.
func rowOf(table []published, name []byte) (at int, suffix string) {
	for i, m := range table {
		switch {
		case string(name) == m.name && !m.as.isHistogram():
			return i, ""
		case m.as.isHistogram() && len(name) > len(m.name) && string(name[:len(m.name)]) == m.name:
			switch suffix := string(name[len(m.name):]); suffix {
			case "_bucket", "_sum", "_count":
				return i, suffix
			}
		}
	}
	return -1, ""
}

// most is the largest value of a figure.
func (f figure) most() float64 {
	switch f {
	case inProgress:
		return bounds.Requests
	case kvUsage:
		return 1
	}
	return bounds.Tokens
}

// take adds a sample to the row of a figure.
func (g *gathered) take(as figure, suffix string, s exposition.Sample) error {
	g.seen++
	if as == kvUsage { // a mean, so that only each one is bounded
		one := bounds.Sum{Subject: bounds.OfFigures, Most: as.most()}
		if err := one.Add(s.Name, s.Value); err != nil {
			return err
		}
		g.count += s.Value
		return nil
	}
	g.sum.Subject, g.sum.Most = bounds.OfFigures, as.most()
	switch {
	case as == kvBlocks:
		size, err := strconv.ParseUint(s.Label("block_size"), 10, 32)
		blocks, err2 := strconv.ParseUint(s.Label("num_gpu_blocks"), 10, 32)
		if err != nil || err2 != nil { // "None" until it is known
			g.seen--
			return nil
		}
		return g.sum.Add(s.Name, float64(size)*float64(blocks))
	case suffix == "_bucket":
		return g.bucket(s)
	case suffix == "_count":
		one := bounds.Sum{Subject: bounds.OfFigures, Most: bounds.Tokens}
		if err := one.Add(s.Name, s.Value); err != nil {
			return err
		}
		g.count += s.Value
		return nil
	}
	return g.sum.Add(s.Name, s.Value)
}

// bucket adds a sample to its bucket.
func (g *gathered) bucket(s exposition.Sample) error {
	const maxBuckets = 256
	le, err := strconv.ParseFloat(s.Label("le"), 64)
	if err != nil || math.IsNaN(le) {
		return bounds.Refuse(bounds.OfFigures, "a bucket of %s up to %s", s.Name, bounds.Quote(s.Label("le")))
	}
	if g.histogram == nil {
		g.histogram = make(map[float64]float64)
	}
	sum := bounds.Sum{Subject: bounds.OfFigures, Most: bounds.Tokens}
	if err := cmp.Or(sum.Add(s.Name, s.Value), sum.Add(s.Name, g.histogram[le])); err != nil {
		return err
	}
	if g.histogram[le] += s.Value; len(g.histogram) > maxBuckets {
		return bounds.Refuse(bounds.OfFigures, "%s has more than %d buckets", s.Name, maxBuckets)
	}
	return nil
}

// figuresOf makes figures of what was gathered for each.
func figuresOf(of [figuresLength]*gathered) (f Figures, err error) {
	counted := func(as figure) *uint64 {
		if of[as] == nil {
			return nil
		}
		n := uint64(of[as].sum.Int())
		return &n
	}
	number := func(as figure) *int {
		if of[as] == nil {
			return nil
		}
		n := of[as].sum.Int()
		return &n
	}
	f.TokensIn, f.TokensOut = counted(tokensIn), counted(tokensOut)
	if of[decodeTime] != nil {
		ms := 1000 * of[decodeTime].sum.Value()
		f.DecodeMS = &ms
	}
	f.InProgress, f.TokensInFlight = number(inProgress), number(tokensHeld)
	if g := of[kvUsage]; g != nil {
		mean := g.count / float64(g.seen)
		f.KVCacheUsage = &mean
		if b := of[kvBlocks]; b != nil {
			n := int(math.Round(mean * float64(b.sum.Int())))
			f.TokensInFlight = &n
		}
	}
	if f.FirstToken, err = of[firstToken].latency(FirstTokenBounds()); err != nil {
		return Figures{}, err
	}
	if f.Decode, err = of[decode].latency(DecodeBounds()); err != nil {
		return Figures{}, err
	}
	if f == (Figures{}) {
		return Figures{}, fmt.Errorf("read metrics: %w", errNotReported)
	}
	return f, nil
}

// latency maps the engine's histogram to the bounds of the contract. A request counts as at
// most as slow as a bound where the engine's nearest bound that is not above it says so: it may be
// shown slower than it was, by less than one bucket of the engine's, and never faster.
func (g *gathered) latency(to []float64) (*Latency, error) {
	if g == nil {
		return nil, nil
	}
	t := &Latency{Buckets: make([]uint64, len(to)), Count: uint64(g.count), SumMS: 1000 * g.sum.Value()}
	before := 0.0
	for _, le := range slices.Sorted(maps.Keys(g.histogram)) {
		n := g.histogram[le]
		if n < before || n > g.count {
			return nil, bounds.Refuse(bounds.OfFigures, "a bucket of a latency has %v, want %v to %v", n,
				before, g.count)
		}
		before = n
		for i, bound := range to {
			if le*1000 <= bound*(1+1e-9) {
				t.Buckets[i] = uint64(n)
			}
		}
	}
	return t, nil
}
