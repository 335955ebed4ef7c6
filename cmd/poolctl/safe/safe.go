// Package safe makes text from elsewhere harmless for a terminal.
//
// Text in an answer may come from an engine (an error message, a version), from a file or from
// another caller. None of it may move the cursor, change the window's title or reorder the text.
package safe

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line makes text safe to print on one line of a terminal: control characters and those that change
// the direction of text become "?", line breaks a space.
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case Unsafe(r):
			return '?'
		}
		return r
	}, s)
}

// Text is Line for text of several lines.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && Unsafe(r) {
			return '?'
		}
		return r
	}, s)
}

// JSON escapes such characters, which valid JSON has in strings only. Those below U+0020 are
// escaped already.
func JSON(b []byte) []byte {
	if !strings.ContainsFunc(string(b), func(r rune) bool { return r != '\n' && Unsafe(r) }) {
		return b
	}
	out := make([]byte, 0, len(b)+16)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if Unsafe(r) && !strings.ContainsRune("\n\r\t", r) { // those three are JSON's own white space
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return out
}

// Unsafe reports whether r is a control character (C0, DEL, C1) or an invisible one that
// changes the order of text. All of them are below U+10000.
func Unsafe(r rune) bool {
	return unicode.IsControl(r) || r == utf8.RuneError ||
		r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2060 && r <= 0x206f || r == 0xfeff
}
