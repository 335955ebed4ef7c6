package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/units/perf"
)

// What is asked for. A context that is known and small makes it less.
const (
	outputTokens = 64
	promptWords  = 128
	mostStreams  = 64
)

// size is how much is asked for in a context of so many tokens; 0: not known.
func size(ctx int) (words, tokens int) {
	if ctx <= 0 {
		return promptWords, outputTokens
	}
	// A word has less than six tokens of any vocabulary.
	return min(promptWords, max(ctx/12, 1)), min(outputTokens, max(ctx/4, 2))
}

// vocabulary is what prompts are made of.
var vocabulary = strings.Fields("time year way day man thing woman life child world school state family student " +
	"group country hand part place case week company system program question work number night point home water " +
	"room mother area money story fact month lot right study book eye job word business issue side kind head house " +
	"service friend father power hour game line end member law car city name team minute idea body back parent face")

// prompt returns words that no request before began with, so that no cache of prompts has them.
func prompt(words int) string {
	text := []string{strconv.FormatUint(uint64(rand.Uint32()), 36)}
	for range words - 1 {
		text = append(text, vocabulary[rand.IntN(len(vocabulary))])
	}
	return strings.Join(text, " ")
}

// measure makes the requests of one measurement: a warm-up, whose figures are dropped, and the
// repeats, at one stream and at as many as there are slots.
func (b *Bench) measure(ctx context.Context, m *measurement) (perf.Result, error) {
	result := perf.Result{At: time.Now(), Disturbed: m.noisy}
	m.progress(b, 0)
	one, spread, err := b.repeat(ctx, m, 1)
	if err != nil {
		return perf.Result{}, err
	}
	result.One, result.Spread = one, spread
	if m.streams > 1 {
		all, spread, err := b.repeat(ctx, m, m.streams)
		if err != nil {
			return perf.Result{}, err
		}
		result.All, result.Spread = &all, max(result.Spread, spread)
	}
	switch {
	case result.Disturbed != "":
	case one.Late || result.All != nil && result.All.Late:
		result.Disturbed = "the engine's outputs could not be read as they came"
	case result.Spread > perf.SpreadBound:
		result.Disturbed = fmt.Sprintf("the runs differ by %.0f %%", 100*result.Spread)
	}
	return result, nil
}

// steps is how often a measurement makes requests.
func (m *measurement) steps() int {
	if m.streams > 1 {
		return 2 * (1 + perf.Repeats)
	}
	return 1 + perf.Repeats
}

// repeat measures at so many streams.
func (b *Bench) repeat(ctx context.Context, m *measurement, streams int) (perf.Figures, float64, error) {
	var runs []perf.Figures
	for n := range 1 + perf.Repeats {
		figures, err := b.once(ctx, m.target, streams)
		if err != nil {
			return perf.Figures{}, 0, err
		}
		if n > 0 {
			runs = append(runs, figures)
		}
		m.progress(b, 1)
	}
	return perf.Median(runs), perf.Spread(runs), nil
}

// once makes so many requests at once.
func (b *Bench) once(ctx context.Context, t Target, streams int) (perf.Figures, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	words, tokens := size(t.Ctx)
	results := make([]perf.Stream, streams)
	var all sync.WaitGroup
	for i := range results {
		body := t.Ask.Body(prompt(words), tokens)
		all.Go(func() {
			s, err := b.stream(ctx, t, body)
			if err != nil {
				cancel(err) // of the others; the first error is the cause
			}
			results[i] = s
		})
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return perf.Figures{}, err
	}
	return perf.Of(results)
}
