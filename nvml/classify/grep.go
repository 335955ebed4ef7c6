package classify

import (
	"regexp"
	"slices"
	"strings"
)

// Grep returns a PCRE pattern for journalctl --grep that matches every line that Kernel, EngineLog
// or Retried recognise, and few others. It begins with (?i), since journalctl would otherwise
// choose case sensitivity by itself.
func Grep() string {
	parts := append(slices.Clone(kernelStarts), regexp.QuoteMeta(retryPhrase))
	for _, p := range enginePhrases {
		parts = append(parts, regexp.QuoteMeta(p.phrase))
	}
	return "(?i)(?:" + strings.Join(parts, "|") + ")"
}
