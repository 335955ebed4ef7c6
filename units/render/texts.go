package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// managedVariables may not stand in a pool's env: two values for one thing.
var managedVariables = map[string]string{
	envVisible:     "set the key devices",
	envDeviceOrder: "leave it out: devices are numbered by PCI bus",
	envHome:        "leave it out: the engine's home is its state directory",
	envCache:       "leave it out: the engine has a cache directory of its own",
}

// checkTexts refuses arguments and variables that the bus or PID 1 would refuse with a message that
// does not name the key.
func checkTexts(p pool.Pool) error {
	if oneWord(string(p.Model)) != string(p.Model) {
		return textFailure(p, fmt.Sprintf("model %q holds a space, a quote, a backslash or a control character: "+
			"such a name is lost from the unit at the next daemon-reload", p.Model), "Rename the file or directory.")
	}
	for i, arg := range p.Args {
		if why := unfit(arg); why != "" {
			return textFailure(p, fmt.Sprintf("args[%d] %s", i, why), "Correct args.")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.Env)) {
		if !variableName(key) {
			return textFailure(p, fmt.Sprintf("env key %q is no name of a variable", key), "Use letters, digits and underscores, no digit first.")
		}
		if instead, ok := managedVariables[key]; ok {
			return textFailure(p, fmt.Sprintf("env holds %s, which pool-managerd sets itself", key), "Remove it from env and "+instead+".")
		}
		if why := unfit(p.Env[key]); why != "" {
			return textFailure(p, fmt.Sprintf("env %s %s", key, why), "Correct env.")
		}
	}
	if path := p.Health.Path; path != "" && (path[0] != '/' || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f })) {
		return textFailure(p, fmt.Sprintf("health.path %q is no path of a URL", path), "Begin it with a slash and leave out spaces.")
	}
	return nil
}

// unfit says why a text cannot go over the bus.
func unfit(s string) string {
	switch {
	case !utf8.ValidString(s):
		return "is not UTF-8"
	case strings.ContainsRune(s, 0):
		return "holds a NUL character"
	}
	return ""
}

func variableName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func textFailure(p pool.Pool, message, hint string) error {
	if p.Source != "" {
		hint += " The file is " + p.Source + "."
	}
	return registry.Fail(registry.CodeConfigInvalid, message, hint)
}
