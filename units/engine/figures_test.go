package engine_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
)

// shown formats figures, with - for what is not published.
func shown(f engine.Figures) string {
	var out []string
	show := func(name string, p any) {
		text := "-"
		switch v := p.(type) {
		case *uint64:
			if v != nil {
				text = fmt.Sprint(*v)
			}
		case *int:
			if v != nil {
				text = fmt.Sprint(*v)
			}
		case *float64:
			if v != nil {
				text = fmt.Sprint(*v)
			}
		case *engine.Latency:
			if v != nil {
				text = fmt.Sprintf("%v/%d/%gms", v.Buckets, v.Count, v.SumMS)
			}
		}
		out = append(out, name+"="+text)
	}
	show("in", f.TokensIn)
	show("out", f.TokensOut)
	show("busy", f.InProgress)
	show("held", f.TokensInFlight)
	show("kv", f.KVCacheUsage)
	show("first", f.FirstToken)
	if f.Decode != nil {
		show("decode", f.Decode)
	}
	return strings.Join(out, " ")
}

// latencyPage is a histogram as vLLM and TensorRT-LLM publish it.
func latencyPage(name string) string {
	var b strings.Builder
	for i, le := range strings.Fields("0.001 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1.0 2.5 5.0 +Inf") {
		fmt.Fprintf(&b, "%s_bucket{engine=\"0\",le=%q,model_name=\"m\"} %d.0\n", name, le, i)
	}
	return b.String() + name + "_count{engine=\"0\"} 11.0\n" + name + "_sum{engine=\"0\"} 7.5\n"
}

// mapped: 50 ms has the bucket of 40 ms, 150 to 200 ms that of 100 ms, and 1.5 and 2 s that of 1 s.
const mapped = "[1 4 4 4 5 6 7 8 8 8 9]/11/7500ms"

