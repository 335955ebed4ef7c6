package convert

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// quoting is how a line is divided into words.
type quoting struct {
	escapes  bool // backslashes as in C, in single quotes as well: systemd.syntax(7)
	comments bool // "#" at the beginning of a word begins a comment: a shell
}

var (
	asUnit  = quoting{escapes: true}
	asShell = quoting{comments: true}
)

var (
	errQuote  = errors.New("a quote is not closed")
	errEscape = errors.New("a backslash is followed by what is no escape")
)

// split divides a line into words.
func (q quoting) split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	begun, quote := false, rune(0)
	for i := 0; i < len(line); {
		c, size := utf8.DecodeRuneInString(line[i:])
		i += size
		switch {
		case c == '\\' && (quote != '\'' || q.escapes):
			text, n, err := q.escape(line[i:])
			if err != nil {
				return nil, err
			}
			word.WriteString(text)
			i += n
			begun = begun || text != ""
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '"' || c == '\'':
			quote, begun = c, true
		case strings.ContainsRune(" \t\r\n", c):
			if begun {
				words = append(words, word.String())
				word.Reset()
			}
			begun = false
		case c == '#' && q.comments && !begun:
			end := strings.IndexByte(line[i:], '\n')
			if end < 0 {
				return words, nil
			}
			i += end
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	if quote != 0 {
		return nil, errQuote
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}

// escape reads what follows a backslash, and returns its length.
func (q quoting) escape(rest string) (text string, n int, err error) {
	if rest == "" {
		return "", 0, errEscape
	}
	if !q.escapes {
		_, size := utf8.DecodeRuneInString(rest)
		if rest[0] == '\n' {
			return "", size, nil // the line goes on
		}
		return rest[:size], size, nil
	}
	if i := strings.IndexByte(`abfnrtvs\"'`, rest[0]); i >= 0 {
		return "\a\b\f\n\r\t\v \\\"'"[i : i+1], 1, nil
	}
	begin, digits, base := 1, map[byte]int{'x': 2, 'u': 4, 'U': 8}[rest[0]], 16
	if rest[0] >= '0' && rest[0] <= '7' {
		begin, digits, base = 0, 3, 8
	}
	if digits == 0 || len(rest) < begin+digits {
		return "", 0, errEscape
	}
	value, err := strconv.ParseUint(rest[begin:begin+digits], base, 32)
	if err != nil || value == 0 || !utf8.ValidRune(rune(value)) || digits < 4 && value > 127 {
		return "", 0, errEscape // a byte alone is no text
	}
	return string(rune(value)), begin + digits, nil
}
