package strict

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ToBool reads true or false.
func ToBool[T any](field func(*T) *bool) Type[T] {
	const allowed = "true or false"
	return Type[T]{Name: "boolean", Allowed: allowed, Set: func(dst *T, v *Value, at At) {
		if v.Kind != Bool {
			at.Wrong(v, allowed, "Write it without quotes.")
			return
		}
		*field(dst) = v.Bool
	}}
}

// ToInt reads a whole number from low to high, both included.
func ToInt[T any, N int | uint64](low, high int64, field func(*T) *N) Type[T] {
	allowed := fmt.Sprintf("%d-%d", low, high)
	if low < 0 {
		allowed = fmt.Sprintf("%d to %d", low, high)
	}
	return Type[T]{Name: "integer", Allowed: allowed, Set: func(dst *T, v *Value, at At) {
		switch {
		case v.Kind != Integer:
			at.Wrong(v, "an integer, "+allowed, "")
		case v.Int < low || v.Int > high:
			at.Bad(v, allowed, "")
		default:
			*field(dst) = N(v.Int)
		}
	}}
}

// ToFloat reads a number from low to high, both included; a whole number will do.
func ToFloat[T any](low, high float64, field func(*T) *float64) Type[T] {
	allowed := fmt.Sprintf("%g-%g", low, high)
	return Type[T]{Name: "number", Allowed: allowed, Set: func(dst *T, v *Value, at At) {
		x, ok := Number(v)
		switch {
		case !ok:
			at.Wrong(v, "a number, "+allowed, "")
		case !(x >= low && x <= high): // a NaN is neither
			at.Bad(v, allowed, "")
		default:
			*field(dst) = x
		}
	}}
}

// Number returns a float or an integer as a float.
func Number(v *Value) (float64, bool) {
	switch v.Kind {
	case Float:
		return v.Float, true
	case Integer:
		return float64(v.Int), true
	}
	return 0, false
}

// ToDuration reads a duration with a unit, from low to high.
func ToDuration[T any](low, high time.Duration, field func(*T) *time.Duration) Type[T] {
	allowed := FormatDuration(low) + " to " + FormatDuration(high)
	return Type[T]{Name: "duration", Allowed: allowed, Set: func(dst *T, v *Value, at At) {
		if v.Kind == Integer || v.Kind == Float {
			at.Say(v, "is "+v.Describe()+" without a unit", "a duration, "+allowed,
				fmt.Sprintf(`Write the unit and quotes: "%ss" are seconds.`, v.Describe()))
			return
		}
		if v.Kind != String {
			at.Wrong(v, "a duration, "+allowed, "")
			return
		}
		d, err := ParseDuration(v.Str)
		switch {
		case errors.Is(err, errNoUnit):
			at.Say(v, "is "+v.Describe()+" without a unit", "a duration, "+allowed,
				fmt.Sprintf(`Write the unit: "%ss" are seconds.`, v.Str))
		case err != nil:
			at.Bad(v, "a duration, "+allowed, `Units are ms, s, m and h, as in "1.5s" or "1h30m".`)
		case d < low || d > high:
			at.Bad(v, allowed, "")
		default:
			*field(dst) = d
		}
	}}
}

// ToSize reads a size with a unit of base 1024, or bytes, from low to high.
func ToSize[T any](low, high uint64, field func(*T) *uint64) Type[T] {
	allowed := FormatSize(low) + " to " + FormatSize(high)
	return Type[T]{Name: "size", Allowed: allowed, Set: func(dst *T, v *Value, at At) {
		n, ok := uint64(0), false
		switch {
		case v.Kind == Integer && v.Int >= 0:
			n, ok = uint64(v.Int), true
		case v.Kind == String:
			var err error
			n, err = ParseSize(v.Str)
			ok = err == nil
		case v.Kind != Integer:
			at.Wrong(v, `a size such as "24G"`, "")
			return
		}
		switch {
		case !ok:
			at.Bad(v, `a size such as "24G"`,
				"Units are K, M, G and T (or KiB, …) of base 1024, behind a whole number; a plain number is bytes.")
		case n < low || n > high:
			at.Say(v, "is "+FormatSize(n), allowed,
				"Units are K, M, G and T of base 1024, in quotes; a plain number is bytes.")
		default:
			*field(dst) = n
		}
	}}
}

