package lastwords

import "strings"

// RedactArgs returns a command line's arguments without what looks like a secret: in an argument of
// its own, and as the value of an option whose name says that it takes one. Like Redact it is a net
// and no promise.
func RedactArgs(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		out[i] = Redact(arg)
		if i > 0 && takesSecret(args[i-1]) && !strings.HasPrefix(arg, "-") && !number.MatchString(arg) {
			out[i] = hidden
		}
	}
	return out
}

// takesSecret reports whether an argument is an option that is followed by a secret. A tokenizer is
// none.
func takesSecret(arg string) bool {
	option := strings.HasPrefix(arg, "-") && !strings.ContainsAny(arg, "= ") && !strings.Contains(arg, "tokenizer")
	return option && strings.HasSuffix(Redact(arg+" value"), hidden)
}
