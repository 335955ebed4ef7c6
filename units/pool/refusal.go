package pool

import (
	"fmt"
	"strings"
)

// Refusal is one key of a pool that its engine or its unit cannot take.
type Refusal struct {
	Key     string // as problems name it: "args[1]", "env.HOME", "model"
	Message string // what is wrong, with the key in it
	Hint    string // what to do, a sentence
}

// Refuse returns a refusal; format and args are its message.
func Refuse(key, hint, format string, args ...any) Refusal {
	return Refusal{Key: key, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// Base returns the key without the number of an item: "args" of "args[1]".
func (r Refusal) Base() string {
	base, _, _ := strings.Cut(r.Key, "[")
	return base
}

// Item returns the number of the item, -1 if the key is not of a list.
func (r Refusal) Item() int {
	n := -1
	if _, rest, found := strings.Cut(r.Key, "["); found {
		if _, err := fmt.Sscanf(rest, "%d]", &n); err != nil {
			return -1
		}
	}
	return n
}
