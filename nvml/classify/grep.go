package classify

import (
	"regexp"
	"strings"
)

// Grep is a PCRE pattern for journalctl --grep that matches every line that Kernel, EngineLog or
// Retried take, and few others. It begins with (?i), so that journalctl does not choose by itself
// whether case matters.
func Grep() string {
	parts := []string{`NVRM:`, `SXid \(`, regexp.QuoteMeta(retryPhrase)}
	for _, p := range enginePhrases {
		parts = append(parts, regexp.QuoteMeta(p.phrase))
	}
	return "(?i)(?:" + strings.Join(parts, "|") + ")"
}
