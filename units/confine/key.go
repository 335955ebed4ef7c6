package confine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// apiKey refuses a key that the engine cannot be given, and a second one beside it.
func apiKey(p pool.Pool, a engine.Adapter) []pool.Refusal {
	if p.APIKeyFile == "" {
		return nil
	}
	by := a.APIKey()
	if !by.File && by.Variable == "" {
		return []pool.Refusal{pool.Refuse("api_key_file",
			"Remove it, and let a proxy in front of the engine check the key.",
			"api_key_file is set, and engine %q cannot be given a key that stays secret", p.Engine)}
	}
	const one = "Remove it: the key in api_key_file is the only one."
	var refused []pool.Refusal
	for i, arg := range p.Args {
		name, _, _ := strings.Cut(arg, "=")
		if strings.HasPrefix(name, "--") {
			name = strings.ReplaceAll(name, "_", "-")
		}
		if slices.ContainsFunc(by.Others, func(other string) bool { return isOption(name, other) }) {
			refused = append(refused, pool.Refuse(fmt.Sprintf("args[%d]", i), one,
				"args[%d] is %s beside api_key_file", i, name))
		}
	}
	for _, name := range by.Others {
		if _, set := p.Variables()[name]; set {
			key, where := p.Variable(name)
			refused = append(refused, pool.Refuse(key, one, "%s holds %s beside api_key_file", where, name))
		}
	}
	return refused
}

// isOption reports whether a name is an option, or the beginning of it that parsers take for it.
func isOption(name, option string) bool {
	return name == option || len(name) > len("--api") && strings.HasPrefix(option, name)
}