func TestFigures(t *testing.T) {
	file := func(name string) string {
		body, err := os.ReadFile(filepath.Join("testdata", "answers", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	config := "vllm:cache_config_info{block_size=\"16\",engine=\"0\",num_gpu_blocks=\"2048\"} 1.0\n"
	sglang := ""
	for i, le := range strings.Fields("0.1 0.2 0.4 0.6 0.8 1.0 2.0 4.0 +Inf") {
		sglang += fmt.Sprintf("sglang:time_to_first_token_seconds_bucket{le=%q} %d.0\n", le, i+1)
	}
	sglang += "sglang:time_to_first_token_seconds_count 9.0\nsglang:time_to_first_token_seconds_sum 4\n"
	for _, c := range []struct{ name, kind, version, body, want string }{
		{"llamacpp_as_recorded", engine.LlamaCpp, "0.7.0", file("llamacpp-0.7.0-metrics.txt"),
			"in=3 out=3 busy=0 held=- kv=- first=-"},
		{"llamacpp_with_the_ratio_of_old_builds", engine.LlamaCpp, "5000", "llamacpp:kv_cache_usage_ratio 0.5\n",
			"in=- out=- busy=- held=- kv=0.5 first=-"},
		{"vllm", engine.VLLM, "0.11.0", file("vllm-metrics.txt"),
			"in=5021 out=1204 busy=3 held=- kv=0.03125 first=-"},
		{"vllm_whole", engine.VLLM, "", file("vllm-metrics.txt") + config +
			latencyPage("vllm:time_to_first_token_seconds"),
			"in=5021 out=1204 busy=3 held=1024 kv=0.03125 first=" + mapped},
		{"vllm_decoding", engine.VLLM, "0.11.0", latencyPage("vllm:request_decode_time_seconds"),
			"in=- out=- busy=- held=- kv=- first=- decode=[5 6 8 8 8 9 9 10 10 10]/11/7500ms"},
		{"vllm_before_it_knows_its_blocks", engine.VLLM, "0.11.0",
			"vllm:kv_cache_usage_perc 0\nvllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"None\"} 1.0\n",
			"in=- out=- busy=- held=- kv=0 first=-"},
		{"vllm_of_two_engines", engine.VLLM, "0.11.0",
			"vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.25\n" +
				"vllm:prompt_tokens_total{engine=\"0\"} 1\nvllm:prompt_tokens_total{engine=\"1\"} 2\n",
			"in=3 out=- busy=- held=- kv=0.375 first=-"},
		{"vllm_under_both_names_of_the_cache", engine.VLLM, "0.9.2",
			"vllm:gpu_cache_usage_perc 0.5\nvllm:kv_cache_usage_perc 0.5\n",
			"in=- out=- busy=- held=- kv=0.5 first=-"},
		{"vllm_under_the_old_name", engine.VLLM, "0.8.5", "vllm:gpu_cache_usage_perc 0.5\n",
			"in=- out=- busy=- held=- kv=0.5 first=-"},
		{"a_name_that_the_version_cannot_have", engine.VLLM, "0.8.5", "vllm:kv_cache_usage_perc 0.5\n", "none"},
		{"sglang", engine.SGLang, "0.5.23", file("sglang-metrics.txt") +
			"sglang:token_usage 0.25\nsglang:num_used_tokens 768\n" + sglang,
			"in=640 out=1204 busy=3 held=768 kv=0.25 first=[0 1 1 2 2 3 4 6 6 7 7]/9/4000ms"},
		{"tgi", engine.TGI, "3.0.0", file("tgi-metrics.txt") + "tgi_request_input_length_sum 812\n",
			"in=812 out=2870 busy=3 held=- kv=- first=-"},
		{"trtllm", engine.TRTLLM, "1.2.0", "trtllm_prompt_tokens_total{model_name=\"m\"} 5.0\n" +
			"trtllm_generation_tokens_total{model_name=\"m\"} 6.0\ntrtllm_num_requests_running 1.0\n" +
			"trtllm_kv_cache_utilization 0.125\n" + latencyPage("trtllm_time_to_first_token_seconds"),
			"in=5 out=6 busy=1 held=- kv=0.125 first=" + mapped},
		{"nothing_that_is_known", engine.VLLM, "0.11.0", "other 1\n", "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := engine.For(c.kind)
			_, read := engine.FiguresOf(a, c.version)
			f, err := read([]byte(c.body))
			got := shown(f)
			if err != nil {
				got = "none"
			}
			var refused *bounds.Refused
			if got != c.want || errors.As(err, &refused) {
				t.Errorf("got  %s, %v\nwant %s", got, err, c.want)
			}
		})
	}
	for _, kind := range []string{engine.Triton, engine.Program} {
		a, _ := engine.For(kind)
		if path, read := engine.FiguresOf(a, ""); path != "" || read != nil {
			t.Errorf("%s: %q", kind, path)
		}
	}
}

func TestFiguresThatAreNotBelieved(t *testing.T) {
	for name, body := range map[string]string{
		"nan":                "vllm:prompt_tokens_total NaN\n",
		"infinite":           "vllm:prompt_tokens_total +Inf\n",
		"negative":           "vllm:prompt_tokens_total -1\n",
		"huge":               "vllm:prompt_tokens_total 1e300\n",
		"huge_together":      strings.Repeat("vllm:prompt_tokens_total 9e14\n", 2),
		"a_share_above_1":    "vllm:kv_cache_usage_perc 1.5\n",
		"requests":           "vllm:num_requests_running 1e9\n",
		"no_number":          "vllm:prompt_tokens_total many\n",
		"cut_off":            "vllm:prompt_tokens_total{engine=\"0\n",
		"blocks":             "vllm:kv_cache_usage_perc 1\nvllm:cache_config_info{block_size=\"4294967295\",num_gpu_blocks=\"4294967295\"} 1\n",
		"a_bucket_of_what":   "vllm:time_to_first_token_seconds_bucket{le=\"x\"} 1\n",
		"a_bucket_that_fell": "vllm:time_to_first_token_seconds_bucket{le=\"1\"} 3\nvllm:time_to_first_token_seconds_bucket{le=\"2\"} 1\nvllm:time_to_first_token_seconds_count 3\n",
		"buckets_above_all":  "vllm:time_to_first_token_seconds_bucket{le=\"1\"} 3\nvllm:time_to_first_token_seconds_count 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := engine.For(engine.VLLM)
			_, read := engine.FiguresOf(a, "")
			var refused *bounds.Refused
			f, err := read([]byte(body))
			if !errors.As(err, &refused) || refused.Subject != bounds.OfFigures || f != (engine.Figures{}) {
				t.Errorf("%s, %v", shown(f), err)
			}
			showable(t, err)
		})
	}
}

func TestTokensHeldByLlamaServer(t *testing.T) {
	a, _ := engine.For(engine.LlamaCpp)
	path, read := engine.HeldOf(a)
	if path != "/slots" {
		t.Fatalf("asked at %q", path)
	}
	for body, want := range map[string]string{
		`[]`: "0",
		`[{"is_processing":true,"n_prompt_tokens_processed":1,"n_prompt_tokens_cache":2,"next_token":[{"n_decoded":324}]},{"is_processing":false,"n_prompt_tokens_processed":9}]`: "327",
		`[{"is_processing":true,"next_token":{"n_decoded":4}}]`:   "4",
		`[{"is_processing":true,"n_prompt_tokens_processed":-1}]`: "refused",
		`[{"is_processing":true,"n_prompt_tokens_cache":9e99}]`:   "refused",
		`[{"is_processing":true,"next_token":"x"}]`:               "refused",
		`{}`: "refused",
		`[{"is_processing":true,"n_prompt_tokens_cache":9e15}]`:    "refused",
		`[{"is_processing":true,"next_token":[{"n_decoded":-4}]}]`: "refused",
	} {
		n, err := read([]byte(body))
		got := fmt.Sprint(n)
		var refused *bounds.Refused
		if errors.As(err, &refused) && refused.Subject == bounds.OfFigures {
			got = "refused"
		}
		if got != want {
			t.Errorf("%s: %s, %v; want %s", body, got, err, want)
		}
	}
}

