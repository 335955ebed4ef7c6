package engine

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Generation returns the request for one token, and the function that reads its answer. The pool's
// settings override the adapter's. path is empty if there is none.
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

// hasField requires a field of an object; a token may be an empty text.
func hasField(body []byte, field string) error {
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil || object[field] == nil {
		return fmt.Errorf("the answer to a generation has no %s", field)
	}
	return nil
}

// hasChoice requires a choice in the format of OpenAI's completions.
func hasChoice(body []byte) error {
	var object struct {
		Choices []json.RawMessage `json:"choices"`
	}
	if json.Unmarshal(body, &object) != nil || len(object.Choices) == 0 {
		return errors.New("the answer to a generation has no choices")
	}
	return nil
}

// completionBody asks for one token in the format of OpenAI's completions.
func completionBody(model string) []byte {
	body, _ := json.Marshal(map[string]any{"model": model, "prompt": "a", "max_tokens": 1, "temperature": 0})
	return body // of strings and numbers: no error
}
