package render

import (
	"fmt"
	"strings"
)

// escapeSpecifiers doubles "%", which starts a specifier in most settings (systemd.unit(5)).
func escapeSpecifiers(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// word quotes one argument or assignment for a unit file: in double quotes with C escapes if it has
// unusual characters (systemd.syntax(7), "Quoting"). "$" needs no escape: command lines have the
// ":" prefix, and other settings do not expand variables.
func word(s string) string {
	if s != "" && strings.Trim(s, plainCharacters) == "" {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '%':
			b.WriteString("%%")
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// plainCharacters need no quotes anywhere in a unit file.
const plainCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=+,@{}-"
