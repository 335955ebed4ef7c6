package classify

import (
	"regexp"
	"strings"
)

// Grep is a PCRE pattern for journalctl --grep that matches every line that Kernel, EngineLog,
// Retried or Fallback take, and few others. It has capital letters nowhere that matter: (?i) makes
// it independent of case, whichever way journalctl would choose by itself.
func Grep() string {
	parts := []string{`NVRM:`, `SXid \(`, regexp.QuoteMeta(retryPhrase)}
	for _, p := range enginePhrases {
		parts = append(parts, regexp.QuoteMeta(p.phrase))
	}
	for _, r := range fallbackRows {
		parts = append(parts, strings.TrimPrefix(r.pattern.String(), "(?i)"))
	}
	return "(?i)(?:" + strings.Join(parts, "|") + ")"
}
