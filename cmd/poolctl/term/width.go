package term

import (
	"strings"
	"unicode"
)

// Width is how many columns text takes. Where a terminal thinks otherwise of a rare character, the
// rest of that line is shifted, and no other line.
func Width(text string) int {
	n := 0
	for _, r := range text {
		n += columns(r)
	}
	return n
}

// columns is the width of one character: 0 of those that combine with the one before, and 2 of
// those that Unicode's East Asian Width calls wide.
func columns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana),
		r >= 0x3000 && r <= 0x303e, r >= 0xff01 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6,
		r >= 0x1f300 && r <= 0x1f64f, r >= 0x1f680 && r <= 0x1f6ff, r >= 0x1f900 && r <= 0x1f9ff:
		return 2
	}
	return 1
}

// Cut shortens text to at most n columns; a cut is shown by a "~" at its end.
func Cut(text string, n int) string {
	if n <= 0 {
		return ""
	}
	if len(text) <= n || Width(text) <= n {
		return text
	}
	return text[:fit(text, n-1)] + "~"
}

// fit returns how many bytes of text are in its first n columns.
func fit(text string, n int) int {
	used := 0
	for i, r := range text {
		if used += columns(r); used > n {
			return i
		}
	}
	return len(text)
}

// Left is text in n columns, cut or filled on its right.
func Left(text string, n int) string {
	text = Cut(text, n)
	return text + strings.Repeat(" ", max(0, n-Width(text)))
}

// Right is text in n columns, cut or filled on its left.
func Right(text string, n int) string {
	text = Cut(text, n)
	return strings.Repeat(" ", max(0, n-Width(text))) + text
}

// Wrap breaks text into lines of at most n columns, between words where it can.
func Wrap(text string, n int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		for Width(word) > n {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			end := max(fit(word, n), 1)
			lines, word = append(lines, word[:end]), word[end:]
		}
		switch {
		case line == "":
			line = word
		case Width(line)+1+Width(word) <= n:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
