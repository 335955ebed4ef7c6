package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// What each engine is sent for one token, what its answer must hold, and where it tells that it works on other requests.

// CountsIdle is false for all but Triton: only its server waits for idle connections when it is told to end.
func (llamaCpp) CountsIdle() bool { return false }
func (vllm) CountsIdle() bool     { return false }
func (tgi) CountsIdle() bool      { return false }
func (triton) CountsIdle() bool   { return true }
func (command) CountsIdle() bool  { return false }

func (llamaCpp) GeneratePath() string { return "/completion" }

// GenerateBody leaves the prompt out of the slot's cache as far as the server lets it.
func (llamaCpp) GenerateBody(pool.Pool) []byte {
	return []byte(`{"prompt":"a","n_predict":1,"temperature":0,"cache_prompt":false,"stream":false}`)
}

func (llamaCpp) Generated(body []byte) error { return hasField(body, "content") }

// ProgressPath is not /metrics: its counters of tokens grow when a request has ended, those of /slots with each token.
func (llamaCpp) ProgressPath() string { return "/slots" }

// Progress is how many tokens each slot has decoded, and of its prompt processed, as far as the version tells. next_token is an object
// or, in versions of 2025 and later, a list with one. Both numbers fall back to 0 when a request ends, so that the mark tells of requests
// that are under way and not of those that have ended, and a slot that was never used has neither (seen on 0.7.0).
func (llamaCpp) Progress(body []byte) (string, error) {
	var slots []struct {
		Prompt int             `json:"n_prompt_tokens_processed"`
		Next   json.RawMessage `json:"next_token"`
	}
	if err := json.Unmarshal(body, &slots); err != nil {
		return "", fmt.Errorf("read slots: %w", err)
	}
	var mark strings.Builder
	told := false
	for _, s := range slots {
		var next struct {
			Decoded int `json:"n_decoded"`
		}
		text := strings.Trim(strings.TrimSpace(string(s.Next)), "[]")
		if text != "" && text != "null" {
			if err := json.Unmarshal([]byte(text), &next); err != nil {
				return "", fmt.Errorf("read next_token of a slot: %w", err)
			}
			told = true
		}
		told = told || s.Prompt > 0
		mark.WriteString(strconv.Itoa(s.Prompt) + "+" + strconv.Itoa(next.Decoded) + " ")
	}
	if !told {
		return "", errNotTold
	}
	return mark.String(), nil
}

func (vllm) GeneratePath() string { return "/v1/completions" }

// GenerateBody names the model as Command does.
func (vllm) GenerateBody(p pool.Pool) []byte {
	body, _ := json.Marshal(map[string]any{"model": servedName(p), "prompt": "a", "max_tokens": 1, "temperature": 0})
	return body // of strings and numbers: no error
}

func (vllm) Generated(body []byte) error { return hasChoice(body) }

func (vllm) ProgressPath() string { return "/metrics" }

func (vllm) Progress(body []byte) (string, error) {
	return counted(body, "vllm:generation_tokens_total", "vllm:prompt_tokens_total")
}

// servedName is the name by which a request to vLLM names the model: the operator's first, else the pool's id.
func servedName(p pool.Pool) string {
	for i, arg := range p.Args {
		name, value, joined := strings.Cut(arg, "=")
		switch {
		case strings.ReplaceAll(name, "_", "-") != "--served-model-name":
		case joined:
			return value
		case i+1 < len(p.Args):
			return p.Args[i+1]
		}
	}
	return p.ID
}

// GeneratePath is TGI's own request: /v1/completions came later.
func (tgi) GeneratePath() string { return "/generate" }

func (tgi) GenerateBody(pool.Pool) []byte {
	return []byte(`{"inputs":"a","parameters":{"max_new_tokens":1}}`)
}

func (tgi) Generated(body []byte) error { return hasField(body, "generated_text") }

func (tgi) ProgressPath() string { return "/metrics" }

// Progress counts steps of the model (https://huggingface.co/docs/text-generation-inference/reference/metrics).
func (tgi) Progress(body []byte) (string, error) {
	return counted(body, "tgi_batch_inference_success", "tgi_batch_inference_count")
}

// Triton has no request that fits any model: its inputs are those of the model.
func (triton) GeneratePath() string            { return "" }
func (triton) GenerateBody(pool.Pool) []byte   { return nil }
func (triton) Generated(body []byte) error     { return hasAnything(body) }
func (triton) ProgressPath() string            { return "" }
func (triton) Progress([]byte) (string, error) { return "", errNotTold }

func (command) GeneratePath() string            { return "" }
func (command) GenerateBody(pool.Pool) []byte   { return nil }
func (command) Generated(body []byte) error     { return hasAnything(body) }
func (command) ProgressPath() string            { return "" }
func (command) Progress([]byte) (string, error) { return "", errNotTold }

// Generation is what a replica of the pool is sent for one token, and what reads the answer. The pool's own words go before the
// adapter's. path is empty where there is none.
func Generation(a Adapter, p pool.Pool) (path string, body []byte, read func([]byte) error) {
	if p.Health.GeneratePath != "" && p.Health.GenerateBody != "" {
		return p.Health.GeneratePath, []byte(p.Health.GenerateBody), hasAnything
	}
	return a.GeneratePath(), a.GenerateBody(p), a.Generated
}

func hasAnything(body []byte) error {
	if len(body) == 0 {
		return errors.New("the answer to a generation is empty")
	}
	return nil
}

// hasField asks for a field of an object; a token may be an empty text.
func hasField(body []byte, field string) error {
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil || object[field] == nil {
		return fmt.Errorf("the answer to a generation has no %s", field)
	}
	return nil
}

// hasChoice asks for a choice in the form of OpenAI's completions.
func hasChoice(body []byte) error {
	var object struct {
		Choices []json.RawMessage `json:"choices"`
	}
	if json.Unmarshal(body, &object) != nil || len(object.Choices) == 0 {
		return errors.New("the answer to a generation has no choices")
	}
	return nil
}

// counted sums counters in Prometheus's text format, under either of the names that a client library gives them.
func counted(body []byte, names ...string) (string, error) {
	total, seen := 0.0, false
	for line := range strings.Lines(string(body)) {
		name, value, ok := sample(strings.TrimSpace(line))
		for _, want := range names {
			if ok && name == want {
				total, seen = total+value, true
			}
		}
	}
	if !seen {
		return "", fmt.Errorf("read metrics: none of %s is published", strings.Join(names, ", "))
	}
	return strconv.FormatFloat(total, 'g', -1, 64), nil
}
