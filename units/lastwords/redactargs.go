package lastwords

import "strings"

// RedactArgs replaces what looks like a secret in a command line's arguments, also the value of an
// option whose name indicates a secret. Like Redact it is not a guarantee.
func RedactArgs(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		out[i] = Redact(arg)
		if i > 0 && takesSecret(args[i-1]) && !strings.HasPrefix(arg, "-") && !number().MatchString(arg) {
			out[i] = hidden
		}
	}
	return out
}

// takesSecret reports whether an argument is an option that is followed by a secret. --tokenizer is
// not.
func takesSecret(arg string) bool {
	option := strings.HasPrefix(arg, "-") && !strings.ContainsAny(arg, "= ") && !strings.Contains(arg, "tokenizer")
	return option && strings.HasSuffix(Redact(arg+" value"), hidden)
}
