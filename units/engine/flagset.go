package engine

import (
	"slices"
	"strconv"
	"strings"
)

// flagSet reads an engine's command line as its own parser does: the last of several wins,
// "--flag=value" is "--flag value", and a variable of the environment counts where no flag is
// given.
type flagSet struct {
	args   []string
	env    map[string]string
	syntax flagSyntax
}

// value returns what follows the last of the spellings, or the variable's value; ok is false where
// there is neither.
func (f flagSet) value(variable string, spellings ...string) (value string, ok bool) {
	value, ok = f.env[variable]
	for i, arg := range f.args {
		name := f.name(arg)
		if f.syntax.means(name, spellings...) == "" {
			continue
		}
		inline, has := f.syntax.inline(arg, name)
		switch {
		case has:
			value, ok = inline, true
		case i+1 < len(f.args):
			value, ok = f.args[i+1], true
		default:
			value, ok = "", true
		}
	}
	return value, ok
}

// name is the flag in an argument, "" where it is none or none that the parser knows.
func (f flagSet) name(arg string) string {
	if f.syntax.NoEquals && strings.Contains(arg, "=") {
		return ""
	}
	return f.syntax.name(arg)
}

// given reports whether one of the spellings is on the command line, or the variable is set to
// something true.
func (f flagSet) given(variable string, spellings ...string) bool {
	if v, ok := f.env[variable]; ok && variable != "" && !isFalse(v) {
		return true
	}
	return f.syntax.has(f.args, spellings...)
}

// integer returns a whole number from 0 to limit; ok is false where none is given, or something
// else is.
func (f flagSet) integer(limit int, variable string, spellings ...string) (n int, ok bool) {
	text, ok := f.value(variable, spellings...)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, false
	}
	return min(n, limit), true
}

// share returns a number above 0 and at most 1, or fallback.
func (f flagSet) share(fallback float64, variable string, spellings ...string) float64 {
	text, ok := f.value(variable, spellings...)
	if !ok {
		return fallback
	}
	if v, err := strconv.ParseFloat(text, 64); err == nil && v > 0 && v <= 1 {
		return v
	}
	return fallback
}

// isFalse reports whether llama.cpp reads a value as false (common/arg.cpp, is_falsey).
func isFalse(v string) bool { return slices.Contains([]string{"off", "disabled", "false", "0"}, v) }

// positive sets n to the whole number above zero that is given, at most limit.
func (f flagSet) positive(n *int, limit int, variable string, spellings ...string) {
	if v, ok := f.integer(limit, variable, spellings...); ok && v > 0 {
		*n = v
	}
}
