package engine

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Generation returns the request for one token, and the function that reads its answer. An engine
// that serves embeddings or ranks alone is asked for one of those: a completion would be an error
// there, which says nothing about its health. The pool's settings override the adapter's. path is
// empty if there is none.
func Generation(a Adapter, p pool.Pool) (path string, body []byte, read func([]byte) error) {
	if p.Health.GeneratePath != "" && p.Health.GenerateBody != "" {
		return p.Health.GeneratePath, []byte(p.Health.GenerateBody), hasAnything
	}
	if works := a.Workloads(p); len(works) == 1 {
		switch works[0] {
		case WorkEmbedding:
			return below(a, "/v1/embeddings"), requestBody(p, map[string]any{"input": "a"}), hasOneOf("data")
		case WorkRerank:
			return below(a, "/v1/rerank"), requestBody(p, map[string]any{"query": "a", "documents": []string{"a"}}),
				hasOneOf("results")
		}
	}
	return a.GeneratePath(), a.GenerateBody(p), a.Generated
}

// below returns a path of OpenAI's or Jina's API as the engine serves it.
func below(a Adapter, path string) string {
	if moved, ok := a.(prefixed); ok {
		return moved.path(path)
	}
	return path
}

// requestBody is a request that names the model.
func requestBody(p pool.Pool, members map[string]any) []byte {
	members["model"] = servedName(p)
	body, _ := json.Marshal(members)
	return body // of strings: no error
}

func hasAnything(body []byte) error {
	if len(body) == 0 {
		return errors.New("the answer to a generation is empty")
	}
	return nil
}

// hasField requires a field of an object; a token may be an empty text.
func hasField(body []byte, field string) error {
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil || object[field] == nil {
		return fmt.Errorf("the answer to a generation has no %s", field)
	}
	return nil
}

// hasOneOf returns a function that requires a list with at least one element.
func hasOneOf(field string) func([]byte) error {
	return func(body []byte) error {
		var object map[string]json.RawMessage
		var list []json.RawMessage
		if json.Unmarshal(body, &object) != nil || json.Unmarshal(object[field], &list) != nil || len(list) == 0 {
			return fmt.Errorf("the answer to a generation has no %s", field)
		}
		return nil
	}
}

// hasChoice requires a choice in the format of OpenAI's completions.
func hasChoice(body []byte) error { return hasOneOf("choices")(body) }

// completionBody asks for one token in the format of OpenAI's completions.
func completionBody(model string) []byte {
	body, _ := json.Marshal(map[string]any{"model": model, "prompt": "a", "max_tokens": 1, "temperature": 0})
	return body // of strings and numbers: no error
}