// ToString reads a text. check returns what is wrong with it ("has a blank"), "" where nothing is.
func ToString[T any](name, allowed string, check func(string) string, field func(*T) *string) Type[T] {
	return Type[T]{Name: name, Allowed: allowed, Set: func(dst *T, v *Value, at At) {
		if s, ok := Text(v, at, allowed, check); ok {
			*field(dst) = s
		}
	}}
}

// Text returns the text of a value, or reports what is wrong with it.
func Text(v *Value, at At, allowed string, check func(string) string) (string, bool) {
	if v.Kind != String {
		at.Wrong(v, allowed, "Write it in quotes.")
		return "", false
	}
	if wrong := check(v.Str); wrong != "" {
		at.Say(v, "is "+v.Describe()+", which "+wrong, allowed, "")
		return "", false
	}
	return v.Str, true
}

// ToWord reads one of a few words.
func ToWord[T any](words []string, field func(*T) *string) Type[T] {
	allowed := OneOf(words)
	return Type[T]{Name: "string", Allowed: allowed, Set: func(dst *T, v *Value, at At) {
		switch {
		case v.Kind != String:
			at.Wrong(v, allowed, "Write it in quotes.")
		case !slices.Contains(words, v.Str):
			hint := ""
			if near := suggest(words, "", v.Str); near != "" {
				hint = fmt.Sprintf("Did you mean %q?", near)
			}
			at.Bad(v, allowed, hint)
		default:
			*field(dst) = v.Str
		}
	}}
}

// OneOf lists words in quotes for a message: "a", "b" or "c".
func OneOf(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = `"` + w + `"`
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}

// ToList reads a list of texts. check is as in ToString, for each of them.
func ToList[T any](allowed string, check func(string) string, field func(*T) *[]string) Type[T] {
	return listOf(allowed, func(v *Value, at At) (string, bool) { return Text(v, at, allowed, check) }, field)
}

// ToURLs reads a list of URLs as ToURL does one. check is as in ToString, for each of them.
func ToURLs[T any](allowed string, check func(string) string, field func(*T) *[]string) Type[T] {
	return listOf(allowed, func(v *Value, at At) (string, bool) {
		if _, ok := webAddress(v, at, allowed); !ok {
			return "", false
		}
		return Text(v, at, allowed, check)
	}, field)
}

func listOf[T any](allowed string, read func(*Value, At) (string, bool), field func(*T) *[]string) Type[T] {
	return Type[T]{Name: "list of strings", Allowed: allowed, Set: func(dst *T, v *Value, at At) {
		if v.Kind != Array {
			at.Wrong(v, "a list: "+allowed, "Put it in square brackets.")
			return
		}
		list, good := make([]string, 0, len(v.Items)), true
		for i, item := range v.Items {
			s, ok := read(item, at.Item(i))
			list, good = append(list, s), good && ok
		}
		if good {
			*field(dst) = list
		}
	}}
}

// Any is the check of a text that may be anything without NUL, which no argument of a program can
// have.
func Any(s string) string {
	if strings.ContainsRune(s, 0) {
		return "has a NUL character"
	}
	return ""
}

// OneLine is the check of a text without control characters.
func OneLine(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "has a control character"
	}
	return ""
}

// Absolute is the check of an absolute path.
func Absolute(s string) string {
	if wrong := OneLine(s); wrong != "" {
		return wrong
	}
	if !strings.HasPrefix(s, "/") {
		return "is not an absolute path"
	}
	return ""
}

// ToURL reads a URL for HTTP. Credentials are refused, since other users may read the file, and the
// message does not repeat them.
func ToURL[T any](field func(*T) *string) Type[T] {
	const allowed = "a URL without credentials, http:// or https://"
	return Type[T]{Name: "URL", Allowed: allowed, Set: func(dst *T, v *Value, at At) {
		if s, ok := webAddress(v, at, allowed); ok {
			*field(dst) = s
		}
	}}
}

// webAddress returns the URL of a value, or reports what is wrong with it.
func webAddress(v *Value, at At, allowed string) (string, bool) {
	if v.Kind != String {
		at.Wrong(v, allowed, "Write it in quotes.")
		return "", false
	}
	u, err := url.Parse(v.Str)
	switch {
	case err == nil && u.User != nil:
		at.Say(v, "has credentials", allowed, "Remove everything before the @.")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		at.Say(v, "is not an HTTP URL", allowed, "")
	default:
		return v.Str, true
	}
	return "", false
}
