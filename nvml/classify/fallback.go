package classify

import (
	"regexp"
	"strings"
)

// Fallback is a log line which shows that an engine runs, or is about to run, without its GPU.
type Fallback struct {
	Pattern *regexp.Regexp
	Why     string // a clause
}

// OnCPU reports whether a line of an engine's log is one of its fallbacks, and why. A line that
// quotes a caller's text is ignored.
func OnCPU(fallbacks []Fallback, line string) (why string, ok bool) {
	if quotes(strings.ToLower(line)) {
		return "", false
	}
	for _, f := range fallbacks {
		if f.Pattern.MatchString(line) {
			return f.Why, true
		}
	}
	return "", false
}
