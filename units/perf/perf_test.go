package perf_test

import (
	"math"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/units/perf"
)

var began = time.Unix(1000, 0)

// stream is one that was sent, began and ended so many milliseconds after the first was.
func stream(sent, first, end, prompt, output int) perf.Stream {
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	return perf.Stream{Sent: at(sent), First: at(first), End: at(end), Prompt: prompt, Output: output}
}

func TestOf(t *testing.T) {
	for _, c := range []struct {
		name    string
		streams []perf.Stream
		want    perf.Figures
		err     string
	}{
		{"one_stream", []perf.Stream{stream(0, 200, 2200, 100, 41)},
			perf.Figures{Streams: 1, FirstTokenMS: 200, TokensPerS: 20, TotalTokensPerS: 41 / 2.2, PromptTokensPerS: 500}, ""},
		{"of_several_the_median_stream_and_all_of_their_tokens",
			[]perf.Stream{stream(0, 100, 1100, 50, 11), stream(10, 210, 1210, 50, 21), stream(0, 500, 1500, 50, 31)},
			perf.Figures{Streams: 3, FirstTokenMS: 200, TokensPerS: 20, TotalTokensPerS: 63 / 1.5, PromptTokensPerS: 250}, ""},
		{"outputs_that_were_read_together_count_over_the_whole_time",
			[]perf.Stream{{Sent: began, First: began.Add(1999 * time.Millisecond), End: began.Add(2 * time.Second),
				Prompt: 100, Output: 64, Late: 40}},
			perf.Figures{Streams: 1, FirstTokenMS: 1999, TokensPerS: 63 / 2.0, TotalTokensPerS: 32,
				PromptTokensPerS: 100 / 1.999, Late: true}, ""},
		{"a_few_of_them_do_not", []perf.Stream{{Sent: began, First: began.Add(200 * time.Millisecond),
			End: began.Add(2200 * time.Millisecond), Prompt: 100, Output: 41, Late: 10}},
			perf.Figures{Streams: 1, FirstTokenMS: 200, TokensPerS: 20, TotalTokensPerS: 41 / 2.2,
				PromptTokensPerS: 500}, ""},
		{"no_stream", nil, perf.Figures{}, "nothing was streamed"},
		{"one_token", []perf.Stream{stream(0, 1, 2, 1, 1)}, perf.Figures{}, "the engine generated fewer than two tokens"},
		{"all_at_once", []perf.Stream{stream(0, 9, 9, 1, 9)}, perf.Figures{},
			"the engine sent its output at once instead of streaming it"},
		{"output_before_the_request", []perf.Stream{stream(5, 1, 9, 1, 9)}, perf.Figures{},
			"the times of a stream are not in order"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := perf.Of(c.streams)
			if text := errorText(err); text != c.err || !near(got, c.want) {
				t.Errorf("%+v, %q; want %+v, %q", got, text, c.want, c.err)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func near(a, b perf.Figures) bool {
	is := func(x, y float64) bool { return math.Abs(x-y) < 1e-6 }
	return a.Streams == b.Streams && a.Late == b.Late && is(a.FirstTokenMS, b.FirstTokenMS) &&
		is(a.TokensPerS, b.TokensPerS) && is(a.TotalTokensPerS, b.TotalTokensPerS) &&
		is(a.PromptTokensPerS, b.PromptTokensPerS)
}

func run(rate float64) perf.Figures {
	return perf.Figures{Streams: 1, FirstTokenMS: 1000 / rate, TokensPerS: rate, TotalTokensPerS: rate,
		PromptTokensPerS: rate}
}

func TestMedianAndSpread(t *testing.T) {
	runs := []perf.Figures{run(100), run(20), run(80)}
	if got := perf.Median(runs); got != run(80) {
		t.Errorf("median %+v", got)
	}
	if got := perf.Spread(runs); got != 1 {
		t.Errorf("spread %v of 20, 80 and 100", got)
	}
	if got := perf.Spread([]perf.Figures{run(100), run(100), run(90)}); math.Abs(got-0.1) > 1e-9 {
		t.Errorf("spread %v of 90, 100 and 100", got)
	}
}

func result(rate float64, disturbed string) perf.Result {
	return perf.Result{At: began, One: run(rate), Disturbed: disturbed}
}

func TestSlower(t *testing.T) {
	with := func(r perf.Result, streams int, total float64) perf.Result {
		all := run(total / float64(streams))
		all.Streams, all.TotalTokensPerS = streams, total
		r.All = &all
		return r
	}
	for _, c := range []struct {
		name        string
		before, now perf.Result
		want        bool
	}{
		{"by_less_than_a_third", result(100, ""), result(71, ""), false},
		{"by_more", result(100, ""), result(69, ""), true},
		{"faster", result(100, ""), result(300, ""), false},
		{"a_disturbed_measurement", result(100, ""), result(10, "the host was busy"), false},
		{"a_disturbed_baseline", result(100, "the host was busy"), result(10, ""), false},
		{"only_all_streams_together", with(result(100, ""), 4, 300), with(result(100, ""), 4, 150), true},
		{"another_number_of_streams", with(result(100, ""), 4, 300), with(result(100, ""), 2, 150), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := perf.Slower(c.before, c.now); got != c.want {
				t.Errorf("%v for a drop of %v", got, perf.Drop(c.before, c.now))
			}
		})
	}
	if got := perf.Better(result(50, "busy"), result(10, "")); got.One.TokensPerS != 10 {
		t.Error("a disturbed measurement is preferred")
	}
	wild, calm := result(71300, "busy"), result(90, "busy")
	wild.Spread, calm.Spread = 0.9, 0.4
	if perf.Better(wild, calm).One != calm.One || perf.Better(calm, wild).One != calm.One {
		t.Error("of two disturbed measurements the one whose runs differ more is preferred")
	}
}

// TestAverageHalfLife: after one half-life of other observations, what was known before counts
// half, however they are divided, and after none it counts wholly.
func TestAverageHalfLife(t *testing.T) {
	for _, parts := range []int{1, 2, 60} {
		var h perf.Hints
		h.Begin(result(100, ""))
		for range parts {
			seconds := perf.HalfLifeDecode / float64(parts)
			h.Observe(perf.Observed{Tokens: uint64(200*seconds) + 1, Ended: 1, DecodeMS: seconds * 1000})
		}
		if got := h.TokensPerS.Value(); math.Abs(got-150) > 1e-6 {
			t.Errorf("in %d parts: %v tokens/s, want 150, half way from 100 to 200", parts, got)
		}
	}
	var h perf.Hints
	h.Observe(perf.Observed{Requests: 2, FirstTokenMS: 100})
	h.Observe(perf.Observed{Requests: perf.HalfLifeRequests, FirstTokenMS: perf.HalfLifeRequests * 150})
	if got := h.FirstToken.Value(); got != 100 {
		t.Errorf("%v ms until the first token, want 100, half way from 50 to 150", got)
	}
	before := h
	h.Observe(perf.Observed{Tokens: 5, Ended: 9, DecodeMS: 10})
	h.Observe(perf.Observed{DecodeMS: 10})
	if h != before {
		t.Errorf("%+v after observations of nothing, %+v before", h, before)
	}
}

func TestIdentity(t *testing.T) {
	i := perf.Identity{Engine: "llamacpp", Version: "1", Model: "file:/a", Contents: "sha256:aa", Settings: "x"}
	other := i
	other.Model = "file:/b"
	if i.Key() != other.Key() || i.Key() == "" {
		t.Error("the name of the same files counts")
	}
	other.Mask = []string{}
	if i.Key() != other.Key() || len(i.Changed(other)) > 0 {
		t.Error("no devices and an empty list of devices differ")
	}
	for name, change := range map[string]func(*perf.Identity){
		"the engine": func(i *perf.Identity) { i.Engine = "vllm" }, "the engine's version": func(i *perf.Identity) { i.Version = "2" },
		"the model": func(i *perf.Identity) { i.Contents = "sha256:bb" }, "its settings": func(i *perf.Identity) { i.Settings = "y" },
		"its devices": func(i *perf.Identity) { i.Mask = []string{"GPU-1"} },
	} {
		other := i
		change(&other)
		if changed := i.Changed(other); i.Key() == other.Key() || len(changed) != 1 || changed[0] != name {
			t.Errorf("%s: %v", name, changed)
		}
	}
}

func TestRound(t *testing.T) {
	for v, want := range map[float64]float64{0: 0, 12345: 12300, 3.14159: 3.14, 0.012345: 0.0123, math.Inf(1): 0} {
		if got := perf.Round(v); math.Abs(got-want) > 1e-12 {
			t.Errorf("%v is rounded to %v", v, got)
		}
	}
}
