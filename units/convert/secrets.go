package convert

import (
	"regexp"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/lastwords"
)

// secretName matches the name of an option or a variable whose value is a secret.
var secretName = regexp.MustCompile(`(?i)(?:^|[-_])(?:auth)?(?:token|secret|passw(?:or)?d|passphrase|api[-_]?key|` +
	`access[-_]?key|private[-_]?key|credentials?)$`)

// secretive reports whether a value is, or looks like, a secret.
func secretive(name, value string) bool {
	value = strings.TrimSpace(value)
	return value != "" && (secretName.MatchString(name) || lastwords.Redact(value) != value)
}
