package programs

import (
	"path"
	"slices"
	"strings"
)

// word is a word of a shell script after expansion.
type word struct {
	text  string
	known bool // its text is what the shell would have
	bare  bool // without quotes or expansions, as reserved words are
}

// words splits a shell script into words and operators. It knows quotes, comments, and the
// expansions that wrapper scripts use to find their own folder and to extend a search path; what it
// does not know makes a word unknown, and never an error.
type words struct {
	src  string
	at   int
	look func(name string) (value string, known bool) // a variable
	self string                                       // $0
	real string                                       // $0 without links

	depth int // of expansions inside of expansions
}

const operators = ";&|()<>\n"

// next returns the next word, or an operator; "" and no word at the end.
func (w *words) next() (operator string, next word, more bool) {
	w.blank()
	if w.at >= len(w.src) {
		return "", word{}, false
	}
	if c := w.src[w.at]; strings.IndexByte(operators, c) >= 0 {
		n := 1
		for w.at+n < len(w.src) && w.src[w.at+n] == c && c != '\n' && n < 3 {
			n++
		}
		operator = w.src[w.at : w.at+n]
		w.at += n
		return operator, word{}, true
	}
	ends := func(c byte) bool { return strings.IndexByte(" \t\r"+operators, c) >= 0 }
	return "", w.word(ends), true
}

// blank skips blanks, comments and continued lines.
func (w *words) blank() {
	for w.at < len(w.src) {
		switch c := w.src[w.at]; {
		case c == ' ', c == '\t', c == '\r':
			w.at++
		case c == '\\' && strings.HasPrefix(w.src[w.at:], "\\\n"):
			w.at += 2
		case c == '#':
			end := strings.IndexByte(w.src[w.at:], '\n')
			if end < 0 {
				end = len(w.src) - w.at
			}
			w.at += end
		default:
			return
		}
	}
}

// word reads up to the first character that ends it, which stays unread.
func (w *words) word(ends func(byte) bool) word {
	var b strings.Builder
	out := word{known: true, bare: true}
	for w.at < len(w.src) && !ends(w.src[w.at]) {
		switch c := w.src[w.at]; c {
		case '\'':
			out.bare = false
			b.WriteString(w.until('\''))
		case '"':
			out.bare = false
			w.at++
			quoted := w.quoted()
			b.WriteString(quoted.text)
			out.known = out.known && quoted.known
		case '\\':
			w.at++
			if w.at < len(w.src) && w.src[w.at] != '\n' {
				b.WriteByte(w.src[w.at])
			}
			w.at++
		case '$', '`':
			out.bare = false
			text, known := w.expansion()
			b.WriteString(text)
			out.known = out.known && known
		default:
			b.WriteByte(c)
			w.at++
		}
		if b.Len() > maxValue {
			out.known = false
			b.Reset()
		}
	}
	w.at = min(w.at, len(w.src))
	out.text = b.String()
	return out
}

// until reads a text in single quotes.
func (w *words) until(end byte) string {
	w.at++
	n := strings.IndexByte(w.src[w.at:], end)
	if n < 0 {
		n = len(w.src) - w.at
	}
	text := w.src[w.at : w.at+n]
	w.at += n + 1
	return text
}

// quoted reads a text in double quotes, after the first.
func (w *words) quoted() word {
	var b strings.Builder
	out := word{known: true}
	for w.at < len(w.src) {
		switch c := w.src[w.at]; c {
		case '"':
			w.at++
			out.text = b.String()
			return out
		case '\\':
			w.at++
			if w.at < len(w.src) {
				b.WriteByte(w.src[w.at])
			}
			w.at++
		case '$', '`':
			text, known := w.expansion()
			b.WriteString(text)
			out.known = out.known && known
		default:
			b.WriteByte(c)
			w.at++
		}
	}
	out.text = b.String()
	return out
}

// expansion reads what follows a $, or a command in backquotes.
func (w *words) expansion() (string, bool) {
	rest := w.src[w.at:]
	switch {
	case rest[0] == '`':
		return w.substitution(w.until('`'))
	case strings.HasPrefix(rest, "$("):
		w.at += 2
		return w.substitution(w.balanced('(', ')'))
	case strings.HasPrefix(rest, "${"):
		w.at += 2
		return w.parameter(w.balanced('{', '}'))
	}
	w.at++
	n := 0
	for n+1 < len(rest) && isName(rest[n+1], n) {
		n++
	}
	if n == 0 {
		if len(rest) > 1 && strings.IndexByte("0123456789@*#?$!-", rest[1]) >= 0 {
			w.at++
			return w.parameter(rest[1:2])
		}
		return "$", true
	}
	w.at += n
	return w.parameter(rest[1 : n+1])
}

func isName(c byte, at int) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || at > 0 && c >= '0' && c <= '9'
}

// balanced reads up to the closing character that belongs to an opening one that was read.
func (w *words) balanced(opening, closing byte) string {
	start, depth := w.at, 1
	for ; w.at < len(w.src); w.at++ {
		switch w.src[w.at] {
		case opening:
			depth++
		case closing:
			if depth--; depth == 0 {
				w.at++
				return w.src[start : w.at-1]
			}
		case '\\':
			w.at++
		}
	}
	w.at = min(w.at, len(w.src))
	return w.src[start:w.at]
}

// parameter expands what is between the braces of ${…}.
func (w *words) parameter(inner string) (string, bool) {
	n := 0
	for n < len(inner) && isName(inner[n], n) {
		n++
	}
	name, rest := inner[:n], inner[n:]
	switch {
	case inner == "0", strings.HasPrefix(inner, "BASH_SOURCE"):
		return w.self, true
	case inner == "0%/*":
		return path.Dir(w.self), true
	case n == 0:
		return "", false
	}
	value, known := w.look(name)
	if rest == "" || !known {
		return value, known
	}
	if rest = strings.TrimPrefix(rest, ":"); rest == "" {
		return "", false
	}
	switch set := value != ""; rest[0] {
	case '+':
		if !set {
			return "", true
		}
		return w.inside(rest[1:])
	case '-', '=':
		if set {
			return value, true
		}
		return w.inside(rest[1:])
	}
	return "", false
}

// inside expands a part of the script by itself.
func (w *words) inside(src string) (string, bool) {
	if w.depth == maxNesting {
		return "", false
	}
	part := words{src: src, look: w.look, self: w.self, real: w.real, depth: w.depth + 1}
	got := part.word(func(byte) bool { return false })
	return got.text, got.known
}

// substitution guesses the output of a command that finds the folder of the script itself, in the
// forms that scripts use: dirname of $0 or of BASH_SOURCE, with readlink -f or realpath, and with
// "/.." behind it.
func (w *words) substitution(command string) (string, bool) {
	has := func(any ...string) bool {
		return slices.ContainsFunc(any, func(s string) bool { return strings.Contains(command, s) })
	}
	if !has("$0", "${0", "BASH_SOURCE") {
		return "", false
	}
	at := w.self
	if has("readlink -f", "realpath", "pwd -P") {
		at = w.real
	}
	switch {
	case has("dirname", "%/*"):
		return path.Join(path.Dir(at), strings.Repeat("../", min(strings.Count(command, "/.."), maxHops))), true
	case at == w.real:
		return at, true
	}
	return "", false
}
