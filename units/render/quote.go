package render

import (
	"fmt"
	"strings"
)

// escapeSpecifiers doubles "%", which starts a specifier in most settings (systemd.unit(5)).
func escapeSpecifiers(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// word writes one argument or assignment so that the unit file's own splitting gives it back
// unchanged: in double quotes with C escapes where it holds anything unusual (systemd.syntax(7),
// "Quoting"). "$" needs nothing: command lines carry the ":" prefix, other settings know no
// variables.
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
