package engine

import (
	"encoding/json"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
)

// figure is what one metric of an engine says.
type figure int

const (
	tokensIn      figure = iota // a counter
	tokensOut                   // a counter
	firstToken                  // a histogram, in seconds
	decode                      // a histogram, in seconds
	inProgress                  // a gauge
	tokensHeld                  // a gauge
	kvUsage                     // a gauge, 0 to 1; the mean where an engine has several caches
	decodeTime                  // a counter, in seconds
	kvBlocks                    // labels block_size and num_gpu_blocks: tokens that the cache has room for
	figuresLength               // how many there are
)

func (f figure) isHistogram() bool { return f == firstToken || f == decode }

// published is a metric in which an engine publishes a figure. The first of a table that a page has
// is the one that counts.
type published struct {
	as   figure
	name string
	// since and before are the versions that have it, in words of the engine's own numbers; zero:
	// not known to be bounded. A version that cannot be read has each.
	since, before release
}

// in reports whether a version has the metric.
func (m published) in(version string) bool {
	return (m.since == release{} || !m.since.before(version)) && (m.before == release{} || !m.before.reached(version))
}

// publishing is an adapter whose engine publishes figures.
type publishing interface {
	figuresPath() string
	published() []published
}

// The tables. llama-server counts a request when it has ended (0.7.0), and has no histogram. It had
// kv_cache_usage_ratio until the summer of 2025.
func (llamaCpp) figuresPath() string { return "/metrics" }
func (llamaCpp) published() []published {
	return []published{
		{as: tokensIn, name: "llamacpp:prompt_tokens_total"},
		{as: tokensOut, name: "llamacpp:tokens_predicted_total"},
		{as: decodeTime, name: "llamacpp:tokens_predicted_seconds_total"},
		{as: inProgress, name: "llamacpp:requests_processing"},
		{as: kvUsage, name: "llamacpp:kv_cache_usage_ratio"},
	}
}

// vLLM: gpu_cache_usage_perc got its new name in 0.9.2, which has both.
func (vllm) figuresPath() string { return "/metrics" }
func (vllm) published() []published {
	return []published{
		{as: tokensIn, name: "vllm:prompt_tokens_total"},
		{as: tokensOut, name: "vllm:generation_tokens_total"},
		{as: firstToken, name: "vllm:time_to_first_token_seconds"},
		{as: decode, name: "vllm:request_decode_time_seconds"},
		{as: inProgress, name: "vllm:num_requests_running"},
		{as: kvUsage, name: "vllm:kv_cache_usage_perc", since: release{0, 9}},
		{as: kvUsage, name: "vllm:gpu_cache_usage_perc"},
		{as: kvBlocks, name: "vllm:cache_config_info"},
	}
}

// SGLang sets its gauges every 40 steps.
func (sglang) figuresPath() string { return "/metrics" }
func (sglang) published() []published {
	return []published{
		{as: tokensIn, name: "sglang:prompt_tokens_total"},
		{as: tokensOut, name: "sglang:generation_tokens_total"},
		{as: firstToken, name: "sglang:time_to_first_token_seconds"},
		{as: inProgress, name: "sglang:num_running_reqs"},
		{as: tokensHeld, name: "sglang:num_used_tokens"},
		{as: kvUsage, name: "sglang:token_usage"},
	}
}

// TensorRT-LLM publishes where return_perf_metrics of --config turns it on; /metrics beside it has
// statistics that each reader takes from the others.
func (trtllm) figuresPath() string { return "/prometheus/metrics" }
func (trtllm) published() []published {
	return []published{
		{as: tokensIn, name: "trtllm_prompt_tokens_total", since: release{1, 0}},
		{as: tokensOut, name: "trtllm_generation_tokens_total", since: release{1, 0}},
		{as: firstToken, name: "trtllm_time_to_first_token_seconds", since: release{1, 0}},
		{as: decode, name: "trtllm_request_decode_time_seconds", since: release{1, 0}},
		{as: inProgress, name: "trtllm_num_requests_running", since: release{1, 0}},
		{as: kvUsage, name: "trtllm_kv_cache_utilization", since: release{1, 0}},
	}
}

// TGI counts tokens as the sums of two histograms. That of queue and inference is not of the first
// token.
func (tgi) figuresPath() string { return "/metrics" }
func (tgi) published() []published {
	return []published{
		{as: tokensIn, name: "tgi_request_input_length_sum"},
		{as: tokensOut, name: "tgi_request_generated_tokens_sum"},
		{as: inProgress, name: "tgi_batch_current_size"},
	}
}

// heldPath is asked while requests are in progress only: it wakes an engine that sleeps.
func (llamaCpp) heldPath() string { return "/slots" }

// held adds up what the slots that work have of prompts and answers. Versions before the counts of
// the prompt report what is decoded only.
func (llamaCpp) held(body []byte) (int, error) {
	var slots []struct {
		Processing bool            `json:"is_processing"`
		Prompt     int             `json:"n_prompt_tokens_processed"`
		Cached     int             `json:"n_prompt_tokens_cache"`
		Next       json.RawMessage `json:"next_token"`
	}
	if err := json.Unmarshal(body, &slots); err != nil {
		return 0, bounds.Refuse(bounds.OfFigures, "no list of slots: %s", bounds.Quote(err.Error()))
	}
	if len(slots) > bounds.Slots {
		return 0, bounds.Refuse(bounds.OfFigures, "a list of %d slots, want at most %d", len(slots), bounds.Slots)
	}
	sum := bounds.Sum{Subject: bounds.OfFigures, Most: bounds.Tokens}
	for _, s := range slots {
		if !s.Processing {
			continue
		}
		decoded, _, err := decodedOf(s.Next)
		if err != nil {
			return 0, bounds.About(bounds.OfFigures, err)
		}
		for _, n := range []int{s.Prompt, s.Cached, decoded} {
			if err := sum.Add("tokens of a slot", float64(n)); err != nil {
				return 0, err
			}
		}
	}
	return sum.Int(), nil
}
