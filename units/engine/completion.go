package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// completing is an adapter whose engine streams texts in the format of OpenAI's completions.
type completing interface {
	// completionFields are the fields by which it generates exactly as many tokens as it is asked
	// for, and reads the whole prompt.
	completionFields() map[string]any
}

func (llamaCpp) completionFields() map[string]any {
	return map[string]any{"ignore_eos": true, "cache_prompt": false}
}

func (vllm) completionFields() map[string]any   { return map[string]any{"ignore_eos": true} }
func (sglang) completionFields() map[string]any { return map[string]any{"ignore_eos": true} }
func (trtllm) completionFields() map[string]any { return map[string]any{"ignore_eos": true} }

// Completion is how an engine is asked for a streamed text.
type Completion struct {
	Path   string
	model  string
	fields map[string]any
}

// CompletionOf returns how an engine is asked for a streamed text. ok is false for one that has no
// such request, or serves no texts with this pool's arguments.
func CompletionOf(a Adapter, p pool.Pool) (c Completion, ok bool) {
	own := a
	if moved, is := a.(prefixed); is {
		own = moved.Adapter
	}
	has, ok := own.(completing)
	if !ok || !slices.Contains(a.Workloads(p), WorkCompletion) {
		return Completion{}, false
	}
	return Completion{Path: below(a, "/v1/completions"), model: servedName(p), fields: has.completionFields()}, true
}

// Body is the request for so many tokens after a prompt.
func (c Completion) Body(prompt string, tokens int) []byte {
	fields := map[string]any{
		"model": c.model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": true,
		"stream_options": map[string]any{"include_usage": true},
	}
	maps.Copy(fields, c.fields)
	body, _ := json.Marshal(fields)
	return body // of strings, numbers and booleans: no error
}

// Chunk is one event of a stream.
type Chunk struct {
	Output bool // it has some of the text
	// Of the stream so far, as the engine counts; 0: this event does not report it.
	Prompt, Tokens int
}

// ReadChunk reads the data of one event of a stream. The engine's own error in it is returned as
// one.
func ReadChunk(data []byte) (Chunk, error) {
	var event struct {
		Choices []struct {
			Text string `json:"text"`
		} `json:"choices"`
		Usage *struct {
			Prompt int `json:"prompt_tokens"`
			Output int `json:"completion_tokens"`
		} `json:"usage"`
		Timings *struct { // of llama-server
			Prompt int `json:"prompt_n"`
			Output int `json:"predicted_n"`
		} `json:"timings"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(data, &event); err != nil {
		return Chunk{}, fmt.Errorf("an event of the stream is not a completion: %s", bounds.Quote(err.Error()))
	}
	if len(event.Error) > 0 && string(event.Error) != "null" {
		return Chunk{}, fmt.Errorf("the engine ended the stream with an error: %s", bounds.Quote(string(event.Error)))
	}
	var c Chunk
	for _, choice := range event.Choices {
		c.Output = c.Output || choice.Text != ""
	}
	switch {
	case event.Usage != nil:
		c.Prompt, c.Tokens = event.Usage.Prompt, event.Usage.Output
	case event.Timings != nil:
		c.Prompt, c.Tokens = event.Timings.Prompt, event.Timings.Output
	}
	for _, n := range []int{c.Prompt, c.Tokens} {
		if n < 0 || n > bounds.Tokens {
			return Chunk{}, fmt.Errorf("%d tokens in a stream, want 0 to %d", n, bounds.Tokens)
		}
	}
	return c, nil
}