// TestCounted: what is counted never falls, whatever an engine publishes.
func TestCounted(t *testing.T) {
	tokens := func(n uint64) *engine.Figures { return &engine.Figures{TokensIn: &n} }
	first := func(n uint64, sum float64) *engine.Figures {
		l := engine.Latency{Buckets: append(make([]uint64, 10), n), Count: n, SumMS: sum}
		return &engine.Figures{FirstToken: &l}
	}
	for _, c := range []struct {
		name        string
		before, now *engine.Figures
		elapsed     time.Duration
		want        string
	}{
		{"the_first_of_a_run", nil, tokens(7), time.Minute, "7"},
		{"more", tokens(7), tokens(9), time.Minute, "2"},
		{"the_same", tokens(7), tokens(7), time.Minute, "0"},
		{"a_new_process", tokens(7), tokens(3), time.Minute, "3"},
		{"no_longer_published", tokens(7), &engine.Figures{}, time.Minute, "-"},
		{"published_from_now_on", &engine.Figures{}, tokens(7), time.Minute, "7"},
		{"as_fast_as_can_be", tokens(0), tokens(bounds.TokensPerSecond), time.Second, "16777216"},
		{"faster", tokens(0), tokens(bounds.TokensPerSecond + 1), time.Second, "refused"},
		{"at_once", tokens(0), tokens(bounds.TokensPerSecond), 0, "16777216"},
		{"first_tokens", first(2, 10), first(5, 400), time.Minute, "3/3/390"},
		{"first_tokens_of_a_new_process", first(7, 10), first(5, 400), time.Minute, "5/5/400"},
		{"first_tokens_with_a_lower_sum", first(2, 500), first(5, 400), time.Minute, "5/5/400"},
		{"too_many_first_tokens", first(0, 0), first(bounds.RequestsPerSecond+1, 5), time.Second, "refused"},
		{"years_of_waiting", first(0, 0), first(1, 1e15), time.Minute, "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.now.Since(c.before, c.elapsed)
			text := "-"
			switch {
			case err != nil:
				text = "refused"
				showable(t, err)
			case got.TokensIn != nil:
				text = fmt.Sprint(*got.TokensIn)
			case got.FirstToken != nil:
				text = fmt.Sprintf("%d/%d/%g", got.FirstToken.Buckets[10], got.FirstToken.Count, got.FirstToken.SumMS)
			}
			if text != c.want {
				t.Errorf("%s, %v; want %s", text, err, c.want)
			}
		})
	}
}

// FuzzFigures: figures are within their bounds, or there are none.
func FuzzFigures(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "answers", "*metrics*.txt"))
	if err != nil || len(files) < 4 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(body))
	}
	f.Add(latencyPage("vllm:time_to_first_token_seconds"))
	f.Fuzz(mutate.Many(func(t *testing.T, body string) {
		for _, kind := range engine.Kinds() {
			a, _ := engine.For(kind)
			_, read := engine.FiguresOf(a, "")
			if read == nil {
				continue
			}
			f, err := read([]byte(body))
			showable(t, err)
			if (err != nil) != (f == engine.Figures{}) {
				t.Errorf("%s: %s, %v", kind, shown(f), err)
			}
			if f.KVCacheUsage != nil && !(*f.KVCacheUsage >= 0 && *f.KVCacheUsage <= 1) ||
				f.InProgress != nil && (*f.InProgress < 0 || *f.InProgress > bounds.Requests) ||
				f.TokensInFlight != nil && (*f.TokensInFlight < 0 || *f.TokensInFlight > bounds.Tokens) ||
				f.TokensIn != nil && *f.TokensIn > bounds.Tokens {
				t.Errorf("%s: %s", kind, shown(f))
			}
			for _, h := range []*engine.Latency{f.FirstToken, f.Decode} {
				if h != nil && (h.Count > bounds.Tokens || slices.Max(h.Buckets) > h.Count || !(h.SumMS >= 0) ||
					!slices.IsSorted(h.Buckets)) {
					t.Errorf("%s: %s", kind, shown(f))
				}
			}
		}
	}))
}
