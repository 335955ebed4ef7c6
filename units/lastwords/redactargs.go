package lastwords

import "strings"

// RedactArgs replaces what looks like a secret in a command line's arguments, also the value of an
// option whose name indicates a secret. Like Redact it is not a guarantee.
func RedactArgs(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		out[i] = Redact(arg)
		if name, _, inline := strings.Cut(arg, "="); inline && shortened(name) {
			out[i] = name + "=" + hidden
		}
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
	return option && (shortened(arg) || strings.HasSuffix(Redact(arg+" value"), hidden))
}

// shortened reports whether an option is the beginning of one that takes a secret: the parsers of
// Python's engines accept --api-ke for --api-key. What is too short for them hides a value too
// many.
func shortened(option string) bool {
	option = strings.ReplaceAll(option, "_", "-")
	for _, whole := range []string{"--api-key", "--admin-api-key", "--hf-token", "--password", "--auth-token"} {
		if len(option) >= len("--hf-t") && len(option) < len(whole) && strings.HasPrefix(whole, option) {
			return true
		}
	}
	return false
}
